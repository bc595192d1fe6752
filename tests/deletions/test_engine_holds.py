"""Legal holds (Art. 17(3)(e) GDPR): what is held stays with what it hangs on, until they end; all else goes."""

import pg8000.native
import pytest

from tests.deletions.engine import Engine, new


@pytest.fixture
def engine(admin: pg8000.native.Connection) -> Engine:
    return Engine(admin)


def present(engine: Engine, table: str, **key: str) -> bool:
    where = " AND ".join(f"{name} = :{name}" for name in key)
    return bool(engine.connection.run(f"SELECT EXISTS (SELECT FROM {table} WHERE {where})", **key)[0][0])


def test_everything_about_a_person_in_an_organization(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    held, free = (engine.organization(other, her, policy="erase") for _ in range(2))
    tasks = {tenant: engine.task(tenant, engine.project(tenant, her), her) for tenant in (held, free)}
    for tenant in (held, free):
        engine.event(tenant, her)
    engine.hold(held, her)
    job = engine.job(her, held, free)

    kept = engine.held(job, her, held, "erase")
    for tenant in (held, free):
        engine.erase_in(job, tenant)
    engine.erase_account(job)

    assert kept == {"app.members": 1, "app.projects": 1, "app.tasks": 1, "app.audit_events": 1, "app.legal_holds": 1}
    assert present(engine, "app.tasks", id=tasks[held])
    assert present(engine, "app.members", tenant_id=held, user_id=her)
    assert present(engine, "identity.accounts", id=her)
    assert not present(engine, "app.tasks", id=tasks[free])
    assert not present(engine, "app.members", tenant_id=free, user_id=her)
    assert "192.0.2.1" in engine.rows("app.audit_events", held)[0]
    assert "192.0.2.1" not in engine.rows("app.audit_events", free)[0]


def test_a_named_task_keeps_its_project_and_the_membership_and_nothing_else(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her, policy="erase")
    project, gone = engine.project(tenant, her), engine.project(tenant, her)
    task, beside = engine.task(tenant, project, her), engine.task(tenant, project, her)
    engine.event(tenant, her)
    engine.hold(tenant, her, [{"type": "task", "id": task}])

    job = engine.job(her, tenant)
    engine.erase_in(job, tenant)

    assert present(engine, "app.tasks", id=task)
    assert present(engine, "app.projects", id=project)
    assert present(engine, "app.members", tenant_id=tenant, user_id=her)
    assert not present(engine, "app.tasks", id=beside)
    assert not present(engine, "app.projects", id=gone)
    assert "192.0.2.1" not in engine.rows("app.audit_events", tenant)[0]


@pytest.mark.parametrize("how", ["until = now() - interval '1 second'", "released_at = now()"])
def test_what_was_held_goes_when_the_hold_ends(engine: Engine, how: str) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her, policy="erase")
    task = engine.task(tenant, engine.project(tenant, her), her)
    hold = engine.hold(tenant, her)
    first = engine.job(her, tenant)
    engine.erase_in(first, tenant)
    engine.erase_account(first)
    assert present(engine, "app.tasks", id=task)
    engine.connection.run("UPDATE platform.deletions SET finished_at = now() WHERE job_id = :job", job=first)

    engine.connection.run(f"UPDATE app.legal_holds SET {how} WHERE id = :id", id=hold)
    second = engine.job(her, tenant)
    engine.erase_in(second, tenant)
    engine.erase_account(second)

    assert engine.rows("app.tasks", tenant) == engine.rows("app.projects", tenant) == []
    assert not present(engine, "app.legal_holds", id=hold)
    assert not present(engine, "identity.accounts", id=her)


def test_an_organization_goes_but_for_what_is_held_in_it(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her)
    project = engine.project(tenant, other)
    task, beside = engine.task(tenant, project, her), engine.task(tenant, project, other)
    elsewhere = engine.project(tenant, other)
    engine.hold(tenant, her)

    job = engine.job(None, tenant, scope="organization")
    kept = engine.held(job, None, tenant, "whole")
    engine.erase_in(job, tenant, most=1)

    assert kept["app.tasks"] == kept["app.projects"] == kept["app.members"] == kept["app.organizations"] == 1
    assert present(engine, "app.tasks", id=task)
    assert present(engine, "app.members", tenant_id=tenant, user_id=her)
    assert not present(engine, "app.tasks", id=beside)
    assert not present(engine, "app.projects", id=elsewhere)
    assert not present(engine, "app.members", tenant_id=tenant, user_id=other)
    suspended = "SELECT suspended_at IS NOT NULL FROM app.organizations WHERE tenant_id = :id"
    assert engine.connection.run(suspended, id=tenant) == [[True]]


def test_retention_leaves_what_is_held(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her)
    keys = {}
    for person in (her, other):
        keys[person] = new()
        engine.add("app.api_keys", tenant=tenant, id=keys[person], name="Key", prefix="x", key_hash=new(),
                   permissions="{}", by=person, expires_at="2020-01-01")  # fmt: skip
    engine.hold(tenant, her)

    while engine.connection.run("SELECT platform.retire('app.api_keys', 100)")[0][0]:
        pass

    assert present(engine, "app.api_keys", id=keys[her])
    assert not present(engine, "app.api_keys", id=keys[other])
