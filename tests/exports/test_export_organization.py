"""Scope organization: all that an organization has, for those who may ask; nothing secret, nobody's address of use."""

import json
import uuid

import pytest

from tests.conftest import last_audit_event
from tests.exports.conftest import a_session

ASK = {"scope": "organization", "format": "json"}
SECRETS = ("key_hash", "token_hash", "password_hash", "personal", "personal_salt", "hash", "fingerprint", "body")


@pytest.fixture
def furnished(api, admin, alice, dan):
    """A row of each kind."""
    made = {"company": f"Company {uuid.uuid4().hex}", "invited": f"new-{uuid.uuid4().hex[:8]}@example.org"}
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    api.post(f"/v1/projects/{project}/tasks", json={"title": "his", "assignee_id": alice.user_id}, headers=dan)
    a_session(admin, project, alice, dan, [dan, alice])
    team = api.post("/v1/teams", json={"name": "Makers"}, headers=alice).json["id"]
    assert api.put(f"/v1/teams/{team}/members/{dan.user_id}", headers=alice).status_code in (201, 204)
    api.post("/v1/roles", json={"name": "Reader", "permissions": ["project.view"]}, headers=alice)
    api.post("/v1/invitations", json={"email": made["invited"], "role": "viewer"}, headers=alice)
    key = api.post("/v1/api-keys", json={"name": "robot", "permissions": ["project.view"]}, headers=alice)
    made["key"] = key.json["key"]
    assert api.patch("/v1/billing", json={"company": made["company"]}, headers=alice).status_code == 200
    admin.run(
        "INSERT INTO app.invoices (tenant_id, number, issued_at, total, currency, status, billed_to)"
        " VALUES (:t, 'R-1', now(), 100, 'EUR', 'paid', '{}')",
        t=alice.tenant_id,
    )
    return made


def test_it_works(api, admin, alice, dan, mallory, furnished, exports):
    answer = api.post("/v1/exports", json=ASK, headers=alice)

    assert answer.status_code == 202, answer.text
    assert (answer.json["scope"], answer.json["subject_user_id"]) == ("organization", None)
    assert last_audit_event(admin, alice, "export.requested")["data"] == ASK
    assert exports.ended(alice, answer.json["id"])["status"] == "ready"
    package = exports.download(alice, answer.json["id"])
    assert {name: count for name, count in package.manifest["counts"].items() if count} | {"audit_events": 0} == {
        **{"organizations": 1, "members": 2, "roles": 1, "invitations": 1, "teams": 1, "team_members": 1},
        **{"api_keys": 1, "billing": 1, "invoices": 1, "projects": 1, "tasks": 1, "audit_events": 0},
        **{"sessions": 1, "session_events": 2},
    }
    assert package.manifest["counts"]["audit_events"] >= 8
    assert package.rows("billing")[0]["company"] == furnished["company"]
    assert package.rows("invitations")[0]["email"] == furnished["invited"]
    assert package.rows("organizations")[0]["tenant_id"] == alice.tenant_id


def test_nothing_secret_and_members_as_ids(admin, alice, dan, furnished, exports):
    package = exports.package(alice, **ASK)

    content = b"".join(package.archive.read(name) for name in package.archive.namelist()).decode()
    for person in (alice, dan):
        assert person.email not in content
        assert person.name not in content
        assert person.user_id in content
    secrets = admin.run(
        """
        SELECT CAST(key_hash AS text) FROM app.api_keys WHERE tenant_id = :t
        UNION ALL SELECT encode(token_hash, 'hex') FROM app.invitations WHERE tenant_id = :t AND token_hash IS NOT NULL
        UNION ALL SELECT personal_salt FROM app.audit_events WHERE tenant_id = :t
        UNION ALL SELECT personal ->> 'user_agent' FROM app.audit_events WHERE tenant_id = :t
        """,
        t=alice.tenant_id,
    )
    assert len(secrets) > 4
    for secret in [*filter(None, (value for (value,) in secrets)), furnished["key"].split("_")[2]]:
        assert secret not in content
    for name in package.archive.namelist():
        if name.startswith("data/"):
            columns = {column for row in package.rows(name[5:-5]) for column in row}
            assert columns.isdisjoint(SECRETS), name


def test_another_who_may_ask_sees_it_and_gets_no_file(api, people, alice, vera, mallory, exports):
    other = people.create("admin", alice.tenant_id)
    export = exports.request(alice, **ASK)
    exports.ended(alice, export)

    assert exports.state(other, export)["scope"] == "organization"
    denied = api.get(f"/v1/exports/{export}/download", headers=other)
    assert (denied.status_code, denied.json["code"]) == (403, "permission_denied")
    for person in (vera, mallory):
        assert api.get(f"/v1/exports/{export}", headers=person).status_code == 404
    assert api.delete(f"/v1/exports/{export}", headers=other).status_code == 204


def test_one_at_a_time(api, alice, people, exports, standing_still_at):
    other = people.create("admin", alice.tenant_id)
    with standing_still_at("app.billing"):
        first = exports.request(alice, **ASK)
        second = api.post("/v1/exports", json=ASK, headers=other)
        own = exports.request(alice)

    assert (second.status_code, second.json["code"]) == (409, "export_in_progress")
    assert exports.ended(alice, first)["status"] == "ready"
    assert exports.ended(alice, own)["status"] == "ready"


def test_rows_of_another_organization_stay_there(api, admin, alice, mallory, exports):
    api.post("/v1/projects", json={"name": "Secret of Mallory"}, headers=mallory)

    package = exports.package(alice, **ASK)

    for name in package.archive.namelist():
        if name.startswith("data/"):
            assert {row["tenant_id"] for row in package.rows(name[5:-5])} <= {alice.tenant_id}
    assert "Secret of Mallory" not in json.dumps(package.rows("projects"))


def test_its_file_is_not_in_a_persons_copy(alice, exports):
    """That it was asked for is: she asked."""
    export = exports.request(alice, **ASK)
    exports.ended(alice, export)

    rows = {row["id"]: row for row in exports.package(alice).rows("exports")}

    assert (rows[export]["scope"], rows[export]["subject_account_id"]) == ("organization", None)
    assert "object_name" not in rows[export]
