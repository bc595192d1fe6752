"""Scope user: what one organization has about a person, for those who may ask, and for the person."""

import json
import uuid

import pytest

from tests.conftest import last_audit_event
from tests.exports.conftest import a_session

STALE_SECONDS = 3600


def ask(person_id):
    return {"scope": "user", "user_id": person_id, "format": "json"}


@pytest.fixture
def dans(api, admin, alice, dan):
    """What Dan and Alice did: her project and task, his task."""
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    for title, maker in (("his", dan), ("hers", alice)):
        answer = api.post(f"/v1/projects/{project}/tasks", json={"title": title}, headers=maker)
        assert answer.status_code == 201
    for maker in (dan, alice):
        a_session(admin, project, alice, maker, [dan, alice])
    return project


def test_it_works(api, admin, alice, dan, dans, exports):
    answer = api.post("/v1/exports", json=ask(dan.user_id), headers=alice)

    assert answer.status_code == 202, answer.text
    assert (answer.json["scope"], answer.json["subject_user_id"]) == ("user", dan.user_id)
    event = last_audit_event(admin, alice)
    assert (event["action"], event["actor_id"], event["data"]) == (
        "export.requested",
        alice.user_id,
        {"scope": "user", "format": "json"},
    )
    assert exports.ended(alice, answer.json["id"])["status"] == "ready"
    package = exports.download(alice, answer.json["id"])
    assert [row["title"] for row in package.rows("tasks")] == ["his"]
    assert package.rows("projects") == []
    assert [row["created_by"] for row in package.rows("sessions")] == [dan.user_id]
    assert [row["created_by"] for row in package.rows("session_events")] == [dan.user_id] * 2
    assert package.rows("session_events")[0]["data"] == {"by": dan.user_id}
    assert [row["user_id"] for row in package.rows("members")] == [dan.user_id]
    assert {row["actor_id"] for row in package.rows("audit_events")} == {dan.user_id}


def test_nothing_of_the_account_or_of_another_organization(api, alice, dan, dans, people, exports):
    elsewhere = people.organization()
    people.join(dan.user_id, elsewhere, "owner")
    his = people.log_in(dan, tenant_id=elsewhere)
    assert api.post("/v1/projects", json={"name": "Elsewhere"}, headers=his).status_code == 201

    package = exports.package(alice, **ask(dan.user_id))

    assert {name.rpartition("/")[2] for name in package.archive.namelist() if name.startswith("data/")} == {
        *("api_keys.json", "audit_events.json", "consent_texts.json", "invitations.json", "member_consents.json"),
        *("members.json", "projects.json", "session_events.json", "sessions.json", "tasks.json", "team_members.json"),
    }
    content = b"".join(package.archive.read(name) for name in package.archive.namelist()).decode()
    for secret in ("Elsewhere", elsewhere, dan.email, dan.name, alice.email, alice.name):
        assert secret not in content
    assert package.manifest["request"]["scope"] == "user"
    assert [each["id"] for each in package.manifest["organizations"]] == [alice.tenant_id]


def test_the_person_reads_and_downloads_it(api, admin, alice, dan, exports):
    export = exports.request(alice, **ask(dan.user_id))
    exports.ended(alice, export)

    assert api.get(f"/v1/exports/{export}", headers=dan).json["scope"] == "user"
    assert [item["id"] for item in api.get("/v1/exports", headers=dan).json["items"]] == [export]
    assert exports.download(dan, export).sha256 == exports.download(alice, export).sha256
    denied = api.delete(f"/v1/exports/{export}", headers=dan)
    assert (denied.status_code, denied.json["code"]) == (403, "permission_denied")


def test_another_who_may_ask_sees_and_ends_it_but_gets_no_file(api, admin, alice, dan, people, exports):
    admin_person = people.create("admin", alice.tenant_id)
    export = exports.request(alice, **ask(dan.user_id))
    exports.ended(alice, export)

    assert exports.state(admin_person, export)["status"] == "ready"
    denied = api.get(f"/v1/exports/{export}/download", headers=admin_person)
    assert (denied.status_code, denied.json["code"]) == (403, "permission_denied")
    assert api.delete(f"/v1/exports/{export}", headers=admin_person).status_code == 204
    assert exports.state(alice, export)["status"] == "expired"
    assert last_audit_event(admin, alice, "export.deleted")["actor_id"] == admin_person.user_id


def test_others_see_nothing(api, alice, dan, vera, mallory, exports):
    export = exports.request(alice, **ask(dan.user_id))

    for person in (vera, mallory):
        for method, path in [("GET", ""), ("GET", "/download"), ("DELETE", "")]:
            answer = api.request(method, f"/v1/exports/{export}{path}", headers=person)
            assert (answer.status_code, answer.json["code"]) == (404, "not_found")
        assert api.get("/v1/exports", headers=person).json["items"] == []
    exports.ended(alice, export)


