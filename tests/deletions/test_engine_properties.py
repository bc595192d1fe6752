"""Random organizations, by every policy: what is planned is what is done, and what is others' stays as it is."""

from dataclasses import dataclass, field
from typing import Any

import pg8000.native
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.deletions.engine import Engine, new

PEOPLE = 3  # the first one is erased
someone = st.integers(0, PEOPLE - 1)
RUNS = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Made:
    """What was made, by whom."""

    people: list[str]
    tenant: str
    projects: list[tuple[str, int]] = field(default_factory=list)
    tasks: list[tuple[str, int, int, int | None]] = field(default_factory=list)


@st.composite
def shapes(draw: st.DrawFn) -> dict[str, Any]:
    projects = draw(st.lists(someone, max_size=4))
    where = st.integers(0, len(projects) - 1) if projects else st.nothing()
    return {
        "policy": draw(st.sampled_from([None, "keep_pseudonymous", "erase", "approve"])),
        "alone": draw(st.booleans()),
        "projects": projects,
        "tasks": draw(st.lists(st.tuples(where, someone, st.none() | someone), max_size=8)) if projects else [],
        "events": draw(st.lists(st.tuples(st.none() | someone, someone), max_size=6)),
        "keys": draw(st.lists(someone, max_size=3)),
        "invitations": draw(st.lists(st.tuples(someone, st.booleans()), max_size=3)),
        "sessions": draw(st.integers(0, 3)),
        "invoices": draw(st.integers(0, 2)),
    }


def make(engine: Engine, shape: dict[str, Any]) -> Made:
    people = [engine.person(f"Person {position}") for position in range(PEOPLE)]
    members = people[:1] if shape["alone"] else people
    made = Made(people, engine.organization(*members, policy=shape["policy"]))
    make_content(engine, made, shape)
    for maker in shape["keys"]:
        if people[maker] in members:
            add_key(engine, made.tenant, people[maker])
    for position, (inviter, hers) in enumerate(shape["invitations"]):
        email = engine.email(people[0]) if hers and position == 0 else f"{new()}@example.org"
        invite(engine, made.tenant, email, people[inviter] if people[inviter] in members else None)
    return made


def make_content(engine: Engine, made: Made, shape: dict[str, Any]) -> None:
    people, tenant = made.people, made.tenant
    for author in shape["projects"]:
        made.projects.append((engine.project(tenant, people[author]), author))
    for where, author, assignee in shape["tasks"]:
        to = None if assignee is None else people[assignee]
        task = engine.task(tenant, made.projects[where][0], people[author], to)
        made.tasks.append((task, where, author, assignee))
    for actor, about in shape["events"]:
        engine.event(tenant, None if actor is None else people[actor], people[about])
    for _ in range(shape["sessions"]):
        session(engine, people[0], tenant)
    for number in range(shape["invoices"]):
        more = {"total": 1, "currency": "EUR", "status": "open", "billed_to": '{"company": "Somebody"}'}
        engine.add("app.invoices", tenant=tenant, number=str(number), issued_at="2026-01-01", **more)


def add_key(engine: Engine, tenant: str, maker: str) -> None:
    """A key, and an event of it."""
    key = new()
    more = {"name": "Key", "prefix": "x", "key_hash": new(), "permissions": "{}", "expires_at": "2100-01-01"}
    engine.add("app.api_keys", tenant=tenant, id=key, by=maker, **more)
    engine.event(tenant, key)


def invite(engine: Engine, tenant: str, email: str, by: str | None) -> None:
    """An invitation and its mail."""
    made = new()
    more = {"role": "member", "expires_at": "2100-01-01"}
    engine.add("app.invitations", tenant=tenant, id=made, email=email, invited_by=by, **more)
    mail = {"kind": "mail", "name": "invitation", "task_name": new(), "sent_at": "2026-01-01"}
    engine.add("platform.outbox", id=new(), reference=made, **mail)


def session(engine: Engine, person: str, tenant: str) -> None:
    """A log-in with a refresh token."""
    made, end = new(), "2100-01-01"
    more = {"auth_time": "2026-01-01", "amr": "{pwd}", "expires_at": end}
    engine.add("identity.login_sessions", id=made, account_id=person, tenant=tenant, **more)
    token = {"token_hash": made.encode(), "login_session_id": made, "generation": 0, "expires_at": end}
    engine.add("identity.refresh_tokens", account_id=person, **token)


