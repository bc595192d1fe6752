"""How often something may be done, as settings say it: the notation of the library `limits`, one rate at a time.

Source: https://limits.readthedocs.io/en/stable/quickstart.html#rate-limit-string-notation
"""

import re
from typing import NamedTuple

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400, "month": 2_592_000, "year": 31_104_000}
LIMIT = re.compile(rf"(\d{{1,12}})\s*(?:/|per)\s*(\d{{1,6}})?\s*({'|'.join(UNITS)})s?", re.ASCII)


class Limit(NamedTuple):
    """So many in so many units of time."""

    amount: int
    multiple: int
    unit: str

    @property
    def seconds(self) -> int:
        """The window."""
        return self.multiple * UNITS[self.unit]


def parse(text: str) -> Limit:
    """`100/hour`, `5 per 15 minutes`. Raises ValueError."""
    found = LIMIT.fullmatch(text.strip().lower())
    if not found or int(found[1]) < 1 or int(found[2] or 1) < 1:
        raise ValueError(f"{text!r} is not a number per time, such as 100/hour")
    return Limit(int(found[1]), int(found[2] or 1), found[3])
