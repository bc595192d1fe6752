"""Eight years pass over a database that holds a row of every table: what is left is exactly what the register allows.

What should be left is computed here from common/register.yaml, row by row, before each run; what is left is read from
the database after it. The runs are those of Cloud Scheduler: anchors at two, retention at three.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pg8000.native
import pytest
import requests
from pg8000.native import literal

from common.register import Reference, Table, register
from local import stack as local_stack
from local.identity import Issuer
from local.layout import PROJECT, Layout, login_role, service_account
from local.secrets_store import SecretStore
from local.storage import buckets
from migrations.provision import provision
from tests.audit import aging
from tests.conftest import CHECKOUT, database
from tests.deletions.engine import new
from tests.retention.clock import Clock
from tests.retention.filling import NEVER, Filler, Made
from tests.retention.world import own_database

PLATFORM = "00000000-0000-4000-8000-000000000001"
ANCHOR, RUN = "/internal/audit/anchor", "/internal/retention/run"
MARGIN, STRIDE = timedelta(minutes=1), timedelta(days=360)
SEQS = "SELECT seq FROM app.audit_events WHERE tenant_id = :t"
HOLD = "4 years"
OF_PEOPLE = ("account", "text", "email", "key")  # subjects that a legal hold on a person finds
EVENTS = register().tables["app.audit_events"].retention
# platform.jobs has no foreign key to its request: it goes with it all the same.
JOB_OF = ("platform.exports", "platform.deletions")
SERVICE = """
import json, sys
from werkzeug.test import Client
from common.server import app
client = Client(app())
for line in sys.stdin:
    path, token = line.split()
    answer = client.post(path, headers={"Authorization": "Bearer " + token})
    print("ANSWER", json.dumps([answer.status_code, answer.get_json()]), flush=True)
