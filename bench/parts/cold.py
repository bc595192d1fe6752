"""Cold starts: from the command to the first answer that is 200, page cache and byte code warm; and eager imports."""

import json
import subprocess
import sys
import time

from bench import results
from bench.harness import processes
from bench.harness.site import Shape, site
from bench.harness.targets import Target
from bench.machine import CHECKOUT
from bench.ours import Ours, ours
from bench.parts.sizes import Sizes
from bench.parts.turns import rotated
from bench.results import Run
from local.layout import catalog

PEERS = ("ff_hello", "django_drf", "fastapi_asyncpg", "fastapi_sqlalchemy")
# What a process has imported when it is ready to answer its first request.
LOADED = """
import json, sys
from common.server import app
app()
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] in ("grpc", "grpc_status"))))
"""


def measure(sizes: Sizes) -> None:
    """Every function of the catalog, one process each, as an instance is; and the peers."""
    shape = Shape(20, 60) if sizes.small else Shape(1000, 200)
    with ours() as mine, site() as theirs:
        here, there = mine.database(shape), theirs.database(shape)
        names = list(catalog())
        targets = [mine.target(name, here, processes=1, name=name) for name in names]
        targets += [theirs.target(name, there) for name in PEERS]
        rows: dict[str, list[Run]] = {target.name: [] for target in targets}
        for number in range(sizes.rounds):
            for target in rotated(targets, number):
                rows[target.name].append(_start(target))
            print(f"cold start {number + 1} of {sizes.rounds}", flush=True)
        eager = {name: _loaded(mine, name, here) for name in names}
        said = {"eager grpc": {name: found for name, found in eager.items() if found}, "functions": names}
        results.record("cold start", rows, small=sizes.small, postgres=mine.version, **said)


def _start(target: Target) -> Run:
    token, begin = target.token(), time.perf_counter()
    target.start()
    try:
        target.wait(token)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "cpu": processes.cpu_seconds(target.roots), **processes.memory(target.roots)}
    finally:
        target.stop()


def _loaded(mine: Ours, service: str, database: str) -> list[str]:
    """The modules of gRPC that a function imports before it is asked for anything."""
    env = mine.target(service, database).env
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found
