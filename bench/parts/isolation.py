"""What the signed context and row-level security cost: the same query with both and with neither, a million rows.

One connection, reads in turn: reset, BEGIN, app.authorize, the prepared query and COMMIT in one flight; and the same by
a role that row-level security does not hold for, without app.authorize.
"""

import json
import subprocess
import sys

from bench import results
from bench.alone import connection
from bench.harness.site import Shape
from bench.machine import CHECKOUT
from bench.ours import ours
from bench.parts.sizes import Sizes
from bench.results import Run

SHAPE, SMALL = Shape(1000, 1000), Shape(20, 60)
TRANSACTIONS = 1000
FREE = "bench_free"


def measure(sizes: Sizes) -> None:
    """List 50 and get one."""
    shape = SMALL if sizes.small else SHAPE
    with ours() as mine:
        database = mine.database(shape)
        with connection(mine.url(database)) as admin:
            admin.run(f"CREATE ROLE {FREE} LOGIN SUPERUSER PASSWORD '{FREE}'")
        place = mine.url(database).partition("@")[2]
        order = {"free": f"postgresql://{FREE}:{FREE}@{place}", "tenants": shape.tenants}
        order |= {"transactions": 100 if sizes.small else TRANSACTIONS}
        environment = mine.target("projects", database).env
        rows: dict[str, dict[str, list[Run]]] = {}
        for number in range(sizes.rounds):
            print(f"isolation {number + 1} of {sizes.rounds}", flush=True)
            for operation, sides in _round(environment, order).items():
                for name, run in sides.items():
                    rows.setdefault(operation, {}).setdefault(name, []).append(run)
        for operation, found in rows.items():
            results.record(f"isolation {operation}", found, small=sizes.small, postgres=mine.version)


def _round(environment: dict[str, str], order: dict[str, object]) -> dict[str, dict[str, Run]]:
    command = [sys.executable, "-m", "bench.isolating"]
    text = json.dumps(order) + "\n"
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, input=text, stdout=subprocess.PIPE, text=True, check=True
    )
    found: dict[str, dict[str, Run]] = json.loads(done.stdout.splitlines()[-1])
    return found