"""


class Service:
    """The retention service, over the database of its own and buckets of its own."""

    def __init__(self, layout: Layout, environment: dict[str, str]) -> None:
        self._layout = layout
        command = [sys.executable, "-c", SERVICE]
        self._process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def post(self, path: str) -> Any:
        """What a job of Cloud Scheduler is answered."""
        assert self._process.stdin
        assert self._process.stdout
        url = self._layout.run_url("retention")
        token = Issuer(self._layout.root).identity_token(service_account("scheduler"), url)
        self._process.stdin.write(f"{path} {token}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("ANSWER "):
                status, answer = json.loads(line.removeprefix("ANSWER "))
                assert status == 200, answer
                return answer
        raise AssertionError("the service has ended")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class World:
    """The rows, the clock, the chains and the two jobs."""

    def __init__(self, layout: Layout, url: str, environment: dict[str, str], connection: Any, chains: Any) -> None:
        self.layout, self.url, self.environment = layout, url, environment
        self.connection: pg8000.native.Connection = connection
        self.clock, self._aging = Clock(connection), chains
        self.service = Service(layout, environment)
        self.alive: list[list[Made]] = []  # one list for each person and organization, children first
        self.held: tuple[str, str] = ("", "")  # the person under a legal hold, and the organization
        self.organizations: list[str] = [PLATFORM]

    # What is there

    def settle(self, filler: Filler, *, until: str = "", is_open: bool = False) -> str:
        """An organization with somebody in it, and a row of every table; the person."""
        person, tenant = new(), new()
        now = self.clock.value("SELECT now()").isoformat()
        given = {"now": now, "person": person, "email": f"{person}@example.org", "tenant": tenant}
        self.alive.append(filler.fill(**given, until=until or now, is_open=is_open))
        self.organizations.append(tenant)
        return person

    def make_ready(self, rows: list[Made]) -> None:
        """An export among the rows has its file, which may be fetched for as long as the register says."""
        (export,) = (row.key["id"] for row in rows if row.table.name == "platform.exports")
        self.connection.run(
            "UPDATE platform.exports SET status = 'ready', removed_at = NULL, expires_at = now() + CAST(:t AS interval)"
            " WHERE id = :id",
            t=register().places["export_files"].period,
            id=export,
        )
        base = f"{self.layout.url('storage')}/upload/storage/v1/b/{self.environment['EXPORT_BUCKET']}/o"
        token = Issuer(self.layout.root).access_token(service_account("tester"))
        done = requests.post(
            f"{base}?uploadType=media&name=exports/{export}/package.zip",
            data=b"PK",
            headers={"Authorization": f"Bearer {token}"},
            timeout=10,
        )
        assert done.status_code == 200, done.text

    def record(self, tenant: str, person: str | None = None) -> None:
        """An event of an organization's chain, about the person if there is one."""
        action = "login.failed" if person else "tested.once"
        sql = "SELECT platform.record_event(:t, :done, 'user', :about, '{}', 'r')"
        self.connection.run(sql, t=tenant, done=action, about=person)

    # What should be there

    def files(self) -> int:
        """The files of exports that may be fetched."""
        return int(
            self.clock.value("SELECT count(*) FROM platform.exports WHERE status = 'ready' AND expires_at > now()")
        )

    def holds(self) -> bool:
        sql = "SELECT count(*) FROM app.legal_holds WHERE subject_user_id = :p AND tenant_id = :t AND until > now()"
        return bool(self.clock.value(sql, p=self.held[0], t=self.held[1]))

    def should_stay(self) -> list[list[Made]]:
        """The rows that the register keeps at this moment, of those that stand."""
        periodical = [row for row in chain(*self.alive) if row.table.retention.period]
        over = self._which("{after} < now() - interval '{period}'", [row for row in periodical if not whole(row.table)])
        for unit in sorted({whole(row.table) for row in periodical} - {""}):
            beginning = f"date_trunc('{unit}', now() - interval '{{period}}', 'UTC')"
            over += self._which(f"{{after}} < {beginning}", [row for row in periodical if whole(row.table) == unit])
        exports = [row for row in chain(*self.alive) if row.table.name == "platform.exports"]
        for export in self._which("status = 'ready' AND expires_at <= now()", exports):  # its file goes, with its parts
            over += [row for row in chain(*self.alive) if row.values.get("job_id") == export.key["id"] and is_part(row)]
        return [self._should_stay(rows, over, self.holds()) for rows in self.alive]

    def _should_stay(self, rows: list[Made], over: list[Made], holds: bool) -> list[Made]:
        kept = list(rows)
        for row in rows:  # children first: a parent that a child of this run kept back goes with it
            if row in kept and row in over and not self._kept_back(row, kept, holds):
                gone: list[Made] = []
                with_it(row, kept, gone)
                kept = [each for each in kept if each not in gone]
        return kept

    def _which(self, condition: str, rows: list[Made]) -> list[Made]:
        """Those rows that stand and fulfil a condition, in one query."""
        queries = []
        for number, row in enumerate(rows):
            rule = condition.format(after=row.table.retention.after, period=row.table.retention.period)
            key = " AND ".join(f"{name}::text = {literal(value)}" for name, value in row.key.items())
            queries.append(f"SELECT {number} FROM {row.table.name} WHERE {key} AND {rule}")
        return [rows[number] for (number,) in self.connection.run(" UNION ALL ".join(queries))]

    def _kept_back(self, row: Made, standing: list[Made], holds: bool) -> bool:
        if holds and row.table.of_tenant and row.values.get("tenant_id") == self.held[1]:
            if row.table.name in ("app.members", "app.legal_holds"):
                return True
            if any(s.match in OF_PEOPLE and row.values.get(s.column) for s in row.table.subjects if not s.without):
                return True
        return any(
            rule == "keep_parent" or (rule == "with_parent" and self._kept_back(child, standing, holds))
            for child, rule in hanging(row, standing)
        )

    def events(self) -> dict[str, set[int]]:
        """Of each chain, the events that should stand after a run: those behind the last anchor that is over.

        Behind a held event everything stays.
        """
        found = {}
        for tenant in self.organizations:
            held = tenant == self.held[1] and self.holds()
            (last,) = self.connection.run(
                "SELECT max(seq) FROM app.audit_events WHERE tenant_id = :t AND at < now() - CAST(:period AS interval)"
                " AND seq < coalesce((SELECT min(seq) FROM app.audit_events WHERE tenant_id = :t AND :held"
                " AND resource_id = :p), seq + 1)",
                t=tenant,
                period=EVENTS.period,
                held=held,
                p=self.held[0],
            )[0]
            anchored = [document["head"]["seq"] for _, document in self._aging.anchors(tenant)]
            base = max((seq for seq in anchored if seq <= (last or 0)), default=0)
            found[tenant] = {seq for (seq,) in self.connection.run(SEQS, t=tenant) if seq > base}
        return found

    # What is there after all

    def run(self, *, rehearsed: bool = True) -> None:
        """The jobs of a night; what a dry run said is what was done, and what is left is what should be."""
        if rehearsed:
            self.service.post(ANCHOR)
            plan = self.service.post(f"{RUN}?dry_run=true")["removed"]
        rows, events, files = self.should_stay(), self.events(), self.files()
        newest = self.head(PLATFORM)

        report = self.service.post(RUN)

        assert report["complete"] is True
        told = self.clock.value(
            "SELECT data FROM app.audit_events WHERE tenant_id = :t AND seq = :s AND action = 'retention.completed'",
            t=PLATFORM,
            s=newest + 1,
        )
        if rehearsed:
            assert told["removed"] == {table: number for table, number in plan.items() if number}
        standing, wanted = self.standing(), [names(each) for each in rows]
        assert standing == wanted, [set(here) ^ set(there) for here, there in zip(standing, wanted, strict=True)]
        assert len(self._aging.objects("exports/")) == files
        for tenant, seqs in events.items():
            kept = {seq for (seq,) in self.connection.run(SEQS, t=tenant)}
            assert seqs <= kept, tenant
            assert kept - seqs in (set(), {max(kept, default=0)}), tenant  # the report of this run
        self.alive = rows

    def standing(self) -> list[list[str]]:
        """The tables of the rows that stand."""
        return [names(self._which("true", rows)) for rows in self.alive]

    def head(self, tenant: str) -> int:
        rows = self.connection.run("SELECT seq FROM app.audit_heads WHERE tenant_id = :t", t=tenant)
        return int(rows[0][0]) if rows else 0

    def pass_(self, time: timedelta) -> None:
        """Let time pass. The nights between bring anchors, whose bucket keeps them for no longer than 400 days."""
        while time:
            stride = min(time, STRIDE)
            time -= stride
            self.clock.pass_(stride.total_seconds())
            for tenant in self.organizations:
                if self.head(tenant):
                    self._aging.age(tenant, stride / timedelta(days=1))
            if time:
                self.service.post(ANCHOR)

    def verify(self) -> None:
        """Every chain, by the operator's command."""
        command = [sys.executable, "-m", "migrations.operator", "verify", "--reason", "a test"]
        environment = self.environment | {"DATABASE_ADMIN_URL": self.url}
        done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def names(rows: list[Made]) -> list[str]:
    return sorted(row.table.name for row in rows)


