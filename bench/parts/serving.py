"""List 50, get, create: ours and the peers, all running at once and loaded in turn, on the same contents."""

import functools
import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench import results
from bench.alone import connection
from bench.flights import counted
from bench.harness import checks, loading
from bench.harness.checks import Count
from bench.harness.site import Shape, Site, site
from bench.harness.targets import Target
from bench.ours import NAME, Ours, ours
from bench.parts.sizes import Sizes

OPERATIONS = ("list", "get", "create")
PEERS = ("django_drf", "fastapi_sqlalchemy", "fastapi_asyncpg", "starlette_pgjson", "ff_hello", "ff_hello_w2")
SHAPES = (Shape(1000, 200), Shape(10_000, 20))
SMALL = (Shape(20, 60), Shape(60, 20))
PAGE = 50
FLIGHTS = 40  # requests over which round trips are counted
Make = Callable[[int], Target]  # a target whose database listens on that port


def measure(sizes: Sizes, only: tuple[str, ...] = OPERATIONS) -> None:
    """Every operation on both contents."""
    with ours() as mine, site() as theirs:
        for shape in SMALL if sizes.small else SHAPES:
            _shape(sizes, shape, only, mine, theirs)


def _shape(sizes: Sizes, shape: Shape, only: tuple[str, ...], mine: Ours, theirs: Site) -> None:
    here, there = mine.database(shape), theirs.seed(shape)
    items = min(PAGE, shape.projects)
    peers = [theirs.target(name, there) for name in PEERS]
    targets = [mine.target("projects", here), *peers]
    trips = _trips(mine, theirs, here, there, only)
    with running(targets):
        for target in targets:
            database: Count = functools.partial(ask, mine, here) if target.name == NAME else asking(theirs, there)
            checks.verify(target, items, database)
        for operation in only:
            tokens = {target.name: target.tokens(min(sizes.tenants, shape.tenants)) for target in targets}
            able = [target for target in targets if target.get(operation)]
            rows = turns(able, sizes, lambda t, o=operation, k=tokens: checks.work(t, o, k[t.name], items))  # type: ignore[misc]
            for name, runs in rows.items():
                for run in runs:
                    run |= {"flights": trips[name][operation]} if operation in trips.get(name, {}) else {}
            results.record(f"{operation} {shape.name}", rows, small=sizes.small, postgres=mine.version)


def ask(mine: Ours, database: str, sql: str) -> str:
    """One value of our database."""
    with connection(mine.url(database)) as admin:
        return str(admin.run(sql)[0][0])


def asking(theirs: Site, database: str) -> Count:
    """One value of the peers' database."""
    return lambda sql: theirs.psql(database, "-c", sql).strip()


@contextmanager
def running(targets: list[Target]) -> Iterator[None]:
    """All started, and answering."""
    with ExitStack() as left:
        for target in targets:
            left.callback(target.stop)
            target.start()
        for target in targets:
            target.wait(next(iter(target.tokens(1)), None))
        yield


def turns(
    targets: list[Target], sizes: Sizes, prepare: Callable[[Target], loading.Work | None]
) -> dict[str, list[results.Run]]:
    """Rounds of all targets, each round beginning with another one; a first round of each is to warm up."""
    rows: dict[str, list[results.Run]] = {}
    work = {target.name: prepare(target) for target in targets}
    for number in range(-1, sizes.rounds):
        first = number % len(targets)
        for target in (*targets[first:], *targets[:first]):
            given = work[target.name]
            if given is None:
                continue
            if given.chain and number >= 0:
                given = prepare(target) or given  # one-time tokens are good for one turn
            draws = 1 if number < 0 or given.chain else sizes.draws
            found = loading.run(target, given, seconds=sizes.seconds, connections=sizes.connections, draws=draws)
            if number >= 0:
                rows.setdefault(target.name, []).append(found)
                print(
                    f"  round {number + 1} {target.name:<20} {found['rps']:9.1f}/s  bad {found['bad']:.0f}", flush=True
                )
    return rows


def _trips(mine: Ours, theirs: Site, here: str, there: str, only: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """Round trips of one request to PostgreSQL, by target and operation."""
    makers: dict[str, tuple[int, Make]] = {
        NAME: (mine.layout.ports["postgres"], lambda port: _moved(mine.target("projects", here, processes=1), port))
    }
    for name in PEERS:
        if not name.startswith("ff_"):
            makers[name] = theirs.port, lambda port, n=name: theirs.target(n, there, PGPORT=str(port))  # type: ignore[misc]
    return {name: _trips_of(server, make, only) for name, (server, make) in makers.items()}


def _trips_of(server: int, make: Make, only: tuple[str, ...]) -> dict[str, float]:
    found = {}
    with counted(server) as (port, flights):
        target = make(port)
        with running([target]):
            token = target.tokens(1)
            for operation in only:
                work = checks.work(target, operation, token)
                if work is None:
                    continue
                ask = http.client.HTTPConnection(target.url.hostname or "", target.url.port, timeout=30)
                for number in range(2 * FLIGHTS):
                    if number == FLIGHTS:
                        flights.begin()
                    method, path, lines, body = work.requests[number % len(work.requests)]
                    _send(
                        ask,
                        method,
                        path,
                        [line.replace("{unique}", f"trip-{number}") for line in lines],
                        body.replace("{unique}", f"trip {operation} {number}"),
                    )
                found[operation] = flights.count / FLIGHTS
                ask.close()
    return found


def _send(ask: http.client.HTTPConnection, method: str, path: str, lines: list[str], body: str) -> None:
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    ask.request(
        method, path, headers=headers | ({"Content-Type": "application/json"} if body else {}), body=body or None
    )
    ask.getresponse().read()


def _moved(target: Target, port: int) -> Target:
    """Its database behind another port."""
    url = target.env["DATABASE_URL"]
    head, _, tail = url.rpartition(":")
    target.env["DATABASE_URL"] = f"{head}:{port}/{tail.partition('/')[2]}"
    return target
