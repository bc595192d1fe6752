"""A module that the supervisor forks: as `python -m` starts it, with nothing of its parent."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CHECKOUT, wait_until

PARENT = """
import json, os, signal, socket, subprocess, sys, time
from pathlib import Path
from local.forked import Forked

kept = socket.create_server(("127.0.0.1", 0))
signal.signal(signal.SIGTERM, lambda *_: None)
log = os.open(sys.argv[1] + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
given = {"PATH": os.environ["PATH"], "SAID": "yes"}
try:
    child = Forked((sys.executable, "-m", "case", "--flag"), given, Path(sys.argv[1]), log, log)
finally:
    with open(sys.argv[1] + "/parents", "a") as parents:
        parents.write("one\\n")
if sys.argv[2:] == ["leave"]:
    while "ready" not in Path(sys.argv[1], "log").read_text():
        time.sleep(0.01)
    print(json.dumps([child.pid] * 3 + [0]))
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2:] == ["term"]:
    while "ready" not in Path(sys.argv[1], "log").read_text():
        time.sleep(0.01)
    try:
        child.wait(0.05)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)
code = child.wait()
child.send_signal(signal.SIGKILL)
print(json.dumps([code, child.returncode, child.poll(), os.getsid(0)]))
"""


def forked(folder: Path, source: str, *arguments: str) -> tuple[int, str, int]:
    """Exit code, what it wrote, and the session of its parent."""
    (folder / "case.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(folder), *arguments],
        cwd=CHECKOUT,
        env={"PYTHONPATH": f"{CHECKOUT}:{folder}", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=arguments != ("leave",),
        timeout=60,
    )
    code, again, polled, session = json.loads(done.stdout)
    assert code == again == polled
    return code, (folder / "log").read_text(), session


def is_gone(pid: int) -> bool:
    """Whether nothing is left of it but its number, for nobody asks how it ended here."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_it_works(tmp_path: Path) -> None:
    """Its name, arguments, environment, folder, session and descriptors are its own."""
    code, said, session = forked(
        tmp_path,
        "import json, os, sys\n"
        "assert __name__ == '__main__'\n"
        "seen = [sys.argv[1:], dict(os.environ), os.getcwd(), os.getsid(0) == os.getpid(), os.getsid(0)]\n"
        "print(json.dumps([*seen, sorted(os.listdir('/proc/self/fd'))]))\n",
    )

    seen: list[Any] = json.loads(said)
    assert code == 0
    assert seen[0] == ["--flag"]
    assert seen[1].keys() == {"PATH", "SAID"}
    assert seen[2:4] == [str(tmp_path), True]
    assert seen[4] != session
    assert len(seen[5]) == 4  # three, and the one that lists them


@pytest.mark.parametrize(
    ("source", "code", "said"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("raise SystemExit", 0, ""),
        ("import sys; sys.exit('no such thing')", 1, "no such thing\n"),
        ("import sys; sys.stdout.close()", 0, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
    ],
)
def test_how_it_ends(tmp_path: Path, source: str, code: int, said: str) -> None:
    assert forked(tmp_path, source)[:2] == (code, said)
    assert len((tmp_path / "parents").read_text().splitlines()) == 1, "the fork went on as its parent"


def test_an_error_is_told(tmp_path: Path) -> None:
    code, said, _ = forked(tmp_path, "raise ValueError('this one')")

    assert code == 1
    assert said.startswith("Traceback")
    assert said.endswith("ValueError: this one\n")


def test_a_signal_ends_it_though_its_parent_ignores_it(tmp_path: Path) -> None:
    code, _, _ = forked(tmp_path, "import time; print('ready'); time.sleep(60)", "term")

    assert code == -15


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    pid, _, _ = forked(tmp_path, "import time; print('ready'); time.sleep(60)", "leave")

    wait_until(lambda: not Path(f"/proc/{pid}").exists() or is_gone(pid), 20, "its end")


def test_it_bears_its_own_name(tmp_path: Path) -> None:
    assert forked(tmp_path, "print(open('/proc/self/comm').read().strip())")[1] == "case\n"


def test_its_code_is_as_it_is_now(tmp_path: Path) -> None:
    """And not what its parent has imported: who changes a stand-in kills it, and has the new one."""
    source = "import sys; print([name for name in sys.modules if name.split('.')[0] == 'local'])"
    assert forked(tmp_path, source)[1] == "[]\n"