def whole(table: Table) -> str:
    """By whole days or months, or by the row."""
    return table.retention.partitions or ""


def job_of(row: Made) -> str:
    return row.key.get("id") or row.key["job_id"]


def is_part(row: Made) -> bool:
    return row.table.name == "platform.export_parts"


def hanging(row: Made, standing: list[Made]) -> Iterator[tuple[Made, str]]:
    """The rows that point to a row, and by which rule."""
    for child in standing:
        for reference in child.table.references:
            if reference.parent == row.table.name and child is not row and points(child, reference, row):
                yield child, reference.rule


def with_it(row: Made, standing: list[Made], gone: list[Made]) -> None:
    """The row and what goes with it, into `gone`."""
    gone.append(row)
    below = [child for child, rule in hanging(row, standing) if rule == "with_parent"]
    if row.table.name in JOB_OF:
        below += [each for each in standing if each.table.name == "platform.jobs" and each.key["id"] == job_of(row)]
    for each in below:
        if each not in gone:
            with_it(each, standing, gone)


def points(child: Made, reference: Reference, row: Made) -> bool:
    theirs = {**row.values, **row.key}
    return all(
        child.values.get(own) is not None and str(child.values[own]) == str(theirs.get(parent))
        for own, parent in zip(reference.columns, reference.parent_columns, strict=True)
    )


