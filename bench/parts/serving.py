"""List 50, get, create: ours and the peers, all running at once and loaded in turn, on the same contents."""

import functools

from bench import results
from bench.alone import connection
from bench.harness import checks
from bench.harness.loading import Work
from bench.harness.site import Shape, Site, site
from bench.harness.targets import Target
from bench.ours import NAME, Ours, ours
from bench.parts.sizes import Sizes
from bench.parts.trips import moved, trips
from bench.parts.turns import running, turns

OPERATIONS = ("list", "get", "create")
FLOOR = ("ff_hello", "ff_hello_w2")  # a constant answer
PEERS = ("django_drf", "fastapi_sqlalchemy", "fastapi_asyncpg", "starlette_pgjson")
SHAPES = (Shape(1000, 200), Shape(10_000, 20))
SMALL = (Shape(20, 60), Shape(60, 20))
PAGE = 50


def measure(sizes: Sizes, only: tuple[str, ...] = OPERATIONS) -> None:
    """Every operation on both contents."""
    with ours() as mine, site() as theirs:
        for shape in SMALL if sizes.small else SHAPES:
            _shape(sizes, shape, only, mine, theirs)


def _shape(sizes: Sizes, shape: Shape, only: tuple[str, ...], mine: Ours, theirs: Site) -> None:
    here, there = mine.database(shape), theirs.database(shape)
    items, rotating = min(PAGE, shape.projects), min(sizes.tenants, shape.tenants - 1)
    flights = _flights(mine, theirs, here, there, shape.tenants, only)
    targets = [mine.target("projects", here), *(theirs.target(name, there) for name in (*PEERS, *FLOOR))]
    with running(targets):
        for target in targets:
            ask = (
                functools.partial(_ours, mine, here)
                if target.name == NAME
                else functools.partial(_theirs, theirs, there)
            )
            checks.verify(target, items, ask, shape.tenants)
        for operation in only:
            print(f"{operation} {shape.name}", flush=True)
            able = [target for target in targets if target.get(operation)]
            tokens = {target.name: target.tokens(rotating) for target in able}
            work = {target.name: checks.work(target, operation, tokens[target.name], items) for target in able}
            rows = turns(able, sizes, lambda target, known=work: known[target.name])  # type: ignore[misc]
            said = {"flights": {name: found[operation] for name, found in flights.items()}}
            results.record(f"{operation} {shape.name}", rows, small=sizes.small, postgres=mine.version, **said)


def _ours(mine: Ours, database: str, sql: str) -> str:
    with connection(mine.url(database)) as admin:
        return str(admin.run(sql)[0][0])


def _theirs(theirs: Site, database: str, sql: str) -> str:
    return theirs.psql(database, "-c", sql).strip()


def _flights(
    mine: Ours, theirs: Site, here: str, there: str, spare: int, only: tuple[str, ...]
) -> dict[str, dict[str, float]]:
    """Round trips of one request to PostgreSQL, by target and operation; for a tenant who is in no rotation."""

    def requests(target: Target) -> dict[str, Work]:
        return {operation: checks.work(target, operation, [target.token(spare)]) for operation in only}

    found = {NAME: trips(mine.layout.ports["postgres"], lambda p: moved(mine.target("projects", here), p), requests)}
    for name in PEERS:
        make = functools.partial(theirs.target, name, there)
        found[name] = trips(theirs.port, lambda port, make=make: make(PGPORT=str(port)), requests)  # type: ignore[misc]
    return found
