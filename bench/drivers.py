"""pg8000 in threads, as the functions have it, beside asyncpg: `python -m bench.drivers`, writes DRIVERS.md.

The session API is an event loop, so that either driver could serve it. Both do the same guarded work here: reset and
BEGIN, the signed context (unnamed: parsed each time), one prepared statement, COMMIT. Ours runs in a thread of a pool
and takes three flights. asyncpg has no pipeline: the unnamed statement is prepared and run, five flights; `asyncpg,
named` gives the guard up and prepares the signed context by name, four. One event loop (uvloop) in one process, a new
process per driver, PostgreSQL durable (fsync on), no TLS. asyncpg is in no requirements file: `pip install asyncpg`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.alone import admin_url, alone, connection, cpu_seconds, postgres_pid
from bench.audit import machine
from bench.driving import OPERATIONS, POOL
from bench.machine import CHECKOUT, VAR
from common.tokens import Claim
from local.layout import Layout
from local.stack import function_environment

RESULTS = CHECKOUT / "bench" / "DRIVERS.md"
SERVICE = "sessions"
DRIVERS = ("pg8000", "asyncpg", "asyncpg, named")
PEOPLE = 64  # sessions, so that writers rarely wait for each other's row
EVENTS = 200  # in each at first
SEED = (
    "INSERT INTO app.organizations (tenant_id, slug, name) VALUES (:tenant, 'drivers', 'Drivers')",
    "INSERT INTO identity.accounts (id, email, display_name) VALUES (:person, 'person@example.com', 'Person')",
    "INSERT INTO app.members (tenant_id, user_id, role) VALUES (:tenant, :person, 'developer')",
    "INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at)"
    " VALUES (:login, :person, :tenant, '{pwd}', now() + interval '1 day')",
    "INSERT INTO app.projects (tenant_id, id, name, created_by) VALUES (:tenant, :project, 'Drivers', :person)",
    "INSERT INTO app.sessions (tenant_id, project_id, title, created_by, last_seq, closes_at)"
    " SELECT :tenant, :project, 'Session', :person, CAST(:events AS integer), now() + interval '1 day'"
    " FROM generate_series(1, CAST(:people AS integer))",
    "INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by)"
    " SELECT tenant_id, id, n, 'tick', json_build_object('n', n, 'pad', repeat('x', 120)), created_by"
    " FROM app.sessions, generate_series(1, CAST(:events AS integer)) n WHERE tenant_id = :tenant",
)


@dataclass
class Side:
    """The runs of one driver at one operation: per second, p50 and p99 in ms, CPU ms of one, here and in PostgreSQL."""

    rates: list[float] = field(default_factory=list)
    halves: list[float] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    database: list[float] = field(default_factory=list)

    def add(self, found: dict[str, Any], database: float) -> None:
        """One run."""
        ages, done = sorted(found["milliseconds"]), found["done"]
        self.rates.append(done / found["seconds"])
        self.halves.append(ages[done // 2])
        self.tails.append(ages[done * 99 // 100])
        self.own.append(found["cpu"] * 1000 / done)
        self.database.append(database * 1000 / done)

    def cells(self, base: "Side") -> list[str]:
        """Medians; the ratios to the base are taken round by round."""
        rates = [mine / other for mine, other in zip(self.rates, base.rates, strict=True)]
        total = [a + b for a, b in zip(self.own, self.database, strict=True)]
        ratio = [mine / (a + b) for mine, a, b in zip(total, base.own, base.database, strict=True)]
        middle = statistics.median
        return [
            f"{middle(self.rates):.0f}",
            f"{middle(rates):.2f} ({min(rates):.2f}–{max(rates):.2f})",
            f"{middle(self.halves):.2f} / {middle(self.tails):.2f}",
            f"{middle(self.own):.3f} + {middle(self.database):.3f}",
            f"{middle(ratio):.2f} ({min(ratio):.2f}–{max(ratio):.2f})",
        ]


class Bench:
    """The drivers' processes and the database."""

    def __init__(self, layout: Layout, processes: dict[str, "subprocess.Popen[str]"], seconds: float) -> None:
        self._processes, self._seconds, self._postgres = processes, seconds, postgres_pid(layout)

    def run(self, driver: str, operation: str, clients: int, side: Side) -> None:
        """One driver, one operation."""
        process = self._processes[driver]
        order = {"operation": operation, "clients": clients, "seconds": self._seconds}
        if self._ask(process, json.dumps(order)) != "warm":
            raise SystemExit(f"{driver} is out of step")
        cpu = cpu_seconds(self._postgres)
        found = self._ask(process, "")
        side.add(found, cpu_seconds(self._postgres) - cpu)

    @staticmethod
    def _ask(process: "subprocess.Popen[str]", line: str) -> Any:
        if process.stdin is None or process.stdout is None:
            raise SystemExit("no pipe")
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise SystemExit("a driver's process ended")
        return json.loads(answer)

    def table(self, rounds: int, clients: tuple[int, ...]) -> str:
        """All operations, drivers in turns."""
        lines = []
        for operation in OPERATIONS:
            for number in clients:
                sides = {driver: Side() for driver in DRIVERS}
                for turn in range(rounds):
                    first = turn % len(DRIVERS)
                    for driver in (*DRIVERS[first:], *DRIVERS[:first]):
                        self.run(driver, operation, number, sides[driver])
                for driver, side in sides.items():
                    cells = [operation, str(number), driver, *side.cells(sides["pg8000"])]
                    lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


