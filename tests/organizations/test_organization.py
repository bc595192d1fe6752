"""GET and PATCH /v1/organization."""

import pytest

from tests.conftest import last_audit_event


def test_it_works(api, admin, alice):
    before = api.get("/v1/organization", headers=alice)
    assert before.json["id"] == alice.tenant_id
    assert (before.json["settings"], before.json["version"], before.headers["ETag"]) == ({}, 1, '"1"')

    change = {"name": "Acme – Ünïcode 🚀", "settings": {"theme": "dark", "beta": True, "seats": 5}}
    answer = api.patch("/v1/organization", json=change, headers={**alice, "If-Match": '"1"'})

    assert answer.status_code == 200
    assert (answer.json["name"], answer.json["settings"]) == (change["name"], change["settings"])
    assert api.get("/v1/organization", headers=alice).json == answer.json
    event = last_audit_event(admin, alice)
    assert (event["action"], event["data"]) == ("organization.updated", {"fields": ["name", "settings"]})


def test_stale_version(api, alice):
    answer = api.patch("/v1/organization", json={"name": "Other"}, headers={**alice, "If-Match": '"9"'})
    assert (answer.status_code, answer.json["code"]) == (412, "precondition_failed")


@pytest.mark.parametrize(
    "settings",
    [
        {"a": [1]},
        {"a": {"b": 1}},
        {"": 1},
        {"a": 1.5},
        {"a": "x" * 256},
        {f"k{n}": n for n in range(65)},
        {"a": "\x00"},
        7,
    ],
)
def test_settings_are_short_scalars(api, alice, settings):
    answer = api.patch("/v1/organization", json={"settings": settings}, headers=alice)
    assert answer.status_code == 422, answer.text
    assert next(iter(answer.json["errors"])).startswith("settings")


def test_who_may(api, dan, vera, mallory, alice):
    assert api.get("/v1/organization", headers=vera).status_code == 200
    assert api.patch("/v1/organization", json={"name": "Dan's"}, headers=dan).status_code == 403
    assert api.get("/v1/organization", headers=mallory).json["id"] == mallory.tenant_id


def test_a_removed_member_is_out_at_once(api, admin, alice, dan):
    assert api.get("/v1/members", headers=dan).status_code == 200
    admin.run("DELETE FROM app.members WHERE user_id = :user", user=dan.user_id)
    assert api.get("/v1/members", headers=dan).status_code == 401


def test_a_changed_role_counts_at_once(api, admin, alice, dan):
    admin.run("UPDATE app.members SET role = 'viewer' WHERE user_id = :user", user=dan.user_id)
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=dan).status_code == 403


def test_a_suspended_organization(api, admin, alice):
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)
    answer = api.get("/v1/organization", headers=alice)
    assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")


def test_members_by_role(api, alice, dan, vera):
    viewers = api.get("/v1/members?role=viewer", headers=alice).json["items"]
    assert [member["user_id"] for member in viewers] == [vera.user_id]
    assert api.get("/v1/members?role=king", headers=alice).status_code == 422
