"""The command: what it runs, what it lacks, and that a part that fails does not take the others with it."""

import hashlib
import subprocess
import uuid

import pytest

from bench import machine, run
from bench.harness.loading import Work
from bench.harness.processes import busiest_share
from bench.harness.site import minted
from bench.harness.targets import Target, fill, identifier
from bench.parts.sizes import Sizes


def test_a_missing_tool_is_named_with_its_package() -> None:
    wanted = {"no-such-tool": "load; Debian package x", "sh": "there"}

    assert machine.missing(wanted) == ["no-such-tool (load; Debian package x)"]


def test_the_processor_has_a_name() -> None:
    assert machine.cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\n") == "AMD EPYC"
    assert machine.cpu_model("") == "unknown"


def test_operations_on_the_same_contents_are_one_run() -> None:
    assert len(run.plan(["list", "create"])) == 1
    assert len(run.plan(["list", "refresh", "cold"])) == 3
    assert len(run.plan([])) == len(run.GROUPS) + len(run.PARTS)


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="no such part: lists; there are list, get"):
        run.plan(["lists"])


@pytest.mark.parametrize(
    "error", [SystemExit("gone"), OSError("gone"), subprocess.SubprocessError("gone"), TypeError("gone")]
)
def test_a_part_that_fails_is_told(error: BaseException) -> None:
    def broken(_sizes: Sizes) -> None:
        raise error

    assert run.attempted(broken, Sizes()) == f"{type(error).__name__}: gone"


def test_templates_are_filled_in_depth() -> None:
    assert fill({"a": ["{x}", {"b": "{x}{y}"}], "n": 1}, {"x": 7, "y": "z"}) == {"a": ["7", {"b": "7z"}], "n": 1}


def test_ids_are_those_of_the_seed() -> None:
    """md5 of a label as a UUID: what both sides' SQL makes of it."""
    assert identifier("tenant1") == str(uuid.UUID(hex=hashlib.md5(b"tenant1").hexdigest()))  # noqa: S324
    assert minted(1, "viewer", {"sub": "{user_id}"})[0] == identifier("tenant1")


def test_the_busiest_process_of_two() -> None:
    assert busiest_share({1: 10, 2: 10}, {1: 40, 2: 20}) == 0.75
    assert busiest_share({}, {1: 0}) == 0.0


def test_headers_with_a_token_need_one() -> None:
    spec = {"base_url": "http://127.0.0.1:1", "auth": {"header": ["A: {token}", "B: fixed"]}}
    target = Target("t", spec, "true", machine.VAR, {}, machine.VAR / "log")

    assert target.headers("x") == ["A: x", "B: fixed"]
    assert target.headers() == ["B: fixed"]
    assert target.tokens(3) == []


def test_work_tells_wrk_what_to_check() -> None:
    told = Work([], 201, items=50, marker='"id"').environment("/requests")

    assert (told["WRK_STATUS"], told["WRK_ITEMS"], told["WRK_MARKER"]) == ("201", "50", '"id"')
    assert told["WRK_RUN"] != Work([]).environment("/requests")["WRK_RUN"]
    assert "WRK_CHAIN" not in told
