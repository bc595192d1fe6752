"""The audit chain, checked without trusting whoever keeps it: `python -m common.audit verify FILE`.

FILE is what GET /v1/audit-events/export gives, its pages one after another. This module needs Python 3.11 and the
package `cryptography`, nothing else of ours, and is long so that it can be copied alone: `python audit.py verify FILE`.
What it checks, and why that suffices: docs/audit.md.
Sources: RFC 8785 (canonical JSON), FIPS 180-4 (SHA-256), RFC 8032 (Ed25519).
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

GENESIS = "0" * 64
ANCHOR, CHECKPOINT, STATEMENT = "audit_anchor", "audit_checkpoint", "audit_statement"
SEALS = ("hash", "signature", "key_id")
HOLDS, BROKEN, UNUSABLE = 0, 1, 2  # exit codes
LONGEST = 16 * 1024 * 1024  # bytes of a line; a page of an export has no more
SAFE = 2**53
_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True,
                           separators=(",", ":")).encode  # fmt: skip


class Point(NamedTuple):
    """A place in a chain: the event `seq` has this hash; seq 0 is before the first, with 64 zeros."""

    seq: int
    hash: str


ORIGIN = Point(0, GENESIS)


class Unusable(Exception):
    """What was given cannot be read as what it should be; the message says what and why."""


def canonical(value: Any) -> str:
    """RFC 8785 for what an event holds: ASCII keys, strings, booleans, null and integers below 2^53."""
    return _encode(value)


def event_hash(event: dict[str, Any]) -> str:
    """The hash that an event must carry."""
    linked = dict(event)
    for name in ("personal", "personal_salt", "hash"):
        linked.pop(name, None)
    return hashlib.sha256(_encode(linked).encode()).hexdigest()


def personal_hash(salt: str, personal: Any) -> str:
    """The hash of an event's personal part under its salt."""
    return hashlib.sha256((salt + _encode(personal)).encode()).hexdigest()


def statement_of(document: dict[str, Any]) -> bytes:
    """What is signed of a document. Raises ValueError for a number that not everybody writes alike (RFC 8785)."""
    facts = {name: value for name, value in document.items() if name not in SEALS}
    _refuse_fractions(facts)
    return _encode(facts).encode()


def holds(document: dict[str, Any], public_key: str) -> bool:
    """Whether hash and signature are those of this document under the key: raw Ed25519 in unpadded base64url."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - all else works without it
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    try:
        statement = statement_of(document)
        Ed25519PublicKey.from_public_bytes(unpadded(public_key)).verify(unpadded(document["signature"]), statement)
    except (InvalidSignature, KeyError, TypeError, ValueError, RecursionError):
        return False
    return document.get("hash") == hashlib.sha256(statement).hexdigest()


def unpadded(text: str) -> bytes:
    """Base64url without padding (RFC 4648), in the one way in which it is written. Raises ValueError."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("not base64url")
    return raw


def _refuse_fractions(value: Any) -> None:
    if isinstance(value, float) or (isinstance(value, int) and abs(value) >= SAFE):
        raise ValueError("a signed document holds whole numbers below 2^53")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_fractions(inner)


def point(value: Any) -> Point:
    """A place as documents write it. Raises ValueError."""
    if not isinstance(value, dict) or type(value.get("seq")) is not int or not isinstance(value.get("hash"), str):
        raise ValueError("not a place in a chain")
    return Point(value["seq"], value["hash"])


def signed(document: Any, kind: str, organization_id: Any, keys: dict[str, str]) -> bool:
    """Whether it is a document of this kind about this organization, signed by one of the keys (public, by key_id)."""
    if not isinstance(document, dict) or (document.get("kind"), document.get("organization_id")) != (
        kind,
        organization_id,
    ):
        return False
    key = keys.get(str(document.get("key_id")))
    return key is not None and holds(document, key)


def unproven(base: Point, known: Point | None) -> int:
    """The first event that is missing when nothing proves a base: behind `known`, an older base, if there is one."""
    return 1 + (known.seq if known and known.seq < base.seq else 0)


def base_holds(base: Point, checkpoint: Any, organization_id: Any, keys: dict[str, str]) -> bool:
    """Whether the chain may begin behind `base`: at its origin, or where a checkpoint of ours says so."""
    if base.seq == 0:
        return base == ORIGIN
    if not signed(checkpoint, CHECKPOINT, organization_id, keys):
        return False
    try:
        return point(checkpoint["base"]) == base
    except (KeyError, ValueError):
        return False


