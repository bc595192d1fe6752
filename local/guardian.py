"""The process that outlives a killed supervisor just long enough to end what it had started."""

import contextlib
import os
import signal
import time
from pathlib import Path

from local.processes import alive, signal_group

GRACE_SECONDS = 3.0


class Guardian:
    """Told of every process group that begins and ends; it acts when the supervisor's end of the pipe closes."""

    def __init__(self, lock: int, announcement: Path) -> None:
        """Fork it off, before any thread exists. It holds on to the stack's lock, and takes the announcement away."""
        reader, self.writer = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become(reader, lock, announcement)
        os.close(reader)

    def told(self, group: int, began: bool) -> None:
        """A process group began or ended."""
        with contextlib.suppress(BrokenPipeError):  # somebody killed it; then the kernel's parent-death signal must do
            os.write(self.writer, f"{'+' if began else '-'}{group}\n".encode())

    def dismiss(self) -> None:
        """Everything was stopped in order."""
        os.close(self.writer)
        os.waitpid(self.pid, 0)


def _become(reader: int, lock: int, announcement: Path) -> None:
    """The rest of the life of the forked process; it never returns."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        _close_others({reader, lock})
        groups = _watch(reader)
        announcement.unlink(missing_ok=True)
        _end(groups)
    finally:
        os._exit(0)


def _close_others(kept: set[int]) -> None:
    limit = os.sysconf("SC_OPEN_MAX")
    for descriptor in range(3, min(limit, 4096)):
        if descriptor not in kept:
            try:
                os.close(descriptor)
            except OSError:
                continue
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)


def _watch(reader: int) -> set[int]:
    """The groups that run when the supervisor is gone."""
    groups: set[int] = set()
    with os.fdopen(reader, "r") as messages:
        for line in messages:
            change, group = line[0], int(line[1:])
            (groups.add if change == "+" else groups.discard)(group)
    return groups


def _end(groups: set[int]) -> None:
    """Ask politely (PostgreSQL: SIGTERM waits for its clients, which go at the same time), then kill."""
    left = {group for group in groups if signal_group(group, signal.SIGTERM)}
    deadline = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.05)
        left = {group for group in left if alive(group)}
    for group in groups:
        signal_group(group, signal.SIGKILL)
