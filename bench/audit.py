"""What the audit chain costs its writers: the same writes with and without it, in turns.

A write is a project with its event, as the function does it: seal, INSERT, app.append_audit and COMMIT in one flight.
Without the chain, the same event goes into an equal table (columns, indexes, foreign key, policy), with no head to lock
and nothing hashed: app.append_audit itself is replaced for that moment, and committed as ever, so that all else is the
same. PostgreSQL is durable (fsync on). The runs of a pair stand next to each other; the ratio is taken pair by pair.
"""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from bench import results
from bench.alone import connection
from bench.machine import CHECKOUT, VAR
from bench.parts.sizes import Sizes
from bench.results import Run
from bench.stacks import cpu_seconds, stack
from bench.tokens import signing_key
from local.layout import Layout
from local.stack import function_environment

EVENTS, SMALL = 1_000_000, 1000
WRITERS, PROCESSES = 50, 2
MANY = 200  # organizations
DAY = 86_400
KEPT = "SELECT pg_get_functiondef('app.append_audit(jsonb)'::regprocedure)"
EQUAL = (
    "CREATE SCHEMA IF NOT EXISTS bench",
    "CREATE SEQUENCE IF NOT EXISTS bench.seq CACHE 50",
    "DROP TABLE IF EXISTS bench.audit_events",
    "CREATE TABLE bench.audit_events (LIKE app.audit_events INCLUDING ALL,"
    " FOREIGN KEY (tenant_id) REFERENCES app.organizations ON DELETE CASCADE)",
    "ALTER TABLE bench.audit_events ENABLE ROW LEVEL SECURITY",
    "ALTER TABLE bench.audit_events FORCE ROW LEVEL SECURITY",
    "CREATE POLICY tenant ON bench.audit_events USING (tenant_id = (SELECT app.tenant_id()))"
    " WITH CHECK (tenant_id = (SELECT app.tenant_id()))",
    "ALTER TABLE bench.audit_events OWNER TO context_owner",
    "GRANT USAGE ON SCHEMA bench TO context_definer",
    "GRANT USAGE ON SEQUENCE bench.seq TO context_definer",
    "GRANT SELECT, INSERT ON bench.audit_events TO context_definer",
)
WITHOUT = """
CREATE OR REPLACE FUNCTION app.append_audit(events jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    tenant uuid := app.tenant_id();
    kind text := CASE app.sealed(1) WHEN 'u' THEN 'user' WHEN 'k' THEN 'api_key' ELSE 'system' END;
    principal uuid := CASE kind WHEN 'api_key' THEN app.sealed(4)::uuid ELSE app.principal_id() END;
    event jsonb;
BEGIN
    FOR event IN SELECT value FROM jsonb_array_elements(events) LOOP
        INSERT INTO bench.audit_events (tenant_id, seq, at, actor_type, actor_id, action, resource_type, resource_id,
                                        outcome, request_id, data, personal, personal_salt, personal_hash,
                                        prev_hash, hash)
        VALUES (tenant, nextval('bench.seq'), clock_timestamp(), kind, principal, event ->> 'action',
                event ->> 'resource_type', event ->> 'resource_id', event ->> 'outcome', event ->> 'request_id',
                event -> 'data', nullif(event -> 'personal', 'null'), repeat('0', 64), repeat('0', 64),
                repeat('0', 64), repeat('0', 64));
    END LOOP;
END
$$
"""
PERSON = (
    "INSERT INTO identity.accounts (id, email, display_name)"
    " VALUES (:person, CAST(CAST(:person AS uuid) AS text) || '@example.com', 'Writer')",
    "INSERT INTO app.members (tenant_id, user_id, role) VALUES (:tenant, :person, 'developer')",
    "INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at)"
    " VALUES (:session, :person, :tenant, '{pwd}', now() + interval '1 day')",
)
LONG = (  # a chain of so many events; their hashes are of no account for whoever appends
    "INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, action, resource_type, resource_id, outcome,"
    " request_id, data, personal_hash, prev_hash, hash)"
    " SELECT :tenant, n, now() - interval '1 day', 'system', 'project.created', 'project',"
    " CAST(gen_random_uuid() AS text), 'success', CAST(gen_random_uuid() AS text), '{}', repeat('0', 64),"
    " repeat('0', 64), repeat('0', 64) FROM generate_series(1, CAST(:events AS integer)) n",
    "INSERT INTO app.audit_heads (tenant_id, seq, hash) VALUES (:tenant, :events, repeat('0', 64))",
)


