"""What the person at the terminal sees: the supervisor's events, and lines of the services' logs."""

import os
import re
import sys
import time
from pathlib import Path

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
NAME_WIDTH = 14
LARGEST_LOG = 50_000_000  # bytes; then it starts anew
WINDOW_SECONDS = 10.0
LINES_IN_WINDOW = 5  # a service that fails at every request must not bury the rest
SERIOUS = re.compile(rb'"severity": ?"(ERROR|CRITICAL|ALERT|EMERGENCY)"|\b(CRITICAL|FATAL|PANIC)\b|\[error\]')


class Console:
    """Quiet: events and serious lines. Verbose: every line."""

    def __init__(self, *, verbose: bool) -> None:
        self.verbose = verbose
        self.coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.names: dict[str, int] = {}
        self.windows: dict[str, list[float]] = {}  # name: its beginning, the lines left in it

    def say(self, name: str, text: str) -> None:
        """One line under a service's name."""
        number = self.names.setdefault(name, len(self.names))
        prefix = f"{name:<{NAME_WIDTH}}"
        if self.coloured:
            prefix = f"\x1b[{COLOURS[number % len(COLOURS)]}m{prefix}\x1b[0m"
        try:
            sys.stdout.write(f"{prefix} {text}\n")
            sys.stdout.flush()
        except OSError:  # the terminal is gone, the stack goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def follow(self, log: "Log") -> None:
        """Show what came to a log since the last call, as far as it is of interest."""
        lines = log.fresh()
        shown = [line for line in lines if self.verbose or SERIOUS.search(line)]
        left = len(shown) if self.verbose else self._left(log.name)
        for line in shown[:left]:
            self.say(log.name, line.decode(errors="replace").rstrip())
        if 0 < left <= len(shown) and not self.verbose:
            self.say(log.name, f"… more may stand in {log.path}")
        if not self.verbose:
            self.windows[log.name][1] -= len(shown)

    def _left(self, name: str) -> int:
        """How many lines of a service may be shown yet in this stretch of time."""
        window = self.windows.setdefault(name, [0.0, 0])
        if time.monotonic() - window[0] > WINDOW_SECONDS:
            window[:] = [time.monotonic(), LINES_IN_WINDOW]
        return max(0, int(window[1]))


class Log:
    """The log file of one service: services write it themselves, so nothing is lost when the supervisor dies."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / f"{name}.log"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.shown = self.begin = os.fstat(self.handle).st_size
        self.rest = b""

    def fresh(self) -> list[bytes]:
        """The whole lines since the last call."""
        size = os.fstat(self.handle).st_size
        if size < self.shown:
            self.shown = self.begin = 0
        if size == self.shown:
            return []
        with self.path.open("rb") as file:
            file.seek(self.shown)
            data = self.rest + file.read(size - self.shown)
        self.shown = size
        if size > LARGEST_LOG:
            os.ftruncate(self.handle, 0)
            self.shown = self.begin = 0
        *lines, self.rest = data.split(b"\n")
        return lines

    def mark(self) -> None:
        """A new process begins to write."""
        self.begin = os.fstat(self.handle).st_size

    def tail(self, count: int) -> list[str]:
        """The last lines since `mark`."""
        with self.path.open("rb") as file:
            file.seek(max(self.begin, os.fstat(self.handle).st_size - 10_000))
            return file.read().decode(errors="replace").splitlines()[-count:]

    def close(self) -> None:
        """Give the file back."""
        os.close(self.handle)
