"""local/machine.sh: each obstacle before the installation, in a sentence with the way out; by made-up programs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

SCRIPT = CHECKOUT / "local" / "machine.sh"
REAL = ("sh", "awk", "id")


def programs(folder: Path, **made: str) -> str:
    """A PATH of one folder: a fine machine, but for the programs that are `made` otherwise."""
    fine = {
        "python3": "exit 0",
        "uname": '[ "$1" = -m ] && echo x86_64 || echo Linux',
        "getconf": "echo glibc 2.36",
        "df": "printf 'head\\nplace 1 1 9000000000 1%% /\\n'",
    }
    folder.mkdir()
    for name, script in {**fine, **made}.items():
        if script:
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)
    for name in REAL:
        (folder / name).symlink_to(str(shutil.which(name)))
    return str(folder)


def ask(path: str, cwd: Path, python: str = "python3") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(shutil.which("sh")), str(SCRIPT), python],
        cwd=cwd,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_fine_machine_hears_nothing(tmp_path: Path) -> None:
    done = ask(programs(tmp_path / "bin"), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


OLD = 'case "$2" in *version_info*11*) exit 1 ;; *platform*) echo 3.9.2 ;; esac'


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"python3": ""}, "there is no python3. Debian and Ubuntu have it"),
        (
            {"python3": "", "python3.12": "exit 0"},
            "there is no python3. python3.12 is here: make run PYTHON=python3.12",
        ),
        ({"python3": OLD}, "Python 3.11 or newer is needed; python3 is 3.9.2."),
        ({"python3": 'case "$2" in *maxsize*) exit 1 ;; esac'}, "32-bit"),
        (
            {"python3": 'case "$2" in *ensurepip*) exit 1 ;; *%d*) echo 3.11 ;; esac'},
            "sudo apt-get install python3.11-venv",
        ),
        ({"uname": '[ "$1" = -m ] && echo riscv64 || echo Linux'}, "this machine is riscv64"),
        ({"getconf": "exit 1"}, "no glibc"),
        ({"getconf": "echo glibc 2.28"}, "glibc 2.28 is too old: the packages need 2.31"),
        ({"df": "printf 'head\\nplace 1 1 300000 1%% /\\n'"}, "Only 292 MB are free"),
    ],
    ids=[
        "no-python",
        "another-python",
        "old-python",
        "32-bit",
        "no-venv",
        "processor",
        "musl",
        "old-glibc",
        "no-space",
    ],
)
def test_an_obstacle_is_named(tmp_path: Path, made: dict[str, str], said: str) -> None:
    done = ask(programs(tmp_path / "bin", **made), tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_colon_and_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin")
    colon = tmp_path / "a:b"
    colon.mkdir()
    assert "has a colon" in ask(path, colon).stderr
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.access(locked, os.W_OK):
        pytest.skip("root writes everywhere")
    assert "cannot be written" in ask(path, locked).stderr


def test_a_folder_with_spaces_is_fine(tmp_path: Path) -> None:
    spaced = tmp_path / "my code" / "it's here"
    spaced.mkdir(parents=True)
    assert ask(programs(tmp_path / "bin"), spaced).returncode == 0


@pytest.mark.parametrize("module", ["local.replay", "local.import_export"])
@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "never"])
def test_a_command_without_a_running_stack_says_so(tmp_path: Path, module: str, stopped: bool) -> None:
    if stopped:
        (tmp_path / "layout.json").write_text("{}")
    options = ["package.zip"] if module == "local.import_export" else []
    command = [sys.executable, "-m", module, *options, "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make run" in done.stderr
    assert len(done.stderr.splitlines()) == 1
