"""The operator suspends an organization and lets it go on: it counts on the very next request, and is on the record."""

import uuid

from tests.conftest import PASSWORD, last_audit_event
from tests.deletions.conftest import chain


def test_it_works(api, admin, people, alice, dan, mallory, operator):
    assert api.get("/v1/projects", headers=dan).status_code == 200

    done = operator("suspend", alice.tenant_id, "--reason", "invoices unpaid")

    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    event = last_audit_event(admin, alice)
    for person in (alice, dan):
        answer = api.get("/v1/projects", headers=person)
        assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")
    assert api.get("/v1/projects", headers=mallory).status_code == 200
    assert (event["action"], event["actor_type"], event["actor_id"]) == ("organization.suspended", "system", None)
    assert event["data"] == {"reason": "invoices unpaid"}

    assert operator("resume", alice.tenant_id).returncode == 0

    assert api.get("/v1/projects", headers=dan).status_code == 200
    assert last_audit_event(admin, alice)["action"] == "organization.resumed"
    assert chain(admin, alice.tenant_id).broken is None


def test_an_api_key_stops_too(api, alice, operator):
    body = {"name": "robot", "permissions": ["project.view"]}
    key = {"Authorization": f"Bearer {api.post('/v1/api-keys', json=body, headers=alice).json['key']}"}
    assert api.get("/v1/projects", headers=key).status_code == 200

    operator("suspend", alice.tenant_id)

    answer = api.get("/v1/projects", headers=key)
    assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")


def test_a_log_in_says_so(api, alice, operator):
    operator("suspend", alice.tenant_id)
    answer = api.post("/v1/auth/login", json={"email": alice.email, "password": PASSWORD})
    assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")


def test_twice_is_once(admin, alice, operator):
    operator("suspend", alice.tenant_id)
    again = operator("suspend", alice.tenant_id)
    assert (again.returncode, again.stdout.split(":")[0]) == (0, "nothing to do")
    events = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :t AND action = 'organization.suspended'"
    assert admin.run(events, t=alice.tenant_id) == [[1]]


def test_nobody_by_that_id(operator):
    unknown = operator("suspend", str(uuid.uuid4()))
    assert (unknown.returncode, unknown.stdout) == (1, "there is no such organization\n")


def test_what_is_being_erased_stays_stopped(admin, alice, operator):
    job = str(uuid.uuid4())
    admin.run("INSERT INTO platform.jobs (id, kind, status) VALUES (:id, 'deletion', 'running')", id=job)
    admin.run(
        "INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at, receipt_hash)"
        " VALUES (:id, :u, 'me', now(), now(), 'x')",
        id=job,
        u=alice.user_id,
    )
    admin.run(
        "INSERT INTO platform.deletion_organizations (job_id, tenant_id, mode) VALUES (:id, :t, 'whole')",
        id=job,
        t=alice.tenant_id,
    )
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)

    refused = operator("resume", alice.tenant_id)

    assert refused.returncode == 1
    assert "erased" in refused.stdout


def test_no_function_may_do_it(stack, admin):
    for role in stack["postgres"]:
        if role != "admin":
            may = "SELECT has_function_privilege(:r, 'platform.set_suspended(uuid, boolean, jsonb, text)', 'EXECUTE')"
            assert admin.run(may, r=role) == [[False]], role
