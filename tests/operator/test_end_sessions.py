"""The operator ends login sessions, of one account or of all: dead on the next request, and on the record."""

import pytest
from pg8000.exceptions import DatabaseError

from tests.conftest import database, last_audit_event
from tests.deletions.conftest import chain


def test_the_sessions_of_one_account(api, admin, people, alice, dan, operator):
    elsewhere = people.log_in(dan)

    done = operator("end-sessions", dan.user_id, "--reason", "stolen laptop")

    assert (done.returncode, done.stdout) == (0, "2 ended\n"), done.stderr
    event = last_audit_event(admin, alice)
    for log_in in (dan, elsewhere):
        assert api.get("/v1/auth/me", headers=log_in).status_code == 401
    assert api.get("/v1/auth/me", headers=alice).status_code == 200
    assert (event["action"], event["actor_type"]) == ("login.ended_by_operator", "system")
    assert (event["resource_id"], event["data"]) == (dan.user_id, {"reason": "stolen laptop"})
    assert chain(admin, alice.tenant_id).broken is None
    assert operator("end-sessions", dan.user_id).stdout == "0 ended\n"


def test_everybody(api, admin, alice, mallory, operator):
    """Also where somebody has tampered with the audit chain."""
    assert api.post("/v1/projects", headers=mallory, json={"name": "Atlas"}).status_code == 201
    admin.run("UPDATE app.audit_heads SET seq = 0 WHERE tenant_id = :tenant", tenant=mallory.tenant_id)

    done = operator("end-sessions", "--everybody")

    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 2
    for person in (alice, mallory):
        assert api.get("/v1/auth/me", headers=person).status_code == 401


def test_no_function_may_do_it(stack, alice):
    for role, url in stack["postgres"].items():
        if role == "admin":
            continue
        with database(url) as connection, pytest.raises(DatabaseError, match="permission denied"):
            connection.run("SELECT platform.end_sessions(NULL, NULL, 'x')")
