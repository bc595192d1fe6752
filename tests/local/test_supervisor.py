"""The supervisor: one stack at a time, services that come back, and nothing left behind however it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local import postgres
from local.processes import alive, working_in
from local.standing import told

CHECKOUT = Path(__file__).parent.parent.parent
SMALL_STACK = Path(__file__).parent / "small_stack.py"


def until(what: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def start(root: Path, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, str(SMALL_STACK), str(root), *arguments],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


def stack(root: Path) -> Any:
    path = root / "stack.json"
    return json.loads(path.read_text()) if path.exists() else None


def standing_of(root: Path, name: str) -> Any:
    stood = told(root)
    assert stood
    return next(each for each in stood.services if each.name == name)


def left(root: Path) -> list[int]:
    """The processes of a stack: those that name its folder, and PostgreSQL's."""
    found = list(working_in(postgres.data_dir(root), "postgres"))
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(root).encode() in (entry / "cmdline").read_bytes() and alive(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "stack"
    yield root
    until(lambda: left(root) == [])
    postgres.forget(root)


@pytest.fixture
def running(root: Path, request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    process = start(root, *getattr(request, "param", []))
    until(lambda: stack(root) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[0]
    yield process
    kill(process)


@pytest.mark.parametrize("running", [["--stubborn"]], indirect=True)
def test_it_works(root: Path, running: "subprocess.Popen[str]") -> None:
    told_of = stack(root)
    assert set(told_of["pids"]) == {"supervisor", "postgres", "valkey", "server"}
    assert told_of["pids"]["supervisor"] == running.pid
    assert all(alive(pid) for pid in told_of["pids"].values())
    ring = json.loads(Path(told_of["jwt_keyring"]).read_text())
    assert ring["keys"][ring["active"]]["algorithm"] == "HS256"
    assert set(json.loads(Path(told_of["context_key"]).read_text())) == set(told_of["postgres"]) - {"admin"}
    assert (root / "log" / "step.log").read_text() == "stepped\n"

    running.send_signal(signal.SIGINT)
    output = running.communicate(timeout=30)[0]

    assert running.returncode == 0
    assert "server         did not stop in time; killed" in output
    assert left(root) == []
    assert (stack(root), told(root)) == (None, None)


@pytest.mark.parametrize("name", ["postgres", "valkey", "server"])
def test_a_killed_service_comes_back(root: Path, running: "subprocess.Popen[str]", name: str) -> None:
    before = stack(root)["pids"]
    os.kill(before[name], signal.SIGKILL)

    after = until(lambda: (pids := stack(root)["pids"]).get(name, before[name]) != before[name] and pids)
    again = until(lambda: (found := standing_of(root, name)).state == "ready" and found)
    assert (again.pid, again.starts, again.last_end) == (after[name], 2, "signal SIGKILL")

    port = json.loads((root / "layout.json").read_text())["ports"]["sms" if name == "server" else name]
    until(lambda: connects(port))
    assert {**after, name: 0} == {**before, name: 0}
    until(lambda: [pid for pid in left(root) if group(pid) == before[name]] == [])


def group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("running", [["--stubborn"]], indirect=True)
def test_nothing_is_left_when_the_supervisor_is_killed(root: Path, running: "subprocess.Popen[str]") -> None:
    assert len(left(root)) > 4
    kill(running)

    until(lambda: left(root) == [], seconds=8)

    again = start(root)
    until(lambda: stack(root))
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)
    assert again.returncode == 0


def test_a_start_right_after_a_kill_waits_for_what_was_left(root: Path, running: "subprocess.Popen[str]") -> None:
    before = stack(root)
    kill(running)
    again = start(root)

    after = until(lambda: (found := stack(root)) and found["pids"]["supervisor"] == again.pid and found)

    assert {**after, "pids": 0} == {**before, "pids": 0}
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=30)
    assert left(root) == []


def test_a_second_one_refuses(root: Path, running: "subprocess.Popen[str]") -> None:
    second = start(root)

    output = second.communicate(timeout=6)[0]  # at once, not after the patience it has with a guardian

    assert second.returncode == 1
    assert f"running already (process {running.pid}" in output
    assert stack(root)["pids"]["supervisor"] == running.pid


def test_a_failing_step_stops_the_stack_and_says_why(root: Path) -> None:
    process = start(root, "--broken")

    output = process.communicate(timeout=30)[0]

    assert process.returncode == 1
    assert "step           failed (exit code 1)" in output
    assert "this step cannot succeed" in output
    assert left(root) == []


def test_a_port_that_is_asked_for_and_taken_is_named(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        process = start(root, API_PORT=port)
        output = process.communicate(timeout=10)[0]

    assert process.returncode == 1
    assert f"Port {port} (API_PORT) is in use" in output


def test_another_algorithm_makes_another_key_and_keeps_the_old_one(root: Path) -> None:
    from local import keys
    from local.secrets_store import SecretStore

    root.mkdir()
    keys.seed(root, {})
    first = json.loads(SecretStore(root).latest("jwt-keyring") or "")
    keys.seed(root, {"JWT_ALGORITHM": "RS256"})
    keys.seed(root, {"JWT_ALGORITHM": "RS256"})
    second = json.loads(SecretStore(root).latest("jwt-keyring") or "")

    assert second["keys"][second["active"]]["algorithm"] == "RS256"
    assert second["keys"][first["active"]] == first["keys"][first["active"]]
    assert len(second["keys"]) == 2