@pytest.fixture
def world(stack: dict[str, Any], admin: pg8000.native.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    layout = Layout.load(Path(stack["path"]).parent / "layout.json")
    bucket = f"own-{new()}"
    token = Issuer(layout.root).access_token(service_account("tester"))
    made = requests.post(
        f"{layout.url('storage')}/storage/v1/b?project={PROJECT}",
        json={"name": bucket},
        headers={"Authorization": f"Bearer {token}"},
        timeout=10,
    )
    assert made.status_code == 200, made.text
    monkeypatch.setattr(aging, "ANCHOR_BUCKET", bucket)
    with own_database(stack, admin) as url, database(url) as connection:
        store = SecretStore(layout.root)
        provision(url, lambda name: store.latest(name) or b"", login_role)
        environment = local_stack.function_environment(layout, "retention", {})
        name = urlsplit(url).path
        environment["DATABASE_URL"] = environment["DATABASE_URL"].rsplit("/", 1)[0] + name
        environment |= {"ANCHOR_BUCKET": bucket, "EXPORT_BUCKET": bucket}
        found = World(layout, url, environment, connection, aging.Aging(stack, connection))
        try:
            yield found
        finally:
            found.service.stop()


def moments(connection: pg8000.native.Connection) -> list[timedelta]:
    """When something ends, from now: each period of the register, the hold, and what is counted from its end."""
    spans = {table.retention.period for table in register().tables.values() if table.retention.period}
    ends = {span: f"SELECT now() + CAST('{span}' AS interval) - now()" for span in spans}
    after_hold = register().tables["app.legal_holds"].retention.period
    sums = [f"interval '{span}'" for span in (*ends, HOLD)] + [f"interval '{HOLD}' + interval '{after_hold}'"]
    sums += [
        f"now() - date_trunc('{whole(table)}', now() - interval '{table.retention.period}', 'UTC')"
        for table in register().tables.values()
        if whole(table)
    ]
    rows = [connection.run(f"SELECT extract(epoch FROM now() - (now() - ({each})))::float8")[0][0] for each in sums]
    return sorted({timedelta(seconds=seconds) for seconds in rows})


def test_what_is_left_is_what_the_register_allows(world: World) -> None:
    filler = Filler(world.connection)
    world.settle(filler)
    world.settle(filler, is_open=True)
    hold_end = world.clock.value(f"SELECT now() + interval '{HOLD}'").isoformat()
    person = world.settle(filler, until=hold_end)
    world.make_ready(world.alive[-1])
    free, _, held = world.organizations[1:]
    world.held = (person, held)
    assert {row.table.name for rows in world.alive for row in rows} | set(NEVER) == set(register().tables)
    for tenant in (free, held):
        world.record(tenant)
        world.record(tenant)
    world.service.post(ANCHOR)
    world.record(held, person)
    world.record(held)
    world.run()

    passed, verified = timedelta(), False
    for end in moments(world.connection):
        world.pass_(end - MARGIN - passed)
        world.run(rehearsed=False)
        world.pass_(2 * MARGIN)
        world.run()
        passed = end + MARGIN
        if not world.holds() and not verified:
            world.verify()
            verified = True
    world.pass_(timedelta(days=8 * 365 + 2) - passed)
    world.run()

    world.verify()
    assert world.files() == 0
    eternal = {name for name, table in register().tables.items() if table.retention.until} - set(NEVER)
    for rows in world.alive[:1]:
        assert {row.table.name for row in rows} <= eternal
    assert world.alive[1] != []
    assert not world.holds()
    assert register().places["export_files"].period == f"{buckets.EXPORT_DAYS} days"
