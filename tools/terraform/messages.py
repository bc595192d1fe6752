"""How a finding is worded."""

from collections.abc import Iterable
from difflib import get_close_matches


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """`unknown <what> "<name>"`, and the known name that is most like it."""
    near = get_close_matches(name, list(known), 1)
    return f'unknown {what} "{name}"' + (f' (did you mean "{near[0]}"?)' if near else "")
