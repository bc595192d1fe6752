"""A count of this process alone, by sliding window, for what has to have a limit without Valkey too.

Source: https://limits.readthedocs.io/en/stable/strategies.html#sliding-window-counter
"""

import threading
import time

MOST_KEYS = 10_000

_lock = threading.Lock()
_counts: dict[str, tuple[int, int, int]] = {}  # key → the number of its window, the count before it, and in it


def look(key: str, limit: int, window: int) -> tuple[int, int]:
    """What is left of the limit, and in how many ms the window (in ms) ends."""
    now = _milliseconds()
    with _lock:
        _, before, current = _present(key, now, window)
    rest = window - now % window
    return max(limit - before * rest // window - current, 0), rest


def count(key: str, window: int, number: int) -> None:
    """Count so many."""
    with _lock:
        if key not in _counts and len(_counts) >= MOST_KEYS:
            del _counts[next(iter(_counts))]
        place, before, current = _present(key, _milliseconds(), window)
        _counts[key] = (place, before, current + number)


def _present(key: str, now: int, window: int) -> tuple[int, int, int]:
    place = now // window
    known, before, current = _counts.get(key, (place, 0, 0))
    if known == place:
        return known, before, current
    return place, current if known == place - 1 else 0, 0


def _milliseconds() -> int:
    return time.monotonic_ns() // 1_000_000
