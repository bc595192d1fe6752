"""The time between retries, as Cloud Tasks and Cloud Scheduler document it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Seconds: the first interval, the largest, and how often it doubles before it grows linearly."""

    smallest: float
    largest: float
    doublings: int

    def interval(self, failures: int) -> float:
        """Seconds to wait after the given number of failed attempts (from 1).

        It doubles `doublings` times, then grows by the last doubled value each time, up to `largest`:
        10, 20, 40, 80, 160, 240, 300, 300 for 10 s, 300 s and 3.
        """
        doubled = min(failures - 1, self.doublings)
        steps = max(1, failures - self.doublings)
        return min(self.smallest * 2.0 ** min(doubled, 64) * steps, self.largest)
