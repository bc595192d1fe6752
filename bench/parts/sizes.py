"""How long and how much a run measures."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Of one run of `python -m bench.run`."""

    rounds: int = 5
    seconds: int = 3  # of each draw
    draws: int = 3
    connections: int = 16
    tenants: int = 200  # whose tokens rotate
    small: bool = False  # contents of a thousandth, to see that everything works
