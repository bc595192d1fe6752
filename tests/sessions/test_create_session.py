"""POST /v1/sessions."""

import uuid

import pytest

from tests.conftest import last_audit_event


def test_it_works(api, admin, alice, project):
    answer = api.post("/v1/sessions", json={"project_id": project, "title": "Kick-off"}, headers=alice)

    assert answer.status_code == 201
    session = answer.json
    expected = {"project_id": project, "title": "Kick-off", "status": "active", "created_by": alice.user_id}
    assert session == expected | {
        "id": session["id"],
        "created_at": session["created_at"],
        "last_event_at": None,
        "closed_at": None,
        "version": 1,
    }
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"/v1/sessions/{session['id']}"
    assert api.get(answer.headers["Location"], headers=alice).json == session
    assert admin.run("SELECT tenant_id::text FROM app.sessions WHERE id = :id", id=session["id"]) == [[alice.tenant_id]]
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_type"], event["resource_id"]) == (
        "session.created",
        "session",
        session["id"],
    )


def test_a_member_may(api, people, alice, project):
    member = people.create("member", alice.tenant_id)
    body = {"project_id": project, "title": "Kick-off"}
    assert api.post("/v1/sessions", json=body, headers=member).json["created_by"] == member.user_id


def test_a_viewer_may_not(api, vera, project):
    answer = api.post("/v1/sessions", json={"project_id": project, "title": "Kick-off"}, headers=vera)
    assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")


def test_a_project_of_nobody_or_of_another_organization_is_refused_alike(api, admin, mallory, project):
    answers = [
        api.post("/v1/sessions", json={"project_id": wanted, "title": "Kick-off"}, headers=mallory)
        for wanted in (project, str(uuid.uuid4()))
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    errors = [answer.json["errors"] for answer in answers]
    assert errors == [{"project_id": ["Not a project of this organization."]}] * 2
    assert admin.run("SELECT count(*) FROM app.sessions WHERE tenant_id = :t", t=mallory.tenant_id) == [[0]]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": ""}, "title"),
        ({"title": "x" * 256}, "title"),
        ({"title": "a\x00b"}, "title"),
        ({"title": 7}, "title"),
        ({"title": None}, "title"),
        ({"project_id": "Atlas"}, "project_id"),
        ({"status": "closed"}, "status"),
        ({"tenant_id": "x"}, "tenant_id"),
        ({"closes_at": "2100-01-01T00:00:00Z"}, "closes_at"),
    ],
)
def test_invalid_fields_are_named(api, alice, project, change, field):
    answer = api.post("/v1/sessions", json={"project_id": project, "title": "Kick-off", **change}, headers=alice)

    assert (answer.status_code, list(answer.json["errors"])) == (422, [field])


def test_the_same_key_makes_one_session(api, admin, alice, project):
    headers = {**alice, "Idempotency-Key": "first"}
    body = {"project_id": project, "title": "Kick-off"}
    first, again = (api.post("/v1/sessions", json=body, headers=headers) for _ in range(2))

    assert (first.status_code, again.status_code, again.json) == (201, 201, first.json)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert admin.run("SELECT count(*) FROM app.sessions WHERE tenant_id = :t", t=alice.tenant_id) == [[1]]