class Verifier:
    """Takes the events behind `base` in order; remembers the first that does not fit. Needs a bit per event.

    `points` are places that the chain must contain, in any order; what stands behind `head`, when given, is too much.
    """

    def __init__(self, base: Point = ORIGIN, points: Iterable[Point] = (), head: Point | None = None) -> None:
        self.base = base
        self.seq, self.hash = base
        self.checked = 0
        self.first_broken_seq: int | None = None
        self.reason = ""
        self._end = head.seq if head else None
        self._points: dict[int, str] = {}
        self._nulled = bytearray()  # a bit per event whose personal part is gone and no event has said why yet
        for place in (*points, *([head] if head else [])):
            if place.seq == base.seq and place.hash != base.hash:
                self.note(max(base.seq, 1), "it begins elsewhere than it should")
            elif place.seq > base.seq and self._points.setdefault(place.seq, place.hash) != place.hash:
                self.note(place.seq, "it cannot be two events at once")
        if head and head.seq < base.seq:
            self.note(max(head.seq, 0) + 1, "the head of the chain lies before its beginning")

    def take(self, event: Any) -> None:
        """Check one event against its predecessor; anything that JSON can hold may come."""
        self.checked += 1
        expected = self.seq + 1
        seq, digest = (event.get("seq"), event.get("hash")) if isinstance(event, dict) else (None, None)
        if self.first_broken_seq is None:
            try:
                wrong = self._wrong(event, expected)
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                wrong = "it is no event"
            if wrong and type(seq) is int and self.base.seq < seq < expected:
                self.note(seq, "it is there twice")
            elif wrong:
                self.note(expected, wrong)
        self._explain(event)
        self.seq, self.hash = expected, str(digest)

    def _wrong(self, event: dict[str, Any], expected: int) -> str:
        """What is wrong with an event in this place, or nothing."""
        if type(event["seq"]) is not int or event["seq"] != expected:
            return "it is missing"
        if self._end is not None and expected > self._end:
            return "it stands behind the head of the chain"
        if event["prev_hash"] != self.hash:
            return "it does not follow the one before"
        if event["hash"] != event_hash(event):
            return "it was altered"
        if self._points and self._points.pop(expected, event["hash"]) != event["hash"]:
            return "it is another one than was recorded outside the database"
        return "" if self._personal_fits(event) else "its personal part was altered"

    def _personal_fits(self, event: dict[str, Any]) -> bool:
        salt, personal = event["personal_salt"], event["personal"]
        if salt is not None:
            return bool(event["personal_hash"] == personal_hash(salt, personal))
        place = self.seq - self.base.seq
        self._nulled.extend(bytes(place // 8 + 1 - len(self._nulled)))
        self._nulled[place // 8] |= 1 << place % 8
        return personal is None

    def _explain(self, event: Any) -> None:
        """A `personal.erased` event says whose personal part was emptied before it; of itself it says nothing."""
        if not isinstance(event, dict) or event.get("action") != "personal.erased":
            return
        data = event.get("data")
        listed = data.get("events") if isinstance(data, dict) else None
        for seq in listed if isinstance(listed, list) else ():
            place = seq - self.base.seq - 1 if type(seq) is int and seq <= self.seq else -1
            if 0 <= place < 8 * len(self._nulled):
                self._nulled[place // 8] &= ~(1 << place % 8)

    def note(self, seq: int, reason: str) -> None:
        if self.first_broken_seq is None or seq < self.first_broken_seq:
            self.first_broken_seq, self.reason = seq, reason

    @property
    def unexplained(self) -> int | None:
        """The first event whose personal part is gone without a later event that says so."""
        byte = len(self._nulled) - len(self._nulled.lstrip(b"\0"))
        if byte == len(self._nulled):
            return None
        bits = self._nulled[byte]
        return self.base.seq + 1 + 8 * byte + (bits & -bits).bit_length() - 1

    @property
    def cut(self) -> int | None:
        """The first event that is missing at the end: the chain does not reach a place that it must contain."""
        return self.seq + 1 if any(seq > self.seq for seq in self._points) else None

    def verdict(self) -> tuple[int | None, str]:
        """The first event that is wrong, and what is; None when all is well.

        A break or a cut comes before a personal part that is gone: what explains that may be the very event that broke.
        """
        found = [(self.first_broken_seq, self.reason), (self.cut, "it is missing")]
        wrong = [(seq, reason) for seq, reason in found if seq is not None]
        if wrong:
            return min(wrong)
        gone = self.unexplained
        return (gone, "its personal part is gone, and no later event says that it was erased") if gone else (None, "")

    @property
    def broken(self) -> int | None:
        """The first event that is wrong, None when all is well."""
        return self.verdict()[0]


def _strict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object names a member twice")
    return made


def _refuse(text: str) -> Any:
    raise ValueError(f"{text[:20]} is no whole number")


def _whole(text: str) -> int:
    if len(text) > len(str(SAFE)) + 1 or abs(int(text)) >= SAFE:
        raise ValueError("a number is not below 2^53")
    return int(text)


_decoder = json.JSONDecoder(object_pairs_hook=_strict, parse_float=_refuse, parse_constant=_refuse, parse_int=_whole)


def parsed(line: bytes) -> Any:
    """The JSON of a line (I-JSON, RFC 7493: UTF-8, no member twice). Raises ValueError."""
    try:
        return _decoder.decode(line.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


def lines(file: IO[bytes]) -> Iterator[bytes]:
    """The lines of a file that are not blank; an empty one in place of one that is too long."""
    while line := file.readline(LONGEST + 1):
        whole = line if len(line) <= LONGEST else b""
        while len(line) > LONGEST and not line.endswith(b"\n"):
            line = file.readline(LONGEST + 1)
        if not whole or whole.strip():
            yield whole


def closing(file: IO[bytes]) -> dict[str, Any] | None:
    """The statement that a whole export ends with, None without one; its signature was not looked at."""
    file.seek(0, 2)
    file.seek(max(0, file.tell() - 1024 * 1024))
    last = file.read().rstrip().rpartition(b"\n")[2]
    file.seek(0)
    try:
        document = parsed(last)
    except ValueError:
        return None
    return document if isinstance(document, dict) and document.get("kind") == STATEMENT else None


class Given(NamedTuple):
    """What an auditor trusts more than the file: public keys by key_id, an anchor, where the file begins."""

    keys: dict[str, str] | None = None
    anchor: dict[str, Any] | None = None
    after: Point | None = None


class Export:
    """A file with a chain: its events, what its closing statement says, and whether both agree."""

    def __init__(self, file: IO[bytes], given: Given) -> None:
        self.file, self.given = file, given
        self.statement = closing(file)
        said = self.statement or {}
        embedded = said.get("keys")
        self.keys = given.keys if given.keys is not None else embedded if isinstance(embedded, dict) else {}
        self.organization = said.get("organization_id")
        named = isinstance(self.organization, str)
        self.signed = named and signed(self.statement, STATEMENT, self.organization, self.keys)
        self.base: Point | None = None
        self.head: Point | None = None
        self.anchored: Point | None = None
        if self.signed:
            self._read_places(said)

    def _read_places(self, said: dict[str, Any]) -> None:
        try:
            self.base, self.head = point(said["base"]), point(said["head"])
            self.anchored = point(said["anchored"]) if said["anchored"] is not None else None
        except (KeyError, ValueError):
            raise Unusable("the closing statement is signed, and of another form than this program knows") from None

    def verify(self) -> Verifier:
        """Check everything. Raises Unusable."""
        events = self._events()
        first = list(islice(events, 1))
        points = [place for place in (self.base, self.anchored) if place]
        verifier = Verifier(self._start(first), points + self._anchor_points(), self.head)
        for event in chain(first, events):
            verifier.take(event)
        self._judge(verifier)
        return verifier

    def _events(self) -> Iterator[Any]:
        """What each line but the closing one holds; None, which is no event, when that is nothing."""
        waiting: list[bytes] = []
        for line in lines(self.file):
            yield from map(_event, waiting)
            waiting = [line]
        if self.statement is None or any(_event(line) != self.statement for line in waiting):
            yield from map(_event, waiting)  # also a line that only ends as the statement does

    def _start(self, first: list[Any]) -> Point:
        """Where the file should begin: where the auditor says, at the statement's base, or already before it."""
        if self.given.after:
            return self.given.after
        start = self.base or ORIGIN
        try:
            seq, digest = point({"seq": first[0]["seq"], "hash": first[0]["prev_hash"]})
        except (IndexError, KeyError, TypeError, ValueError):
            return start
        if seq > 1 and (self.base is None or seq <= start.seq):
            return Point(seq - 1, digest)
        return ORIGIN if seq == 1 else start

    def _anchor_points(self) -> list[Point]:
        """The places of the auditor's anchor that the file must contain."""
        anchor = self.given.anchor
        if anchor is None or self.statement is None or not self.signed:
            return []
        if anchor.get("organization_id") != self.organization:
            raise Unusable("the anchor is of another organization than the file")
        base, head = point(anchor["base"]), point(anchor["head"])
        if self.head and head.seq > self.head.seq and str(anchor.get("at")) >= str(self.statement.get("at")):
            raise Unusable("the anchor was made after the file, which cannot contain it: take an older anchor")
        return [base, head]

    def _judge(self, verifier: Verifier) -> None:
        """What the events alone do not show."""
        anchor, base = self.given.anchor, self.base
        if self.statement is None:
            verifier.note(
                verifier.seq + 1, "it is missing: the file ends without the signed statement of a whole export"
            )
        elif not self.signed:
            verifier.note(verifier.seq + 1, "the closing statement is not signed by a key that is trusted")
        elif anchor is not None and not signed(anchor, ANCHOR, self.organization, self.keys):
            verifier.note(verifier.base.seq + 1, "no key that is trusted has signed the anchor")
        if base and not base_holds(base, (self.statement or {}).get("checkpoint"), self.organization, self.keys):
            known = point(anchor["base"]) if anchor else None
            verifier.note(unproven(base, known), "it is missing, and no checkpoint says that it was dropped in time")


def _event(line: bytes) -> Any:
    try:
        return parsed(line)
    except ValueError:
        return None


def fingerprint(public_key: str) -> str:
    """What people compare: the SHA-256 of the raw key in hex."""
    return hashlib.sha256(unpadded(public_key)).hexdigest()


def _place(text: str) -> Point:
    seq, _, digest = text.partition(":")
    if not (seq.isdecimal() and len(seq) < 16 and len(digest) == len(GENESIS)):
        raise argparse.ArgumentTypeError("SEQ:HASH, as an earlier run has printed it")
    return Point(int(seq), digest.lower())


def _document(path: Path, usable: Callable[[Any], bool], what: str) -> Any:
    """A small JSON file. Raises Unusable."""
    try:
        document = parsed(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Unusable(f"{what} cannot be read: {error}") from error
    if not usable(document):
        raise Unusable(f"{what} is something else")
    return document


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="audit", description="Check an exported audit chain; exit code 1: broken")
    verify = parser.add_subparsers(required=True, metavar="verify").add_parser("verify", help="check a file")
    verify.add_argument("file", type=Path, metavar="FILE", help="the pages of the export, one after another")
    verify.add_argument("--keys", type=Path, help="the public keys that you trust, as GET /v1/audit-events/keys gives")
    verify.add_argument("--anchor", type=Path, help="an anchor that the chain must contain, from the locked bucket")
    verify.add_argument("--after", type=_place, metavar="SEQ:HASH", help="the file goes on behind this event")
    return parser.parse_args(arguments)


def _given(chosen: argparse.Namespace) -> Given:
    """The files that are trusted. Raises Unusable."""
    keys = anchor = None
    if chosen.keys:
        found = _document(chosen.keys, lambda known: isinstance(known, dict), "the file of keys")
        keys = found.get("keys", found)
        if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
            raise Unusable("the file of keys is something else")
    if chosen.anchor:
        anchor = _document(chosen.anchor, _is_anchor, "the anchor")
    return Given(keys, anchor, chosen.after)


def _is_anchor(document: Any) -> bool:
    try:
        return document["kind"] == ANCHOR and bool(point(document["base"]) and point(document["head"]))
    except (KeyError, TypeError, ValueError):
        return False


def _report(export: Export, verifier: Verifier, given: Given) -> str:
    """What was found, for people; what came out of the file is written in ASCII."""
    said, told = export.statement or {}, []
    if export.signed:
        key = export.keys[str(said["key_id"])]
        told.append(f"organization {json.dumps(said['organization_id'])}, exported {json.dumps(said.get('at'))}")
        told.append(f"signed with key {json.dumps(said['key_id'])}, SHA-256 of it {fingerprint(key)}")
        if given.keys is None:
            told.append("compare this with the fingerprint that you know, or give the keys that you trust: --keys")
    broken, reason = verifier.verdict()
    verdict = "the chain holds" if broken is None else f"the chain is broken at seq {broken}: {reason}"
    reached = f"{verifier.seq}:{json.dumps(verifier.hash)[1:-1]}"
    return "\n".join([*told, f"{verifier.checked} events checked, to {reached}", verdict, ""])


def main(arguments: list[str]) -> int:
    """Exit code 0 when the chain holds, 1 when it is broken, 2 when there is nothing to check it with."""
    chosen = _arguments(arguments)
    try:
        given = _given(chosen)
        with chosen.file.open("rb") as file:
            export = Export(file, given)
            verifier = export.verify()
        sys.stdout.write(_report(export, verifier, given))
    except ImportError:
        sys.stderr.write("this needs the package cryptography: pip install cryptography\n")
        return UNUSABLE
    except (OSError, Unusable) as error:
        sys.stderr.write(f"nothing was checked: {error}\n")
        return UNUSABLE
    return HOLDS if verifier.broken is None else BROKEN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