def test_who_asked_gets_nothing_any_more_once_she_may_not(api, admin, people, alice, dan, exports, inbox):
    """Demoted or removed, she neither sees the request nor gets the mail with its link."""
    asker = people.create("admin", alice.tenant_id)
    export = exports.request(asker, **ask(dan.user_id))
    exports.ended(asker, export)
    inbox.wait_for(asker.email, "export is ready")
    admin.run("UPDATE app.members SET role = 'viewer' WHERE user_id = :u", u=asker.user_id)
    assert api.get(f"/v1/exports/{export}/download", headers=asker).status_code == 404
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=asker.user_id)
    elsewhere = people.organization()
    people.join(asker.user_id, elsewhere, "owner")
    her = people.log_in(asker, tenant_id=elsewhere)
    assert api.get(f"/v1/exports/{export}", headers=her).status_code == 404
    assert api.get(f"/v1/exports/{export}/download", headers=her).status_code == 404


def test_no_mail_to_who_may_not_any_more(admin, people, alice, dan, exports, standing_still_at, inbox):
    asker = people.create("admin", alice.tenant_id)
    with standing_still_at("app.tasks"):
        export = exports.request(asker, **ask(dan.user_id))
        admin.run("UPDATE app.members SET role = 'viewer' WHERE user_id = :u", u=asker.user_id)

    exports.ended(alice, export)
    again = exports.request(alice, **ask(dan.user_id))
    exports.ended(alice, again)
    inbox.wait_for(alice.email, "export is ready")
    assert inbox.messages(asker.email) == []


def test_one_at_a_time_and_apart_from_her_own(api, alice, dan, people, exports, standing_still_at):
    """Neither does the organization learn what she has running herself or elsewhere."""
    elsewhere = people.create("owner")
    people.join(dan.user_id, elsewhere.tenant_id, "viewer")
    with standing_still_at("app.tasks"):
        first = exports.request(alice, **ask(dan.user_id))
        second = api.post("/v1/exports", json=ask(dan.user_id), headers=alice)
        others = [(dan, exports.request(dan)), (elsewhere, exports.request(elsewhere, **ask(dan.user_id)))]

    assert (second.status_code, second.json["code"]) == (409, "export_in_progress")
    for person, export in [(alice, first), *others]:
        assert exports.ended(person, export)["status"] == "ready"


@pytest.mark.parametrize("who", ["stranger", "nobody"])
def test_a_person_of_another_organization_is_nobody(api, alice, mallory, who):
    person = mallory.user_id if who == "stranger" else str(uuid.uuid4())
    answer = api.post("/v1/exports", json=ask(person), headers=alice)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_who_has_left_is_known_by_what_is_left(api, admin, alice, dan, dans, exports):
    assert api.delete(f"/v1/members/{dan.user_id}", headers=alice).status_code == 204

    package = exports.package(alice, **ask(dan.user_id))

    assert [row["title"] for row in package.rows("tasks")] == ["his"]
    assert package.rows("members") == []


def test_without_the_permission(api, admin, vera, alice):
    """403 comes before the body is judged."""
    for body in (ask(alice.user_id), {"scope": "user", "format": "xml"}, {"scope": "organization"}):
        answer = api.post("/v1/exports", json=body, headers=vera)
        assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")
        event = last_audit_event(admin, alice)
        assert (event["action"], event["data"]["needs"]) == ("access.denied", "export.create")


def test_without_a_fresh_proof(api, admin, people, alice, dan):
    stale = people.log_in(alice, age_seconds=STALE_SECONDS)

    for body in (ask(dan.user_id), {"scope": "organization"}, {"scope": "user"}):
        answer = api.post("/v1/exports", json=body, headers=stale)
        assert (answer.status_code, answer.json["code"]) == (403, "step_up_required")
        assert "max_age" in answer.headers["WWW-Authenticate"]
    assert last_audit_event(admin, alice)["data"] == {"reason": "step_up_required", "needs": "export.create"}
    assert api.post("/v1/exports", json={"scope": "me"}, headers=stale).status_code == 202


def test_a_replayed_answer_needs_the_permission_too(api, admin, people, alice, dan, exports):
    asker = people.create("admin", alice.tenant_id)
    headers = {**asker, "Idempotency-Key": uuid.uuid4().hex}
    first = api.post("/v1/exports", json=ask(dan.user_id), headers=headers)
    again = api.post("/v1/exports", json=ask(dan.user_id), headers=headers)
    assert (again.status_code, again.text) == (202, first.text)
    admin.run("UPDATE app.members SET role = 'viewer' WHERE user_id = :u", u=asker.user_id)
    assert api.post("/v1/exports", json=ask(dan.user_id), headers=headers).status_code == 403
    exports.ended(alice, first.json["id"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"scope": "user"}, "user_id"),
        ({"scope": "user", "user_id": None}, "user_id"),
        ({"scope": "user", "user_id": "dan"}, "user_id"),
        ({"scope": "organization", "user_id": str(uuid.uuid4())}, "user_id"),
        ({"scope": "me", "user_id": str(uuid.uuid4())}, "user_id"),
    ],
)
def test_a_person_where_one_is_meant(api, alice, body, field):
    answer = api.post("/v1/exports", json=body, headers=alice)
    assert (answer.status_code, list(answer.json["errors"])) == (422, [field]), json.dumps(answer.json)


def test_no_api_key_may_ask(api, alice, dan):
    key = api.post("/v1/api-keys", json={"name": "robot", "permissions": ["export.create"]}, headers=alice).json["key"]
    for body in ({"scope": "me"}, ask(dan.user_id), {"scope": "organization"}):
        answer = api.post("/v1/exports", json=body, headers={"Authorization": f"Bearer {key}"})
        assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")
