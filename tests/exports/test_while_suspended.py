"""While an organization is suspended its members keep their rights: a copy of their own data (Art. 15 GDPR)."""

import pytest

from tests.conftest import PASSWORD, last_audit_event
from tests.deletions.conftest import chain

STALE_SECONDS = 3600


@pytest.fixture
def suspended(api, admin, alice, dan):
    """Alice's organization, in which Dan has a task."""
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    api.post(f"/v1/projects/{project}/tasks", json={"title": "his"}, headers=alice)
    api.post(f"/v1/projects/{project}/tasks", json={"title": "his own"}, headers=dan)
    key = api.post("/v1/api-keys", json={"name": "robot", "permissions": ["export.create"]}, headers=alice).json["key"]
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)
    return {"Authorization": f"Bearer {key}"}


def test_a_person_gets_her_own_data(api, admin, alice, dan, suspended, exports, inbox):
    assert api.get("/v1/projects", headers=dan).json["code"] == "organization_suspended"

    export = exports.request(dan)
    event = last_audit_event(admin, alice)
    assert (event["action"], event["actor_id"], event["resource_id"]) == ("export.requested", dan.user_id, export)
    assert exports.ended(dan, export)["status"] == "ready"
    package = exports.download(dan, export)

    assert [row["title"] for row in package.rows("tasks")] == ["his own"]
    assert package.rows("accounts")[0]["email"] == dan.email
    inbox.wait_for(dan.email, "export is ready")
    assert [item["id"] for item in api.get("/v1/exports", headers=dan).json["items"]] == [export]
    assert api.delete(f"/v1/exports/{export}", headers=dan).status_code == 204
    assert last_audit_event(admin, alice, "export.deleted")["resource_id"] == export
    assert chain(admin, alice.tenant_id).broken is None


@pytest.mark.parametrize("scope", ["user", "organization"])
def test_an_owner_gets_nobody_elses(api, alice, dan, suspended, scope):
    answer = api.post("/v1/exports", json={"scope": scope, "user_id": dan.user_id}, headers=alice)
    assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")


def test_what_the_organization_asked_for_waits(api, admin, people, alice, dan, exports):
    """Its owner neither sees nor gets it until the organization goes on; whom it is about does."""
    export = exports.request(alice, scope="user", user_id=dan.user_id)
    exports.ended(alice, export)
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)

    assert api.get(f"/v1/exports/{export}/download", headers=alice).status_code == 404
    assert api.get("/v1/exports", headers=alice).json["items"] == []
    assert api.delete(f"/v1/exports/{export}", headers=alice).status_code == 404
    assert exports.download(dan, export).rows("members")


def test_an_api_key_gets_nothing(api, suspended):
    for method, path in (("POST", "/v1/exports"), ("GET", "/v1/exports")):
        answer = api.request(method, path, headers=suspended, json={"scope": "me"} if method == "POST" else None)
        assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")


def test_a_fresh_proof_can_be_given(api, people, alice, suspended):
    stale = people.log_in(alice, age_seconds=STALE_SECONDS)
    answer = api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=stale)
    assert answer.status_code == 200, answer.text
    fresh = {"Authorization": f"Bearer {answer.json['access_token']}"}
    assert api.post("/v1/exports", json={"scope": "me"}, headers=fresh).status_code == 202
    assert api.get("/v1/projects", headers=fresh).json["code"] == "organization_suspended"


def test_a_removed_member_gets_in_nowhere(api, admin, dan, suspended):
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=dan.user_id)
    assert api.post("/v1/exports", json={"scope": "me"}, headers=dan).status_code == 401


def test_nor_does_a_log_in_that_has_ended(api, admin, dan, suspended):
    admin.run("UPDATE identity.login_sessions SET revoked_at = now() WHERE account_id = :u", u=dan.user_id)
    assert api.get("/v1/exports", headers=dan).status_code == 401
