"""POST /v1/projects."""

import pytest

from tests.conftest import last_audit_event


def test_it_works(api, admin, alice):
    answer = api.post("/v1/projects", json={"name": "Atlas", "description": "All maps"}, headers=alice)

    assert answer.status_code == 201
    assert answer.json["name"] == "Atlas"
    assert answer.json["version"] == 1
    assert answer.json["created_by"] == alice.user_id
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"/v1/projects/{answer.json['id']}"
    assert admin.run("SELECT tenant_id::text FROM app.projects WHERE id = :id", id=answer.json["id"]) == [
        [alice.tenant_id]
    ]
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_id"], event["actor_id"]) == (
        "project.created",
        answer.json["id"],
        alice.user_id,
    )
    assert event["personal"]["ip"] == "127.0.0.1"


def test_another_organization_sees_nothing(api, alice, mallory):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]

    assert api.get(f"/v1/projects/{project}", headers=mallory).status_code == 404
    assert api.patch(f"/v1/projects/{project}", json={"name": "Mine"}, headers=mallory).status_code == 404
    assert api.delete(f"/v1/projects/{project}", headers=mallory).status_code == 404
    assert api.get("/v1/projects", headers=mallory).json["items"] == []
    assert api.get(f"/v1/projects/{project}", headers=alice).json["name"] == "Atlas"


def test_the_same_name_twice_is_refused(api, alice, mallory):
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).status_code == 201

    again = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    assert (again.status_code, again.json["code"]) == (409, "project_name_taken")
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=mallory).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 256}, "name"),
        ({"name": 7}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "Atlas", "description": "x" * 10_001}, "description"),
        ({"name": "Atlas", "status": "deleted"}, "status"),
        ({"name": "Atlas", "tenant_id": "x"}, "tenant_id"),
    ],
)
def test_invalid_fields_are_named(api, alice, body, field):
    answer = api.post("/v1/projects", json=body, headers=alice)

    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert field in answer.json["errors"]
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_half_a_surrogate_pair_is_refused(api, alice):
    headers = {**alice, "Content-Type": "application/json"}
    answer = api.post("/v1/projects", data=rb'{"name": "\ud800"}', headers=headers)

    assert answer.status_code == 422


def test_a_viewer_may_not(api, admin, vera):
    answer = api.post("/v1/projects", json={"name": "Atlas"}, headers=vera)

    assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")
    event = last_audit_event(admin, vera)
    assert (event["action"], event["outcome"]) == ("access.denied", "denied")


def test_permission_is_checked_before_the_body(api, vera):
    assert api.post("/v1/projects", json={"name": ""}, headers=vera).status_code == 403


def test_without_a_token(api):
    answer = api.post("/v1/projects", json={"name": "Atlas"})

    assert (answer.status_code, answer.json["code"]) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_malformed_bodies(api, alice):
    headers = {**alice, "Content-Type": "application/json"}
    assert api.post("/v1/projects", data=b"{", headers=headers).json["code"] == "malformed_request"
    assert api.post("/v1/projects", data=b'{"name": NaN}', headers=headers).status_code == 400
    assert api.post("/v1/projects", data=b"\xff", headers=headers).status_code == 400
    assert api.post("/v1/projects", data=b"name=Atlas", headers={**alice, "Content-Type": "text/plain"}).json[
        "code"
    ] == ("unsupported_media_type")
    large = b'{"name": "' + b"x" * (1024 * 1024) + b'"}'
    assert api.post("/v1/projects", data=large, headers=headers).json["code"] == "body_too_large"
