"""Ours beside the peers: `make bench`, or parts of it by `python -m bench.run --only list,get --rounds 3 --seconds 2`.

Each part is one interleaved run, whose rows take the place of older ones in results.json; from that file RESULTS.md,
its plots and the tables of docs/scale.md are written. The first run sets the peers up, below bench/var.
"""

import argparse
import fcntl
import sys
from collections.abc import Callable, Iterable

from bench import audit, drivers, erasure, exports, machine, plots, report, results, scale, sessions
from bench.parts import cold, growth, isolation, serving, signing_in
from bench.parts.sizes import Sizes

Measure = Callable[[Sizes], None]
PARTS: dict[str, Measure] = {
    "cold": cold.measure,
    "isolation": isolation.measure,
    "exports": exports.measure,
    "erasure": erasure.measure,
    "audit": audit.measure,
    "streams": sessions.measure,
    "drivers": drivers.measure,
    "growth": growth.measure,
}
GROUPS = ((serving.OPERATIONS, serving.measure), (("login", "refresh"), signing_in.measure))
NAMES = (*(name for names, _ in GROUPS for name in names), *PARTS)


def plan(wanted: Iterable[str]) -> list[Measure]:
    """What has to run; operations on the same contents in one run. Raises ValueError for an unknown name."""
    asked = tuple(wanted) or NAMES
    if unknown := [name for name in asked if name not in NAMES]:
        raise ValueError(f"no such part: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    found: list[Measure] = []
    for names, measure in GROUPS:
        if only := tuple(name for name in names if name in asked):
            found.append(lambda sizes, measure=measure, only=only: measure(sizes, only))  # type: ignore[misc]
    return found + [measure for name, measure in PARTS.items() if name in asked]


def render(*, small: bool = False) -> None:
    """The page, its plots and the tables of docs/scale.md; of a small run a page beside its results, and no more."""
    cases = results.load(results.SMALL if small else results.FILE)
    folder = results.SMALL.parent if small else report.FILE.parent
    plots.draw(cases, folder / "plots")
    report.write(cases, folder / report.FILE.name)
    if not small:
        scale.write(cases)


def main() -> int:
    """Measure what was asked for, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"parts, with commas between them: {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each draw of load")
    parser.add_argument("--draws", type=int, default=3, help="runs of wrk in a turn, each on new connections")
    parser.add_argument("--small", action="store_true", help="little of everything: to see that it works")
    parser.add_argument("--render", action="store_true", help="only write the pages anew")
    arguments = parser.parse_args()
    try:
        parts = plan(filter(None, arguments.only.split(",")))
    except ValueError as error:
        parser.error(str(error))
    if not arguments.render:
        if lacking := machine.missing():
            sys.stderr.write("This machine lacks: " + "; ".join(lacking) + "\n")
            return 1
        machine.VAR.mkdir(parents=True, exist_ok=True)
        mark = (machine.VAR / "lock").open("w")
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.stderr.write("Another run is under way in bench/var.\n")
            return 1
        sizes = Sizes(arguments.rounds, arguments.seconds, arguments.draws, small=arguments.small)
        failed = list(filter(None, [attempted(measure, sizes) for measure in parts]))
        sys.stderr.write("".join(f"{why}\n" for why in failed))
        return int(bool(failed))
    render()
    return 0


def attempted(measure: Measure, sizes: Sizes) -> str:
    """Measure and write down; why that failed: hours of other parts are not lost by it."""
    try:
        measure(sizes)
    except (SystemExit, Exception) as error:  # noqa: BLE001 - whatever it was
        return f"{type(error).__name__}: {error}"
    render(small=sizes.small)
    return ""


if __name__ == "__main__":
    sys.exit(main())
