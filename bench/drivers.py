"""pg8000 in threads, as the functions have it, beside asyncpg.

The session API is an event loop, so that either driver could serve it. Both do the same guarded work here: reset and
BEGIN, the signed context (unnamed: parsed each time), one prepared statement, COMMIT. Ours runs in a thread of a pool
and takes three flights. asyncpg has no pipeline: the unnamed statement is prepared and run, five flights; `asyncpg,
named` gives the guard up and prepares the signed context by name, four. One event loop (uvloop) in one process, a new
process per driver, PostgreSQL durable (fsync on), no TLS. asyncpg is the peers'.
"""

import json
import subprocess
import sys
import uuid
from contextlib import ExitStack
from typing import Any

from bench import results
from bench.alone import admin_url, alone, connection, cpu_seconds, postgres_pid
from bench.driving import OPERATIONS
from bench.harness.site import install
from bench.machine import CHECKOUT, VAR
from bench.parts.sizes import Sizes
from bench.results import Run
from common.tokens import Claim
from local.layout import Layout
from local.stack import function_environment

CLIENTS = (1, 8)
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


class Bench:
    """The drivers' processes and the database."""

    def __init__(self, layout: Layout, processes: dict[str, "subprocess.Popen[str]"], seconds: float) -> None:
        self._processes, self._seconds, self._postgres = processes, seconds, postgres_pid(layout)

    def run(self, driver: str, operation: str, clients: int) -> Run:
        """One driver, one operation."""
        process = self._processes[driver]
        order = {"operation": operation, "clients": clients, "seconds": self._seconds}
        if self._ask(process, json.dumps(order)) != "warm":
            raise SystemExit(f"{driver} is out of step")
        cpu = cpu_seconds(self._postgres)
        found = self._ask(process, "")
        database, done, ages = cpu_seconds(self._postgres) - cpu, found["done"], sorted(found["milliseconds"])
        run = {"rps": done / found["seconds"], "p50_ms": ages[done // 2], "p99_ms": ages[done * 99 // 100]}
        return run | {"server_cpu": found["cpu"] * 1000 / done, "postgres_cpu": database * 1000 / done}

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

    def compare(self, operation: str, clients: int, rounds: int) -> dict[str, list[Run]]:
        """One operation, the drivers in turns."""
        rows: dict[str, list[Run]] = {driver: [] for driver in DRIVERS}
        for turn in range(rounds):
            first = turn % len(DRIVERS)
            for driver in (*DRIVERS[first:], *DRIVERS[:first]):
                rows[driver].append(self.run(driver, operation, clients))
        return rows


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


def measure(sizes: Sizes) -> None:
    """All operations, one and eight at a time."""
    with alone(VAR / "drivers") as layout, ExitStack() as left:
        claim, sessions = prepare(admin_url(layout))
        environment = function_environment(layout, SERVICE, {"TELEMETRY": "off"})
        (packages,) = install(VAR / "peers").glob("lib/python*/site-packages")
        processes = {}
        for driver in DRIVERS:
            who = [claim.kind, claim.tenant_id, claim.principal_id, claim.login_session_id]
            command = [sys.executable, "-m", "bench.driving", "--as", json.dumps([driver, who, sessions])]
            pipe = subprocess.PIPE
            processes[driver] = left.enter_context(
                subprocess.Popen(
                    [*command, "--packages", str(packages)],
                    cwd=CHECKOUT,
                    env=environment,
                    stdin=pipe,
                    stdout=pipe,
                    text=True,
                )
            )
        bench = Bench(layout, processes, sizes.seconds)
        with connection(admin_url(layout)) as admin:
            version = str(admin.run("SHOW server_version")[0][0])
        for operation in OPERATIONS:
            for clients in CLIENTS:
                case = f"driver {operation} {clients}"
                print(case, flush=True)
                results.record(
                    case, bench.compare(operation, clients, sizes.rounds), small=sizes.small, postgres=version
                )
        for process in processes.values():
            if process.stdin:
                process.stdin.close()