def others(engine: Engine, made: Made) -> dict[str, list[str]]:
    """Rows in which the erased person plays no part, and her tables elsewhere."""
    her, tenant = made.people[0], made.tenant
    return {
        table: [row for row in engine.rows(table, tenant) if her not in row]
        for table in ("app.projects", "app.tasks", "app.members", "app.organizations", "app.api_keys")
    }


@RUNS
@given(shapes())
def test_what_is_planned_is_done(admin: pg8000.native.Connection, shape: dict[str, Any]) -> None:
    engine = Engine(admin)
    made = make(engine, shape)

    plan = engine.plan(made.people[0], made.tenant)

    assert engine.erase(made.people[0], made.tenant) == plan


@RUNS
@given(shapes())
def test_nothing_of_others_changes(admin: pg8000.native.Connection, shape: dict[str, Any]) -> None:
    engine = Engine(admin)
    made = make(engine, {**shape, "alone": False})
    before = others(engine, made)

    engine.erase(made.people[0], made.tenant)

    after = others(engine, made)
    for table, rows in before.items():
        assert set(rows) <= set(after[table]), table


@RUNS
@given(shapes())
def test_nothing_of_the_person_is_left_but_what_the_rules_keep(
    admin: pg8000.native.Connection, shape: dict[str, Any]
) -> None:
    engine = Engine(admin)
    made = make(engine, shape)
    her, tenant = made.people[0], made.tenant

    engine.erase(her, tenant)

    dump = "\n".join(row for table in ("organizations", "members", "api_keys", "invitations", "legal_holds")
                     for row in engine.rows(f"app.{table}", tenant))  # fmt: skip
    assert her not in dump
    assert engine.email(her) not in dump
    personal = "SELECT count(*) FROM app.audit_events WHERE actor_id = :her AND personal IS NOT NULL"
    assert admin.run(personal, her=her) == [[0]]
    if shape["alone"]:
        assert all("Somebody" not in invoice for invoice in engine.rows("app.invoices", tenant))
        assert engine.rows("app.tasks", tenant) == engine.rows("app.projects", tenant) == []
        assert len(engine.rows("app.invoices", tenant)) == shape["invoices"]
        return
    erased = shape["policy"] == "erase"
    tasks, projects = "".join(engine.rows("app.tasks", tenant)), "".join(engine.rows("app.projects", tenant))
    for task, _, author, _ in made.tasks:
        assert (task in tasks) == (author != 0 or not erased)
    for position, (project, author) in enumerate(made.projects):
        shared = any(where == position and by != 0 for _, where, by, _ in made.tasks)
        assert (project in projects) == (author != 0 or not erased or shared)


@RUNS
@given(shapes(), st.sampled_from([1, 2, 3]))
def test_batches_of_one_and_of_many_end_the_same(
    admin: pg8000.native.Connection, shape: dict[str, Any], most: int
) -> None:
    engine = Engine(admin)
    one, many = make(engine, shape), make(engine, shape)

    counts = engine.erase(one.people[0], one.tenant, most=most)

    assert counts == engine.erase(many.people[0], many.tenant)
    for table in ("app.projects", "app.tasks", "app.members", "app.invitations", "app.invoices", "app.audit_events"):
        assert len(engine.rows(table, one.tenant)) == len(engine.rows(table, many.tenant)), table


@RUNS
@given(shapes(), st.integers(1, 6))
def test_a_job_that_dies_goes_on_where_it_was(
    admin: pg8000.native.Connection, shape: dict[str, Any], after: int
) -> None:
    """A batch that is rolled back leaves rows and counts as they were; the next execution ends with the same."""
    engine = Engine(admin)
    made = make(engine, shape)
    plan = engine.plan(made.people[0], made.tenant)
    job = engine.job(made.people[0], made.tenant)
    for _ in range(after):
        engine.batch(job, made.tenant, 1)
    die_in_a_batch(engine, job, made.tenant)

    engine.erase_in(job, made.tenant, 2)
    engine.erase_in(job, made.tenant, 2)
    engine.erase_account(job, 1)
    engine.erase_account(job, 1)

    assert engine.counts(job) == plan


def die_in_a_batch(engine: Engine, job: str, tenant: str) -> None:
    """The transaction of a batch ends with its connection, before its COMMIT."""
    mode = engine.sealed("s", tenant, job, "SELECT platform.enter_organization()")[0][0]
    if mode == "done":
        return
    before = engine.counts(job)
    statements = ("SELECT app.erase_batch(:mode, 1)", "SELECT 1 / 0")
    with pytest.raises(pg8000.native.DatabaseError, match="division by zero"):
        engine.sealed("s", tenant, job, *statements, mode=mode)
    assert engine.counts(job) == before
