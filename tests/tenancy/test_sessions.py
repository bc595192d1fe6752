"""Sessions and their events behind the login of the process that streams them: append-only, in one's own name."""

import uuid

import pg8000.native
import pytest

from tests.tenancy.conftest import Attacker

APPEND = (
    "INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by)"
    " VALUES (:t, :s, 1, 'said', '{}', :u)"
)
OPEN = (
    "INSERT INTO app.sessions (tenant_id, project_id, title, created_by, closes_at)"
    " VALUES (:t, :p, 'Mine', :u, now() + interval '1 hour') RETURNING id"
)


@pytest.fixture(params=["u", "k"])
def sessions(request, stack):
    attacker = Attacker(stack, "sessions_fn", request.param)
    yield attacker
    attacker.connection.close()


@pytest.fixture
def project(admin, mallory):
    made = admin.run(
        "INSERT INTO app.projects (tenant_id, name, created_by) VALUES (:t, 'Own', :u) RETURNING id",
        t=mallory.tenant_id,
        u=mallory.user_id,
    )
    return made[0][0]


def test_events_are_added_and_stay_as_they_are(sessions: Attacker, admin, mallory, project):
    sessions.begin_sealed(mallory)
    session = sessions.connection.run(OPEN, t=mallory.tenant_id, p=project, u=mallory.user_id)[0][0]
    sessions.connection.run(APPEND, t=mallory.tenant_id, s=session, u=mallory.user_id)
    sessions.connection.run("COMMIT")
    before = admin.run("SELECT * FROM app.session_events WHERE session_id = :s", s=session)
    sessions.begin_sealed(mallory)

    seen = sessions.try_all(
        [
            "UPDATE app.session_events SET data = '1'",
            "DELETE FROM app.session_events",
            "UPDATE app.sessions SET created_by = gen_random_uuid()",
            "INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by, created_at)"
            f" VALUES ('{mallory.tenant_id}', '{session}', 2, 'said', '1', '{mallory.user_id}', now())",
            "COMMIT",
        ]
    )

    assert seen.count("42501") == 4
    assert admin.run("SELECT * FROM app.session_events WHERE session_id = :s", s=session) == before


def test_nobody_writes_in_anothers_name(sessions: Attacker, people, mallory, project):
    other = people.create("developer", mallory.tenant_id)
    for statement in (OPEN, APPEND):
        sessions.begin_sealed(mallory)
        names = {"t": mallory.tenant_id, "u": other.user_id}
        names |= {"p": project} if statement is OPEN else {"s": uuid.uuid4()}
        with pytest.raises(pg8000.native.DatabaseError, match="row-level security"):
            sessions.connection.run(statement, **names)
        sessions.connection.run("ROLLBACK")


def test_a_session_of_others_is_one_that_does_not_exist(sessions: Attacker, admin, mallory, victim):
    found = admin.run("SELECT id FROM app.sessions WHERE tenant_id = :t", t=victim.tenant_id)[0][0]
    theirs = admin.run("SELECT project_id FROM app.sessions WHERE id = :s", s=found)[0][0]
    for session, project in ((found, theirs), (uuid.uuid4(), uuid.uuid4())):
        for statement, name in ((APPEND, "events_of_a_session"), (OPEN, "sessions_of_a_project")):
            sessions.begin_sealed(mallory)
            names = {"p": project} if statement is OPEN else {"s": session}
            with pytest.raises(pg8000.native.DatabaseError) as error:
                sessions.connection.run(statement, t=mallory.tenant_id, u=mallory.user_id, **names)
            assert error.value.args[0]["n"] == name
            sessions.connection.run("ROLLBACK")


def test_the_system_seal_of_no_organization_sees_no_row(stack, victim):
    """Under it only what the database does on its own behalf is of use."""
    attacker = Attacker(stack, "sessions_fn", "s")
    attacker.connection.run("BEGIN")
    attacker.authorize(attacker.token(kind="s"))

    for table in ("app.sessions", "app.session_events", "app.projects"):
        assert attacker.connection.run(f"SELECT count(*) FROM (SELECT tenant_id FROM {table}) t") == [[0]]
    seen = attacker.try_all(["UPDATE app.sessions SET title = 'planted'", "DELETE FROM app.sessions RETURNING 'gone'"])
    assert "gone" not in seen
    attacker.connection.close()


def test_a_partition_is_reached_by_nobody(sessions: Attacker, admin, mallory, victim):
    parts = admin.run(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'app.session_events'::regclass"
    )
    assert parts
    sessions.begin_sealed(mallory)

    seen = sessions.try_all([f"SELECT * FROM {name}" for (name,) in parts])

    assert seen.count("42501") == len(parts)
