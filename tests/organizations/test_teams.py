"""Teams: named groups of members, which give no permission."""

import uuid

import pytest

from tests.conftest import last_audit_event


def refusal(answer):
    return answer.status_code, answer.json["code"]


@pytest.fixture
def team(api, alice):
    answer = api.post("/v1/teams", json={"name": "Blue", "description": "the sea"}, headers=alice)
    assert answer.status_code == 201, answer.text
    return answer.json


def test_it_works(api, admin, alice, vera, team):
    assert (team["name"], team["description"], team["version"]) == ("Blue", "the sea", 1)
    assert last_audit_event(admin, alice)["action"] == "team.created"
    path = f"/v1/teams/{team['id']}"
    assert api.get(path, headers=vera).json == team
    changed = api.patch(path, json={"name": "Green"}, headers={**alice, "If-Match": '"1"'})
    assert (changed.json["name"], changed.json["description"], changed.headers["ETag"]) == ("Green", "the sea", '"2"')
    assert api.get("/v1/teams", headers=vera).json["items"] == [changed.json]
    assert refusal(api.patch(path, json={"name": "Red"}, headers={**alice, "If-Match": '"1"'})) == (
        412,
        "precondition_failed",
    )
    assert refusal(api.delete(path, headers={**alice, "If-Match": '"1"'})) == (412, "precondition_failed")
    assert api.delete(path, headers=alice).status_code == 204
    assert refusal(api.get(path, headers=vera)) == (404, "not_found")
    assert last_audit_event(admin, alice)["action"] == "team.deleted"


def test_members_come_and_go(api, admin, alice, dan, vera, team):
    path = f"/v1/teams/{team['id']}/members"
    for person in (dan, vera, dan):
        assert api.put(f"{path}/{person.user_id}", headers=alice).status_code == 204

    page = api.get(f"{path}?limit=1", headers=vera).json
    rest = api.get(f"{path}?limit=1&cursor={page['next_cursor']}", headers=vera).json

    assert [each["user_id"] for each in page["items"] + rest["items"]] == [vera.user_id, dan.user_id]
    assert (rest["items"][0]["email"], rest["items"][0]["display_name"]) == (dan.email, dan.name)
    assert rest["next_cursor"] is None
    added = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :t AND action = 'team.member_added'"
    assert admin.run(added, t=alice.tenant_id) == [[2]]
    assert api.delete(f"{path}/{dan.user_id}", headers=alice).status_code == 204
    assert refusal(api.delete(f"{path}/{dan.user_id}", headers=alice)) == (404, "not_found")
    assert [each["user_id"] for each in api.get(path, headers=vera).json["items"]] == [vera.user_id]


def test_a_name_is_taken_once(api, alice, mallory, team):
    again = api.post("/v1/teams", json={"name": "Blue"}, headers=alice)
    other = api.post("/v1/teams", json={"name": "Red"}, headers=alice).json["id"]
    renamed = api.patch(f"/v1/teams/{other}", json={"name": "Blue"}, headers=alice)
    assert refusal(again) == refusal(renamed) == (409, "team_name_taken")
    assert api.post("/v1/teams", json={"name": "Blue"}, headers=mallory).status_code == 201


def test_who_may(api, dan, vera, mallory, team):
    path = f"/v1/teams/{team['id']}"
    for person in (dan, vera):
        for answer in (
            api.post("/v1/teams", json={"name": "x"}, headers=person),
            api.patch(path, json={"name": "x"}, headers=person),
            api.delete(path, headers=person),
            api.put(f"{path}/members/{person.user_id}", headers=person),
            api.delete(f"{path}/members/{person.user_id}", headers=person),
        ):
            assert refusal(answer) == (403, "permission_denied")


def test_another_organization(api, alice, mallory, team):
    path = f"/v1/teams/{team['id']}"
    for answer in (
        api.get(path, headers=mallory),
        api.patch(path, json={"name": "x"}, headers=mallory),
        api.delete(path, headers=mallory),
        api.get(f"{path}/members", headers=mallory),
        api.put(f"{path}/members/{mallory.user_id}", headers=mallory),
        api.put(f"{path}/members/{mallory.user_id}", headers=alice),
        api.put(f"{path}/members/{uuid.uuid4()}", headers=alice),
        api.get(f"/v1/teams/{uuid.uuid4()}/members", headers=alice),
    ):
        assert refusal(answer) == (404, "not_found")
    assert api.get("/v1/teams", headers=mallory).json["items"] == []


@pytest.mark.parametrize(
    "body", [{}, {"name": ""}, {"name": "x" * 256}, {"name": "a\tb"}, {"name": "x", "description": "d" * 10_001}]
)
def test_what_is_not_valid(api, alice, body):
    assert refusal(api.post("/v1/teams", json=body, headers=alice)) == (422, "invalid_request")
