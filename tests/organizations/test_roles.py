"""Roles: built-in ones stay as they are, an organization's own hold nothing that their maker lacks."""

import pytest

from functions.organizations.permissions import BUILT_IN, CODES
from tests.conftest import last_audit_event
from tests.organizations.support import invite, person_with, role


def refusal(answer):
    return answer.status_code, answer.json["code"]


def builtin(api, person, name):
    """The built-in role of that name, as lists show it."""
    return next(each for each in api.get("/v1/roles", headers=person).json["items"] if each["name"] == name)


def test_it_works(api, admin, alice):
    body = {"name": " Auditor ", "permissions": ["organizations.view", "audit.view", "audit.view"]}

    answer = api.post("/v1/roles", json=body, headers=alice)

    assert answer.status_code == 201, answer.text
    assert (answer.json["name"], answer.json["builtin"], answer.json["version"]) == ("Auditor", False, 1)
    assert answer.json["permissions"] == ["audit.view", "organizations.view"]
    assert answer.headers["Location"] == f"/v1/roles/{answer.json['id']}"
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_id"]) == ("role.created", answer.json["id"])
    assert event["data"] == {"permissions": ["audit.view", "organizations.view"]}


def test_the_list_has_own_and_built_in_roles(api, alice, vera, mallory):
    made = [role(api, alice, name, "project.view")["id"] for name in ("One", "Two")]
    role(api, mallory, "Theirs")

    items = api.get("/v1/roles", headers=vera).json["items"]

    assert [each["name"] for each in items] == ["Two", "One", *BUILT_IN]
    assert [each["id"] for each in items[:2]] == made[::-1]
    assert [each["builtin"] for each in items] == [False, False, *[True] * 5]
    assert items[2]["permissions"] == sorted(CODES)
    found, path = [], "/v1/roles?limit=3"
    while path:
        page = api.get(path, headers=vera).json
        found += page["items"]
        path = page["next_cursor"] and f"/v1/roles?limit=3&cursor={page['next_cursor']}"
    assert found == items


def test_permissions(api, vera):
    items = api.get("/v1/permissions", headers=vera).json["items"]
    assert {each["code"]: each["description"] for each in items} == CODES


def test_a_change_counts_at_once(api, people, alice):
    person = person_with(api, people, alice, "project.view")
    made = api.get("/v1/roles", headers=alice).json["items"][0]
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=person).status_code == 403

    more = {"permissions": ["project.view", "project.create"], "name": "Maker"}
    answer = api.patch(f"/v1/roles/{made['id']}", json=more, headers={**alice, "If-Match": '"1"'})

    assert (answer.status_code, answer.json["version"], answer.headers["ETag"]) == (200, 2, '"2"')
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=person).status_code == 201
    assert [m["role"] for m in api.get("/v1/members?role=Maker", headers=alice).json["items"]] == ["Maker"]
    stale = api.patch(f"/v1/roles/{made['id']}", json=more, headers={**alice, "If-Match": '"1"'})
    assert refusal(stale) == (412, "precondition_failed")


@pytest.mark.parametrize("name", [*BUILT_IN, "OWNER", " Admin ", "ｏｗｎｅｒ"])
def test_built_in_names_are_not_used_again(api, alice, name):
    made = role(api, alice, "Mine")
    assert refusal(api.post("/v1/roles", json={"name": name, "permissions": []}, headers=alice)) == (
        409,
        "role_builtin",
    )
    assert refusal(api.patch(f"/v1/roles/{made['id']}", json={"name": name}, headers=alice)) == (409, "role_builtin")


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_roles_stay(api, alice, name):
    path = f"/v1/roles/{builtin(api, alice, name)['id']}"
    assert refusal(api.patch(path, json={"permissions": []}, headers=alice)) == (409, "role_builtin")
    assert refusal(api.delete(path, headers=alice)) == (409, "role_builtin")


