"""pg8000 in threads, as the functions have it, beside asyncpg: `python -m bench.drivers`, writes DRIVERS.md.

The session API is an event loop, so that either driver could serve it. Both do the same guarded work here: reset and
BEGIN, the signed context (unnamed: parsed each time), one prepared statement, COMMIT. Ours runs in a thread of a pool
and takes three flights. asyncpg has no pipeline: the unnamed statement is prepared and run, five flights; `asyncpg,
named` gives the guard up and prepares the signed context by name, four. One event loop (uvloop) in one process, a new
process per driver, PostgreSQL durable (fsync on), no TLS. asyncpg is in no requirements file: `pip install asyncpg`.
"""

import argparse
import asyncio
import importlib
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.alone import CHECKOUT, VAR, admin_url, alone, cpu_seconds, postgres_pid
from bench.audit import machine
from bench.erasure import connection
from common.db import AUTHORIZE, RESET, Database, Tx
from common.settings import settings
from common.tokens import Claim, context_token
from common.wire import _compiled
from local.layout import Layout
from local.stack import function_environment

RESULTS = CHECKOUT / "bench" / "DRIVERS.md"
SERVICE = "sessions"
DRIVERS = ("pg8000", "asyncpg", "asyncpg, named")
POOL = 8
PEOPLE = 64  # sessions, so that writers rarely wait for each other's row
EVENTS = 200  # in each at first
WARM_SECONDS = 0.7
APPEND = """
WITH session AS (
    UPDATE app.sessions SET last_seq = last_seq + :count, last_event_at = now(), active_at = now()
    WHERE tenant_id = :tenant_id AND id = :session_id AND closed_at IS NULL AND closes_at > now()
    RETURNING last_seq - :count AS before
)
INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by)
SELECT :tenant_id, :session_id, session.before + event.n, event.type, event.data, :user_id
FROM session, ROWS FROM (json_to_recordset(:events) AS (type text, data json)) WITH ORDINALITY AS event (type, data, n)
RETURNING seq, app.session_event_json(session_events)
"""
READ = """
SELECT app.session_event_json(e) FROM app.session_events e
WHERE tenant_id = :tenant_id AND session_id = :session_id AND seq > :after ORDER BY seq LIMIT 50
"""
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


def batch(count: int) -> dict[str, Any]:
    """The parameters of an append."""
    return {"count": count, "events": json.dumps([{"type": "tick", "data": {"n": 1, "pad": "x" * 120}}] * count)}


OPERATIONS: dict[str, tuple[str, dict[str, Any], bool]] = {  # statement, parameters, read only
    "append 1 event": (APPEND, batch(1), False),
    "append 20 events": (APPEND, batch(20), False),
    "read 50 events": (READ, {"after": 100}, True),
}


class Threads:
    """What the functions do, in threads beside the event loop."""

    def __init__(self, claim: Claim) -> None:
        self._claim, self._pool = claim, ThreadPoolExecutor(POOL)
        self._database = Database(settings().database_url, POOL)

    async def open(self) -> None:
        """Connections open when they are first asked for."""

    async def run(self, sql: str, parameters: dict[str, Any], read_only: bool) -> int:
        """One transaction; the rows it returned."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, sql, parameters, read_only)

    def _run(self, sql: str, parameters: dict[str, Any], read_only: bool) -> int:
        with self._database.transaction(self._claim, read_only=read_only) as tx:
            return len(_rows(tx, sql, parameters))


def _rows(tx: Tx, sql: str, parameters: dict[str, Any]) -> list[list[Any]]:
    return tx.rows(sql, **parameters)


class Asyncpg:
    """The same statements by asyncpg, from the event loop itself."""

    def __init__(self, claim: Claim, *, named: bool) -> None:
        self._claim, self._named = claim, named
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self._known = {"tenant_id": claim.tenant_id, "user_id": claim.principal_id}

    async def open(self) -> None:
        """As many connections as the other has threads, with the settings of common/connecting.py."""
        asyncpg = importlib.import_module("asyncpg")
        options = {"plan_cache_mode": "force_generic_plan", "statement_timeout": "10s", "lock_timeout": "5s"}
        options |= {"TimeZone": "UTC", "application_name": settings().service}
        for _ in range(POOL):
            link = await asyncpg.connect(settings().database_url, ssl=False, server_settings=options)
            self._idle.put_nowait(link)

    async def run(self, sql: str, parameters: dict[str, Any], read_only: bool) -> int:
        """One transaction; the rows it returned."""
        link = await self._idle.get()
        try:
            await link.execute(f"{RESET}; BEGIN READ ONLY" if read_only else f"{RESET}; BEGIN")
            text, arrange = _compiled(AUTHORIZE)
            token = context_token(self._claim, link.get_server_pid())
            if self._named:
                granted = await link.fetchval(text, token)
            else:
                granted = await (await link.prepare(text, name="")).fetchval(token)
            json.loads(granted)
            text, arrange = _compiled(sql)
            rows = await link.fetch(text, *arrange(self._known | parameters))
            await link.execute("COMMIT")
        finally:
            self._idle.put_nowait(link)
        return len(rows)


def worker(driver: str, claim: Claim, sessions: list[str]) -> None:
    """Answer orders, one JSON object a line, until the input ends."""
    loop = importlib.import_module("uvloop").new_event_loop()
    hand = Threads(claim) if driver == "pg8000" else Asyncpg(claim, named="named" in driver)
    loop.run_until_complete(hand.open())
    for line in sys.stdin:
        order = json.loads(line)
        sql, parameters, read_only = OPERATIONS[order["operation"]]

        async def once(turn: int, bound: tuple[str, dict[str, Any], bool] = (sql, parameters, read_only)) -> int:
            known = bound[1] | {"session_id": sessions[turn % len(sessions)]}
            return await hand.run(bound[0], known, bound[2])

        found = loop.run_until_complete(measure(once, order["clients"], order["seconds"]))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


async def measure(once: Callable[[int], Awaitable[int]], clients: int, seconds: float) -> dict[str, Any]:
    """So many at a time, one after the other each: {"done", "milliseconds": of each, "cpu": seconds, "seconds"}."""
    await _clients(once, clients, WARM_SECONDS)
    sys.stdout.write('"warm"\n')
    sys.stdout.flush()
    sys.stdin.readline()
    began, cpu = time.perf_counter(), time.process_time()
    milliseconds = await _clients(once, clients, seconds)
    return {
        "done": len(milliseconds),
        "milliseconds": milliseconds,
        "cpu": time.process_time() - cpu,
        "seconds": time.perf_counter() - began,
    }


async def _clients(once: Callable[[int], Awaitable[int]], clients: int, seconds: float) -> list[float]:
    milliseconds: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while (began := time.perf_counter()) < end:
            if not await once(number + clients * len(milliseconds)):
                raise SystemExit("a transaction did nothing")
            milliseconds.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return milliseconds


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
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        driver, claim, sessions = json.loads(arguments.worker)
        worker(driver, Claim(*claim), sessions)
        return 0
    with alone(arguments.folder) as layout, ExitStack() as left:
        claim, sessions = prepare(admin_url(layout))
        environment = function_environment(layout, SERVICE, os.environ)
        processes = {}
        for driver in DRIVERS:
            order = json.dumps(
                [driver, [claim.kind, claim.tenant_id, claim.principal_id, claim.login_session_id], sessions]
            )
            command = [sys.executable, "-m", "bench.drivers", "--worker", order]
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