def prepare(url: str) -> tuple[Claim, list[str]]:
    """A person, and sessions with events."""
    names = {name: str(uuid.uuid4()) for name in ("tenant", "person", "login", "project")}
    known: dict[str, Any] = names | {"people": PEOPLE, "events": EVENTS}
    with connection(url) as admin:
        for sql in SEED:
            admin.run(sql, **{name: value for name, value in known.items() if f":{name}" in sql})
        admin.run("VACUUM ANALYZE")
        sessions = [str(row[0]) for row in admin.run("SELECT id FROM app.sessions")]
    return Claim("u", names["tenant"], names["person"], names["login"]), sessions


def main() -> int:
    """Measure it, write DRIVERS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--folder", type=Path, default=VAR / "drivers")
    arguments = parser.parse_args()
    with alone(arguments.folder) as layout, ExitStack() as left:
        claim, sessions = prepare(admin_url(layout))
        environment = function_environment(layout, SERVICE, os.environ)
        processes = {}
        for driver in DRIVERS:
            order = json.dumps(
                [driver, [claim.kind, claim.tenant_id, claim.principal_id, claim.login_session_id], sessions]
            )
            command = [sys.executable, "-m", "bench.driving", "--as", order]
            pipe = subprocess.PIPE
            processes[driver] = left.enter_context(
                subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdin=pipe, stdout=pipe, text=True)
            )
        bench = Bench(layout, processes, arguments.seconds)
        found = HEAD + bench.table(arguments.rounds, tuple(arguments.clients))
        with connection(admin_url(layout)) as admin:
            found += f"\nMachine: {machine(admin)}\n"
    RESULTS.write_text(found)
    sys.stdout.write(found)
    return 0


HEAD = f"""# pg8000 in threads beside asyncpg

Written by `python -m bench.drivers`: one interleaved run, {POOL} connections each, uvloop, PostgreSQL durable, no TLS.
The same transaction, guarded alike: reset and BEGIN, the signed context, one prepared statement, COMMIT. Ours (pg8000
under common/wire.py, in a thread of a pool) takes 3 flights, asyncpg 5, and 4 where the signed context is prepared by
name, which is weaker. Ratios are to pg8000, taken round by round. CPU milliseconds of one operation: process +
PostgreSQL. Quote ratios, not absolutes.

| operation | at once | driver | per second | ratio | p50 / p99 ms | CPU ms | CPU ratio |
|---|---|---|---|---|---|---|---|
"""

if __name__ == "__main__":
    sys.exit(main())
