"""`python -m common.audit verify FILE`: an auditor needs the file, this one module, and nothing of ours that runs."""

import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common import audit
from common.audit import BROKEN, GENESIS, HOLDS, UNUSABLE
from tests.audit.chains import AT, SIGNER, Chain, Document, Signer, anchor, checkpoint, event, nulled, point, sample
from tests.audit.chains import written as as_file
from tests.conftest import CHECKOUT

KEYS = {"keys": {SIGNER.kid: SIGNER.public}}
STRANGER = Signer("k2")


class Desk:
    """Runs the command on lines; keeps what it printed."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.out = self.err = ""

    def verify(self, content: bytes | list[Any], *more: str, **files: Any) -> int:
        """The exit code; `files` are options whose value is a JSON document."""
        path = self.folder / "export.ndjson"
        path.write_bytes(content if isinstance(content, bytes) else as_file(content))
        arguments = ["verify", str(path), *more]
        for name, document in files.items():
            given = self.folder / f"{name}.json"
            given.write_text(document if isinstance(document, str) else json.dumps(document))
            arguments += [f"--{name}", str(given)]
        code = audit.main(arguments)
        self.out, self.err = self._capsys.readouterr()
        return code

    def broken(self, content: bytes | list[Any], *more: str, **files: Any) -> int | None:
        """The seq that is said to be broken."""
        code = self.verify(content, *more, **files)
        assert (code == BROKEN) is ("broken at seq" in self.out), (code, self.out, self.err)
        return int(self.out.split("broken at seq ")[1].split(":")[0]) if code == BROKEN else None


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


@pytest.mark.parametrize("base", [0, 7])
def test_it_works(desk: Desk, base: int) -> None:
    chain = sample(base)

    assert desk.verify(chain.lines()) == HOLDS
    assert f"{len(chain.events)} events checked, to {chain.head[0]}:{chain.head[1]}\nthe chain holds\n" in desk.out
    assert audit.fingerprint(SIGNER.public) in desk.out
    assert "--keys" in desk.out

    assert desk.verify(chain.lines(), keys=KEYS) == HOLDS
    assert "--keys" not in desk.out
    assert desk.verify(chain.lines(), keys=KEYS["keys"]) == HOLDS


def test_a_copy_of_the_one_file_suffices(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "common" / "audit.py", tmp_path / "audit.py")
    (tmp_path / "export.ndjson").write_bytes(as_file(sample().lines()))
    (tmp_path / "cut.ndjson").write_bytes(as_file(sample().events))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    alone = run("-I", "audit.py", "verify", "export.ndjson")
    assert (alone.returncode, alone.stderr) == (HOLDS, ""), alone.stderr
    assert run("-I", "audit.py", "verify", "cut.ndjson").returncode == BROKEN
    without = run("-I", "-S", "audit.py", "verify", "export.ndjson")  # no packages at all
    assert (without.returncode, without.stdout) == (UNUSABLE, "")
    assert without.stderr == "this needs the package cryptography: pip install cryptography\n"
    for wrong in ([], ["verify"], ["check", "export.ndjson"], ["verify", "export.ndjson", "--after", "7"]):
        usage = run("-I", "audit.py", *wrong)
        assert usage.returncode == UNUSABLE
        assert usage.stderr.startswith("usage: ")


@pytest.mark.parametrize("base", [0, 7])
def test_every_change_is_found(desk: Desk, base: int) -> None:
    chain = sample(base)
    lines, first = chain.lines(), base + 1

    def changed(place: int, **fields: Any) -> list[Any]:
        return [*lines[:place], {**lines[place], **fields}, *lines[place + 1 :]]

    for place in (0, 4, len(chain.events) - 1):
        seq = first + place
        assert desk.broken(changed(place, outcome="denied")) == seq
        assert desk.broken(changed(place, prev_hash="0" * 63 + "1")) == seq
        assert desk.broken(changed(place, personal={"ip": None, "user_agent": None})) == seq
        assert desk.broken([*lines[:place], *lines[place + 1 :]]) == seq
        assert desk.broken([*lines[: place + 1], *lines[place:]]) == seq
        assert desk.broken([*lines[:place], "no event", *lines[place + 1 :]]) == seq
    assert desk.broken([lines[1], lines[0], *lines[2:]]) == first
    assert desk.broken([*chain.events, event(chain.head[0] + 1, chain.head[1]), lines[-1]]) == chain.head[0] + 1
    assert desk.broken([*lines[:-3], lines[-1]]) == chain.head[0] - 1  # a cut tail, with the statement of the whole
    assert desk.broken(changed(0, personal=None, personal_salt=None)) == first


def test_a_file_without_its_end_was_cut(desk: Desk) -> None:
    chain = sample()
    assert desk.broken(chain.events) == chain.head[0] + 1
    assert desk.broken(chain.events[:4]) == 5
    assert desk.broken(b"") == 1
    assert desk.broken([]) == 1
    assert desk.broken(as_file(chain.lines())[:-20]) == chain.head[0] + 1
    assert desk.broken([*chain.lines(), *chain.events[:1]]) == chain.head[0] + 1  # something follows the end
    assert desk.broken([*chain.events[:4], chain.statement(), *chain.events[4:], chain.statement()]) == 5


def test_every_word_of_the_statement_counts(desk: Desk) -> None:
    for chain in (sample(), sample(7)):
        whole = chain.statement()
        for name in whole:
            for value in (None, "", 0, "x", {}, {"seq": 1}, {**point(3, GENESIS)}):
                if value != whole[name]:
                    assert desk.broken([*chain.events, {**whole, name: value}]) == chain.head[0] + 1, name
            less = {key: value for key, value in whole.items() if key != name}
            assert desk.broken([*chain.events, less]) == chain.head[0] + 1, name
        assert desk.broken([*chain.events, {**whole, "more": 1}]) == chain.head[0] + 1
        assert desk.broken([*chain.events, anchor(*chain.head)]) == chain.head[0] + 1  # another kind of document
    chain = sample()
    assert desk.broken(chain.lines(head=point(*chain.base))) == 1  # signed, but of another moment
    assert desk.verify(chain.lines(base=None)) == UNUSABLE
    assert "another form" in desk.err
    assert desk.verify(chain.lines(anchored=point(4, chain.events[3]["hash"]) | {"at": AT})) == HOLDS
    assert desk.broken(chain.lines(anchored=point(4, GENESIS) | {"at": AT})) == 4
    assert desk.broken(chain.lines(anchored=point(40, GENESIS) | {"at": AT})) == chain.head[0] + 1


def test_only_trusted_keys_count(desk: Desk) -> None:
    """Who rewrites everything signs with a key of their own, and puts it into the statement."""
    chain = sample()
    forged = chain.lines(signer=STRANGER)
    assert desk.verify(forged) == HOLDS
    assert audit.fingerprint(STRANGER.public) in desk.out
    assert desk.broken(forged, keys=KEYS) == chain.head[0] + 1
    borrowed = STRANGER.sign({**chain.statement(), "keys": KEYS["keys"]})
    assert desk.broken([*chain.events, borrowed]) == chain.head[0] + 1
    assert desk.broken([*chain.events, {**borrowed, "key_id": SIGNER.kid}], keys=KEYS) == chain.head[0] + 1


def test_a_file_without_a_key_trusts_nobody(desk: Desk) -> None:
    chain = sample()
    nothing: list[Document] = [{}, {"keys": {}}]
    for none in nothing:
        assert desk.broken(chain.lines(signer=STRANGER), keys=none) == chain.head[0] + 1


def test_a_statement_speaks_of_an_organization(desk: Desk) -> None:
    chain = sample()
    nobodys = {name: value for name, value in chain.statement().items() if name != "organization_id"}
    assert desk.broken([*chain.events, SIGNER.sign(nobodys)]) == chain.head[0] + 1
    assert desk.broken(chain.lines(organization_id=None)) == chain.head[0] + 1


def test_nothing_hides_on_the_line_of_the_statement(desk: Desk) -> None:
    """Only the end of a file is looked at for the statement: the line that it stands on may begin before that."""
    chain = sample()
    whole, statement = as_file(chain.events), as_file([chain.statement()])
    more = as_file([event(chain.head[0] + 1, chain.head[1])]).rstrip()
    padding = b" " * (1024 * 1024 - len(statement))
    assert desk.broken(whole + padding + statement) is None
    assert desk.broken(whole + more + padding + b"  " + statement) == chain.head[0] + 1
    assert desk.broken(whole + b"x" * (audit.LONGEST + 1) + padding + b"  " + statement) == chain.head[0] + 1


@pytest.mark.parametrize(
    "proof",
    [
        None,
        {},
        checkpoint(7, GENESIS),
        checkpoint(6, sample(7).base[1]),
        checkpoint(*sample(7).base, signer=STRANGER),
        {**checkpoint(*sample(7).base), "organization_id": "another"},
        SIGNER.sign({**checkpoint(*sample(7).base), "organization_id": "another"}),
        SIGNER.sign({**checkpoint(*sample(7).base), "kind": "audit_anchor"}),
        SIGNER.sign({**checkpoint(*sample(7).base), "base": 7}),
        anchor(*sample(7).base),
    ],
)
def test_a_moved_base_needs_its_checkpoint(desk: Desk, proof: Document | None) -> None:
    assert desk.broken(sample(7).lines(checkpoint=proof)) == 1


def test_the_base_may_move_while_pages_are_fetched(desk: Desk) -> None:
    """The first pages still hold what the statement says is dropped by now: then it is an event of the file."""
    chain = sample()
    moved: Document = {"base": point(3, chain.events[2]["hash"]), "checkpoint": checkpoint(3, chain.events[2]["hash"])}
    assert desk.verify(chain.lines(**moved)) == HOLDS
    assert desk.verify([*chain.events[3:], chain.statement(**moved)]) == HOLDS
    assert desk.broken([*chain.events[4:], chain.statement(**moved)]) == 4
    elsewhere: Document = {"base": point(3, GENESIS), "checkpoint": checkpoint(3, GENESIS)}
    assert desk.broken(chain.lines(**elsewhere)) == 3
    assert desk.broken([*chain.events[3:], chain.statement(**elsewhere)]) == 4


def test_an_anchor_must_be_contained(desk: Desk) -> None:
    chain = sample()
    assert desk.verify(chain.lines(), keys=KEYS, anchor=chain.anchor(4)) == HOLDS
    assert desk.broken(chain.lines(), keys=KEYS, anchor=anchor(4, GENESIS)) == 4
    assert desk.broken(chain.lines(), anchor=chain.anchor(4, signer=STRANGER)) == 1
    before = "2026-02-28T00:00:00Z"
    assert desk.broken(chain.lines(), anchor=anchor(40, GENESIS, at=before)) == chain.head[0] + 1  # a cut tail
    assert desk.verify(chain.lines(), anchor=anchor(40, GENESIS)) == UNUSABLE
    assert "older anchor" in desk.err
    moved = sample(7)
    assert desk.verify(moved.lines(), anchor=anchor(7, moved.base[1])) == HOLDS
    assert desk.verify(moved.lines(), anchor=anchor(3, GENESIS)) == HOLDS  # of what is dropped it proves nothing
    assert desk.broken(moved.lines(), anchor=anchor(7, GENESIS)) == 7
    assert desk.broken(moved.lines(checkpoint=None), anchor=moved.anchor(9, at=before)) == 1
    base = point(4, GENESIS)
    assert desk.broken(moved.lines(checkpoint=None), anchor=anchor(9, moved.events[1]["hash"], base)) == 5


@pytest.mark.parametrize(
    "document", ["", "{", "[]", "null", "7", {}, {"kind": "audit_anchor"}, checkpoint(1, GENESIS), '{"a": NaN}']
)
def test_an_anchor_is_an_anchor(desk: Desk, document: Any) -> None:
    assert desk.verify(sample().lines(), anchor=document) == UNUSABLE
    assert desk.err.startswith("nothing was checked: the anchor")


@pytest.mark.parametrize("document", ["", "[]", {"keys": [1]}, {"keys": {"k1": 1}}, {"k1": None}])
def test_keys_are_keys(desk: Desk, document: Any) -> None:
    assert desk.verify(sample().lines(), keys=document) == UNUSABLE


def test_files_that_are_not_there(desk: Desk) -> None:
    assert audit.main(["verify", str(desk.folder / "nothing")]) == UNUSABLE
    assert audit.main(["verify", str(desk.folder)]) == UNUSABLE
    assert desk.verify(sample().lines(), "--keys", str(desk.folder / "nothing")) == UNUSABLE


def test_an_anchor_of_another_organization(desk: Desk) -> None:
    other = SIGNER.sign({**sample().anchor(4), "organization_id": "another"})
    assert desk.verify(sample().lines(), anchor=other) == UNUSABLE


def test_it_goes_on_behind_an_earlier_file(desk: Desk) -> None:
    chain = sample()
    rest, known = [*chain.events[4:], chain.statement()], chain.events[3]["hash"]
    assert desk.verify(rest, "--after", f"4:{known}") == HOLDS
    assert desk.verify(rest, "--after", f"4:{known.upper()}") == HOLDS
    assert desk.broken(rest) == 1
    assert desk.broken(rest, "--after", f"4:{GENESIS}") == 5
    assert desk.broken(rest, "--after", f"3:{known}") == 4
    assert desk.broken([chain.statement()], "--after", f"4:{known}") == 5
    assert desk.verify([chain.statement()], "--after", ":".join(map(str, chain.head))) == HOLDS
    older = Chain()
    older.events = chain.events[:2]
    assert desk.broken([older.statement()], "--after", f"4:{known}") == 3  # an older statement goes on with nothing
    with pytest.raises(SystemExit, match="2"):
        desk.verify(rest, "--after", "x")


def test_how_lines_are_written_makes_no_difference(desk: Desk) -> None:
    whole = as_file(sample().lines())
    for same in (whole.replace(b"\n", b"\r\n"), whole[:-1], whole + b"\n \n", b"\n" + whole.replace(b"\n", b"\n\n")):
        assert desk.verify(same) == HOLDS
    pretty = b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in sample().lines())
    assert desk.verify(pretty) == HOLDS


HOSTILE = {
    "nothing": b"null\n",
    "a list": b"[]\n",
    "half an object": b"{\n",
    "no UTF-8": b"\xff\xfe{\x00}\x00\n",
    "a byte order mark": b"\xef\xbb\xbf{}\n",
    "NaN": b'{"seq": NaN}\n',
    "infinity": b'{"seq": 1e999}\n',
    "a fraction": b'{"seq": 1.0}\n',
    "true for one": b'{"seq": true, "hash": true, "prev_hash": true}\n',
    "an endless number": b'{"seq": ' + b"9" * 6000 + b"}\n",
    "nested": b"[" * 200_000 + b"\n",
    "nested and closed": b'{"data": ' + b"[" * 900 + b"]" * 900 + b"}\n",
    "half a character": b'{"seq": 12, "action": "\\ud800", "prev_hash": 1}\n',
    "a NUL": b"\x00\n",
    "a seq that is a list": b'{"seq": [1], "prev_hash": {}, "hash": [], "action": ["personal.erased"]}\n',
    "wrong types": b'{"seq": 12, "prev_hash": 1, "hash": 1, "personal": 1, "personal_salt": 1, "personal_hash": 1}\n',
    "a statement of nothing": b'{"kind": "audit_statement"}\n',
    "a statement of nonsense": b'{"kind": "audit_statement", "keys": {"a": 1}, "key_id": "a", "signature": 1}\n',
    "a deep statement": b'{"kind": "audit_statement", "key_id": "k", "keys": {"k": "AA"}, "a": '
    + b"[" * 800
    + b"]" * 800
    + b"}\n",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_makes_it_stumble(desk: Desk, name: str) -> None:
    lines = sample().lines()
    assert desk.broken(HOSTILE[name]) == 1
    assert desk.broken(as_file(lines[:4]) + HOSTILE[name] + as_file(lines[4:])) == 5
    assert desk.broken(as_file(lines) + HOSTILE[name]) == len(lines)


def test_a_member_that_stands_twice_is_no_event(desk: Desk) -> None:
    """Readers differ in which of the two they take."""
    whole = as_file(sample().lines())
    assert desk.broken(whole.replace(b'{"seq":3,', b'{"seq":4,"seq":3,')) == 3
    assert desk.broken(whole.replace(b'"kind":"audit_statement"', b'"at":"","kind":"audit_statement"')) == 12


@pytest.mark.parametrize("number", [1.5, 1e2, 2**53, -(2**53)])
def test_numbers_are_whole_and_below_2_to_the_53(desk: Desk, number: float) -> None:
    """Not everybody writes others alike, so a hash over them is worth nothing (RFC 8785, section 3.2.2.3)."""
    chain = Chain()
    chain.add()
    chain.add(data={"n": number})
    statement = chain.statement()
    assert desk.broken([*chain.events, statement]) == 2


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_counts(desk: Desk, data: st.DataObject) -> None:
    """Whatever byte is changed: the chain is broken, or every line says the same as before."""
    whole = as_file(sample(7, 3).lines())
    place = data.draw(st.integers(0, len(whole) - 1))
    other = data.draw(st.one_of(st.just(b""), st.binary(min_size=1, max_size=1)))
    changed = whole[:place] + other + whole[place + 1 :]
    if desk.verify(changed) == HOLDS:
        assert [json.loads(line) for line in changed.splitlines()] == [json.loads(line) for line in whole.splitlines()]


def test_memory_is_flat(desk: Desk) -> None:
    chain = Chain()
    for _ in range(1500):
        chain.add(data={"text": "x" * 4096})
    chain.events[0] = nulled(chain.events[0])
    chain.add(action="personal.erased", data={"events": [1]})
    file = desk.folder / "big.ndjson"
    file.write_bytes(as_file(chain.lines()))
    del chain

    def peak(path: Path) -> int:
        tracemalloc.start()
        try:
            code = audit.main(["verify", str(path)])
            return tracemalloc.get_traced_memory()[1] if code in (HOLDS, BROKEN) else -1
        finally:
            tracemalloc.stop()

    assert file.stat().st_size > 6 * 1024 * 1024
    assert 0 < peak(file) < 4 * 1024 * 1024
    with file.open("r+b") as opened:  # one line that is far longer than any page
        opened.truncate(512 * 1024 * 1024)
    assert 0 < peak(file) < 64 * 1024 * 1024
