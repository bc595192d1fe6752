"""Targets in turn: what else the machine does falls on all of them alike."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench.harness import loading
from bench.harness.targets import Target
from bench.parts.sizes import Sizes
from bench.results import Run


@contextmanager
def running(targets: list[Target]) -> Iterator[None]:
    """All started, and answering."""
    with ExitStack() as left:
        for target in targets:
            left.callback(target.stop)
            target.start()
        for target in targets:
            target.wait(target.token())
        yield


def rotated(targets: list[Target], number: int) -> list[Target]:
    """The order of a round: another one begins."""
    first = number % len(targets)
    return [*targets[first:], *targets[:first]]


def turns(targets: list[Target], sizes: Sizes, work: Callable[[Target], loading.Work]) -> dict[str, list[Run]]:
    """The rounds of all targets; a first round of each is to warm up. Work with one-time tokens is asked for anew."""
    rows: dict[str, list[Run]] = {target.name: [] for target in targets}
    for number in range(-1, sizes.rounds):
        for target in rotated(targets, number):
            given = work(target)
            draws = 1 if number < 0 or given.chain else sizes.draws
            found = loading.run(target, given, seconds=sizes.seconds, connections=sizes.connections, draws=draws)
            if number >= 0:
                rows[target.name].append(found)
                print(f"  {number + 1} {target.name:<24} {found['rps']:9.1f}/s  bad {found['bad']:.0f}", flush=True)
    return rows
