"""What a request costs as the database grows: 10 to 100,000 tenants, and 10 thousand to 10 million rows.

Every size is a database of its own in one server, each with its own process, and all are loaded in turn.
"""

from dataclasses import replace

from bench import results
from bench.harness import checks
from bench.harness.site import Shape
from bench.harness.targets import Target
from bench.ours import Ours, ours
from bench.parts.sizes import Sizes
from bench.parts.turns import running, turns

TENANTS = [Shape(number, 20) for number in (10, 100, 1000, 10_000, 100_000)]
ROWS = [Shape(1000, number) for number in (10, 100, 1000, 10_000)]
SMALL_TENANTS = [Shape(number, 20) for number in (10, 100)]
SMALL_ROWS = [Shape(100, number) for number in (10, 100)]
OPERATIONS = ("list", "get", "create")
CONNECTIONS = 8  # as many as a process has threads
PAGE = 10  # as many rows in every answer


def measure(sizes: Sizes) -> None:
    """Both rows of databases."""
    with ours() as mine:
        _grown(mine, sizes, "tenants", SMALL_TENANTS if sizes.small else TENANTS)
        _grown(mine, sizes, "rows", SMALL_ROWS if sizes.small else ROWS)


def _grown(mine: Ours, sizes: Sizes, what: str, shapes: list[Shape]) -> None:
    targets = [_target(mine, what, shape, mine.ports[place]) for place, shape in enumerate(shapes)]
    sizes = replace(sizes, connections=CONNECTIONS)
    spread = {str(_count(what, shape)): _spread(sizes.tenants, shape.tenants) for shape in shapes}
    with running(targets):
        for operation in OPERATIONS:
            print(f"growth {what} {operation}", flush=True)
            tokens = {target.name: [target.token(number) for number in spread[target.name]] for target in targets}
            work = {target.name: checks.work(target, operation, tokens[target.name], PAGE) for target in targets}
            rows = turns(targets, sizes, lambda target, known=work: known[target.name])  # type: ignore[misc]
            results.record(f"growth {what} {operation}", rows, small=sizes.small, postgres=mine.version)


def _target(mine: Ours, what: str, shape: Shape, port: int) -> Target:
    """One process, so that no luck with connections decides; named by how many there are."""
    print(f"growth {what}: {shape.name}", flush=True)
    target = mine.target("projects", mine.database(shape), processes=1, name=str(_count(what, shape)), port=port)
    target.spec["list"] = target.spec["list"] | {"path": f"/v1/projects?limit={PAGE}"}
    return target


def _count(what: str, shape: Shape) -> int:
    return shape.tenants if what == "tenants" else shape.tenants * shape.projects


def _spread(wanted: int, tenants: int) -> range:
    """As many tenants as take turns, from all over the database."""
    return range(1, tenants + 1, max(1, tenants // wanted))
