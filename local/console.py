"""What the person at the terminal sees: the supervisor's events, and lines of the services' logs."""

import os
import re
import sys
from pathlib import Path

COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
NAME_WIDTH = 14
LARGEST_LOG = 50_000_000  # bytes; then it starts anew
LINES_AT_ONCE = 20
SERIOUS = re.compile(rb'"severity": ?"(ERROR|CRITICAL|ALERT|EMERGENCY)"|\b(CRITICAL|FATAL|PANIC)\b|\[error\]')


class Console:
    """Quiet: events and serious lines. Verbose: every line."""

    def __init__(self, *, verbose: bool) -> None:
        self.verbose = verbose
        self.coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self.names: dict[str, int] = {}

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
        for line in shown if self.verbose else shown[:LINES_AT_ONCE]:
            self.say(log.name, line.decode(errors="replace").rstrip())


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
