"""How a finding is worded."""

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`unknown <what> "<name>"`, and the known name that is most like it."""
    near = _nearest(name, frozenset(known))
    return f'unknown {what} "{name}"' + (f' (did you mean "{near}"?)' if near else "")


@lru_cache(maxsize=4096)
def _nearest(name: str, known: frozenset[str]) -> str:
    return next(iter(get_close_matches(name, sorted(known), 1)), "")
