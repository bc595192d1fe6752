"""Erasure in sessions: by policy her events go, others' stay, and so does a session in which others have spoken."""

import pg8000.native
import pytest

from tests.deletions.engine import Engine, new


@pytest.fixture
def engine(admin: pg8000.native.Connection) -> Engine:
    return Engine(admin)


def session(engine: Engine, tenant: str, by: str, *said: str) -> str:
    """A session of a project of its own, with an event of each who says something."""
    made = new()
    project = engine.project(tenant, new())
    engine.add("app.sessions", tenant=tenant, id=made, project_id=project, title="Climb", by=by, closes_at="infinity")
    for seq, person in enumerate(said, 1):
        engine.add("app.session_events", tenant=tenant, session_id=made, seq=seq, type="x", data="1", by=person)
    return made


def events(engine: Engine, made: str) -> list[tuple[int, str]]:
    sql = "SELECT seq, created_by::text FROM app.session_events WHERE session_id = :s ORDER BY seq"
    return [(seq, by) for seq, by in engine.connection.run(sql, s=made)]


def stands(engine: Engine, made: str) -> bool:
    return bool(engine.connection.run("SELECT FROM app.sessions WHERE id = :s", s=made))


def test_under_the_policy_to_keep_they_point_to_nobody(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her)
    made = session(engine, tenant, her, her, other, her)
    planned = engine.plan(her, tenant)

    done = engine.erase(her, tenant)

    assert events(engine, made) == [(1, her), (2, other), (3, her)]
    assert stands(engine, made)
    for table, rows in (("app.sessions", 1), ("app.session_events", 2)):
        assert done[table, "pseudonym"] == planned[table, "pseudonym"] == rows
    assert engine.connection.run("SELECT FROM identity.accounts WHERE id = :p", p=her) == []


def test_under_the_policy_to_erase_hers_go_and_others_stay(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her, policy="erase")
    alone, shared, theirs = (
        session(engine, tenant, her, her, her),
        session(engine, tenant, her, her, other),
        session(engine, tenant, other, other, her, other),
    )

    done = engine.erase(her, tenant, most=2)

    assert not stands(engine, alone)
    assert events(engine, alone) == []
    assert stands(engine, shared)
    assert events(engine, shared) == [(2, other)]
    assert events(engine, theirs) == [(1, other), (3, other)]
    assert done["app.session_events", "delete"] == 4
    assert done["app.sessions", "delete"] == done["app.sessions", "pseudonym"] == 1


def test_with_the_organization_all_of_it_goes(engine: Engine) -> None:
    her = engine.person()
    tenant, other = engine.organization(her), engine.organization(her)
    made, elsewhere = session(engine, tenant, her, her, new()), session(engine, other, her, her)

    done = engine.erase(her, tenant, most=1)

    assert not stands(engine, made)
    assert events(engine, made) == []
    assert (done["app.sessions", "delete"], done["app.session_events", "delete"]) == (1, 2)
    assert events(engine, elsewhere) == [(1, her)]


def test_a_hold_keeps_her_events_and_their_session(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her, policy="erase")
    made = session(engine, tenant, other, other, her)
    engine.hold(tenant, her)

    engine.erase(her, tenant)

    assert events(engine, made) == [(1, other), (2, her)]