@dataclass
class Side:
    """The runs of one side of a comparison: writes/s, p50 and p99 in ms, CPU ms of a write by process."""

    rates: list[float] = field(default_factory=list)
    halves: list[float] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    cpu: list[dict[str, float]] = field(default_factory=list)


class Bench:
    """A durable stack, its writers' processes, and the chain that can be taken away."""

    def __init__(self, running: dict[str, Any], processes: list["subprocess.Popen[str]"], seconds: float) -> None:
        self._running, self._processes, self._seconds = running, processes, seconds
        self._key, self._on = signing_key(running), True
        with connection(self.admin_url) as admin:
            self._chain = str(admin.run(KEPT)[0][0])
            for sql in EQUAL:
                admin.run(sql)

    @property
    def admin_url(self) -> str:
        return str(self._running["postgres"]["admin"])

    def organizations(self, count: int, people: int, writers: int) -> list[list[list[str]]]:
        """New organizations with so many people together, who take turns as so many writers.

        Tenant, account, log-in session and token of each, by writer.
        """
        made = []
        with connection(self.admin_url) as admin:
            tenants = [str(uuid.uuid4()) for _ in range(count)]
            for tenant in tenants:
                sql = "INSERT INTO app.organizations (tenant_id, slug, name) VALUES (:id, :slug, 'Writers')"
                admin.run(sql, id=tenant, slug=f"writers-{tenant}")
            for number in range(people):
                known = {"tenant": tenants[number % count], "person": str(uuid.uuid4()), "session": str(uuid.uuid4())}
                for sql in PERSON:
                    admin.run(sql, **{name: value for name, value in known.items() if f":{name}" in sql})
                made.append([*known.values(), self._token(*known.values())])
        return [made[number::writers] for number in range(writers)]

    def _token(self, tenant: str, person: str, session: str) -> str:
        (kid, key), now, api = self._key, int(time.time()), self._running["api"]
        claims = {"iss": api, "aud": api, "sub": person, "account_id": person, "tenant_id": tenant, "sid": session}
        claims |= {"client_id": "first-party", "iat": now, "nbf": now, "exp": now + DAY, "auth_time": now}
        claims |= {"jti": str(uuid.uuid4()), "amr": ["pwd"]}
        return jwt.encode(claims, key, "HS256", headers={"typ": "at+jwt", "kid": kid})

    def chained(self, chained: bool) -> None:
        """The product's function, or the one without the chain."""
        self._on = chained
        with connection(self.admin_url) as admin:
            admin.run(self._chain if chained else WITHOUT)

    def run(self, mode: str, writers: list[list[list[str]]], side: Side) -> None:
        """All writers at once, for the seconds of a run. Raises SystemExit when a write is refused."""
        before = cpu_seconds(self._running)
        for number, process in enumerate(self._processes):
            order = {"mode": mode, "url": self._running["api"], "seconds": self._seconds, "chained": self._on}
            _stdin(process).write(json.dumps(order | {"writers": writers[number :: len(self._processes)]}) + "\n")
            _stdin(process).flush()
        answers = [json.loads(_line(process)) for process in self._processes]
        after = cpu_seconds(self._running)
        if any(answer["refused"] for answer in answers):
            raise SystemExit("a write was refused")
        took = sorted(time for answer in answers for time in answer["milliseconds"])
        done = sum(answer["done"] for answer in answers)
        side.rates.append(len(took) / self._seconds)
        side.halves.append(took[len(took) // 2])
        side.tails.append(took[len(took) * 99 // 100])
        cpu = {name: (after[name] - before.get(name, 0)) * 1000 / done for name in after}
        side.cpu.append(cpu | {"writers": sum(answer["cpu"] for answer in answers) * 1000 / done})

    def compare(self, mode: str, writers: list[list[list[str]]], rounds: int) -> tuple[Side, Side]:
        """Without and with the chain, in turns; a first round of each is to warm up."""
        sides = Side(), Side()
        for number in range(rounds + 1):
            for side, chained in zip(sides, (False, True), strict=True):
                self.chained(chained)
                self.run(mode, writers, side if number else Side())
        return sides

    def growth(self, events: int, rounds: int) -> tuple[Side, Side]:
        """One writer at a new chain, and one at a chain of so many events."""
        self.chained(True)
        new, old = self.organizations(1, 1, 1), self.organizations(1, 1, 1)
        with connection(self.admin_url) as admin:
            admin.run("SET session_replication_role = 'replica'")  # no foreign keys to check row by row
            for sql in LONG:
                admin.run(sql, tenant=old[0][0][0], events=events)
            admin.run("VACUUM (ANALYZE) app.audit_events")
        sides = Side(), Side()
        for number in range(rounds + 1):
            for side, writers in zip(sides, (new, old), strict=True):
                self.run("sql", writers, side if number else Side())
        return sides


def _stdin(process: "subprocess.Popen[str]") -> Any:
    return process.stdin


def _line(process: "subprocess.Popen[str]") -> str:
    for line in process.stdout or ():
        if '"writes"' in line:
            return line
        sys.stderr.write(line)  # a log entry
    raise SystemExit("a process of writers ended")


@contextmanager
def writing(running: dict[str, Any]) -> Iterator[list["subprocess.Popen[str]"]]:
    """The processes of the writers, as processes of the projects service."""
    layout = Layout.load(Path(running["path"]).parent / "layout.json")
    environment = function_environment(layout, "projects", os.environ) | {"DATABASE_POOL": str(WRITERS // PROCESSES)}
    command = [sys.executable, "-m", "bench.writers"]
    pipe = subprocess.PIPE
    with ExitStack() as left:
        processes = [
            left.enter_context(
                subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdin=pipe, stdout=pipe, text=True)
            )
            for _ in range(PROCESSES)
        ]
        yield processes


def runs(side: Side, by: str) -> list[Run]:
    """A side of a comparison as rows of results."""
    return [
        {"rps": rate, "p50_ms": half, "p99_ms": tail, "server_cpu": cpu.get(by, 0.0), "postgres_cpu": cpu["postgres"]}
        for rate, half, tail, cpu in zip(side.rates, side.halves, side.tails, side.cpu, strict=True)
    ]


def measure(sizes: Sizes) -> None:
    """With and without the chain, and an old chain beside a new one."""
    rounds, events = sizes.rounds, SMALL if sizes.small else EVENTS
    with (
        stack(VAR / "audit-stack", PROCESSES_PROJECTS=str(PROCESSES)) as running,
        writing(running) as processes,
    ):
        bench = Bench(running, processes, sizes.seconds)
        with connection(bench.admin_url) as admin:
            version = str(admin.run("SHOW server_version")[0][0])

        def kept(case: str, names: tuple[str, str], sides: tuple[Side, Side], by: str = "writers") -> None:
            print(case, flush=True)
            rows = {name: runs(side, by) for name, side in zip(names, sides, strict=True)}
            results.record(case, rows, small=sizes.small, postgres=version, writers=WRITERS, events=events)

        both = ("without chain", "with chain")
        try:
            alone, many = bench.organizations(1, WRITERS, WRITERS), bench.organizations(MANY, MANY, WRITERS)
            kept("audit 1 organization", both, bench.compare("sql", alone, rounds))
            kept(f"audit {MANY} organizations", both, bench.compare("sql", many, rounds))
            kept("audit http", both, bench.compare("http", alone, rounds), "projects")
            kept("audit history", ("new chain", "old chain"), bench.growth(events, rounds))
        finally:
            bench.chained(True)
            for process in processes:
                _stdin(process).close()