def test_a_name_is_taken_once(api, alice, mallory):
    role(api, alice, "Auditor")
    other = role(api, alice, "Other")
    again = api.post("/v1/roles", json={"name": "Auditor", "permissions": []}, headers=alice)
    renamed = api.patch(f"/v1/roles/{other['id']}", json={"name": "Auditor"}, headers=alice)
    assert refusal(again) == refusal(renamed) == (409, "role_name_taken")
    role(api, mallory, "Auditor")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x", "permissions": ["project.fly"]},
        {"name": "x", "permissions": "project.view"},
        {"name": "x", "permissions": ["project.view"] * 30},
        {"name": "", "permissions": []},
        {"name": " ", "permissions": []},
        {"name": "a\nb", "permissions": []},
        {"name": "x" * 65, "permissions": []},
        {"name": "x"},
        {"name": "x", "permissions": [], "builtin": True},
    ],
)
def test_what_is_not_valid(api, alice, body):
    assert refusal(api.post("/v1/roles", json=body, headers=alice)) == (422, "invalid_request")


def test_nobody_makes_what_she_lacks(api, people, alice):
    boss = people.create("admin", alice.tenant_id)
    high = role(api, alice, "High", "billing.edit")
    mine = role(api, boss, "Mine", "project.view")

    refused = api.post("/v1/roles", json={"name": "New", "permissions": ["billing.edit"]}, headers=boss)
    grown = api.patch(f"/v1/roles/{mine['id']}", json={"permissions": ["billing.edit"]}, headers=boss)
    touched = api.patch(f"/v1/roles/{high['id']}", json={"name": "Low"}, headers=boss)
    emptied = api.patch(f"/v1/roles/{high['id']}", json={"permissions": []}, headers=boss)
    deleted = api.delete(f"/v1/roles/{high['id']}", headers=boss)

    for answer in (refused, grown, touched, emptied, deleted):
        assert refusal(answer) == (403, "permission_denied")
        assert "billing.edit" in answer.json["detail"]
    assert api.patch(f"/v1/roles/{mine['id']}", json={"permissions": ["task.view"]}, headers=boss).status_code == 200


def test_a_role_in_use_stays(api, people, alice, inbox):
    person = person_with(api, people, alice, "project.view", name="Used")
    made = api.get("/v1/roles", headers=alice).json["items"][0]["id"]
    assert refusal(api.delete(f"/v1/roles/{made}", headers=alice)) == (409, "role_in_use")
    api.patch(f"/v1/members/{person.user_id}", json={"role": "viewer"}, headers=alice)
    invitation = invite(api, alice, f"{made[:8]}@example.org", "Used")
    assert refusal(api.delete(f"/v1/roles/{made}", headers=alice)) == (409, "role_in_use")
    assert api.delete(f"/v1/invitations/{invitation['id']}", headers=alice).status_code == 204

    assert api.delete(f"/v1/roles/{made}", headers=alice).status_code == 204

    assert refusal(api.delete(f"/v1/roles/{made}", headers=alice)) == (404, "not_found")
    (shown,) = api.get("/v1/invitations", headers=alice).json["items"]
    assert (shown["role"], shown["status"]) == ("Used", "revoked")


def test_who_may(api, people, alice, dan, vera, mallory):
    made = role(api, alice, "Mine")
    for person in (dan, vera):
        answer = api.post("/v1/roles", json={"name": "x", "permissions": []}, headers=person)
        assert refusal(answer) == (403, "permission_denied")
    assert refusal(api.patch(f"/v1/roles/{made['id']}", json={"name": "x"}, headers=mallory)) == (404, "not_found")
    assert refusal(api.delete(f"/v1/roles/{made['id']}", headers=mallory)) == (404, "not_found")
    old = people.log_in(alice, age_seconds=301)
    for method, path in (("POST", "/v1/roles"), ("PATCH", f"/v1/roles/{made['id']}")):
        answer = api.request(method, path, json={"name": "x", "permissions": []}, headers=old)
        assert refusal(answer) == (403, "step_up_required")
    assert refusal(api.delete(f"/v1/roles/{made['id']}", headers=old)) == (403, "step_up_required")


def test_permissions_are_those_of_the_database(admin):
    rows = dict(admin.run("SELECT name, permissions FROM platform.roles"))
    assert tuple(sorted(rows)) == tuple(sorted(BUILT_IN))
    assert sorted(rows["owner"]) == sorted(CODES)
