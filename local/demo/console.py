"""What the demo prints: a short line a step and whether it held, and a bar; plain text when there is no terminal."""

import sys
import threading
import time
from typing import TextIO

GREEN, RED, DIM, BOLD, END = "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[1m", "\x1b[0m"
BAR_CELLS = 24
NAME_CELLS = 6
SHORT = 8


class Broken(Exception):
    """A step that everything after it needs did not hold."""


class Console:
    """Prints lines of several people without mixing them, and remembers what held."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._terminal = out.isatty()
        self._lock = threading.Lock()
        self._drawn = False
        self._began = time.monotonic()
        self.held = 0
        self.failed: list[str] = []

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.monotonic() - self._began

    def title(self, text: str) -> None:
        """A chapter."""
        self._line(f"\n{self._dyed(BOLD, text)}")

    def say(self, text: str) -> None:
        """A remark that proves nothing."""
        self._line(f"  {self._dyed(DIM, text)}")

    def check(self, held: bool, who: str, text: str, found: object = "") -> bool:
        """A step and whether it held; what was found instead is shown when it did not."""
        mark = self._dyed(GREEN, "✓") if held else self._dyed(RED, "✗")
        line = f"{who:{NAME_CELLS}} {text}"
        with self._lock:
            if held:
                self.held += 1
            else:
                self.failed.append(line)
        self._line(f"  {mark} {line}" + ("" if held or found == "" else f" — found: {found}"))
        return held

    def need(self, held: bool, who: str, text: str, found: object = "") -> None:
        """A check without which the story cannot go on. Raises Broken."""
        if not self.check(held, who, text, found):
            raise Broken(text)

    def bar(self, who: str, text: str, percent: int) -> None:
        """Draw a progress bar over the last one; on a terminal only, the end is told by a check."""
        if not self._terminal:
            return
        full = BAR_CELLS * percent // 100
        with self._lock:
            self._out.write(
                f"\r\x1b[K    {who:{NAME_CELLS}} {'█' * full}{'░' * (BAR_CELLS - full)} {percent:3} % {text}"
            )
            self._out.flush()
            self._drawn = True

    def verdict(self) -> int:
        """The last lines, and the exit code."""
        count = self.held + len(self.failed)
        colour = RED if self.failed else GREEN
        self._line("\n" + self._dyed(colour, f"{self.held} of {count} checks held, {self.seconds:.1f} s in all"))
        for line in self.failed:
            self._line(f"  {self._dyed(RED, '✗')} {line}")
        return 1 if self.failed else 0

    def _line(self, text: str) -> None:
        with self._lock:
            self._out.write(("\r\x1b[K" if self._drawn else "") + text + "\n")
            self._out.flush()
            self._drawn = False

    def _dyed(self, colour: str, text: str) -> str:
        return f"{colour}{text}{END}" if self._terminal else text


def short(identifier: str) -> str:
    """The beginning of an id, enough to recognize it."""
    return identifier[:SHORT]
