"""Processes that never outlive what started them, and what is left of the ones that were killed."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

PR_SET_PDEATHSIG = 1
PROC = Path("/proc")


def die_with_parent(number: signal.Signals = signal.SIGTERM) -> Callable[[], None]:
    """A `preexec_fn` after which the kernel sends `number` when the starting thread ends (prctl(2); Linux only).

    A change of user clears it, so a process that drops its rights calls it again.
    """
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None, use_errno=True)

    def arm() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)

    return arm


def working_in(folder: Path, program: str) -> Iterator[int]:
    """The pids of a program's processes whose working directory is `folder` (none where there is no /proc)."""
    target = str(folder.resolve())
    for entry in PROC.glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == target and os.readlink(entry / "exe").split("/")[-1].startswith(program):
                yield int(entry.name)
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else


def alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not PROC.exists()


def signal_group(group: int, number: signal.Signals) -> bool:
    """Send a signal to every process of a group; False when none is left."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True
