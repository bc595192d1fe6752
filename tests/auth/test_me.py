"""GET and PATCH /v1/auth/me."""

import pytest

from tests.auth.support import events, refused


def test_it_tells_who_and_what(api, alice, vera):
    mine, hers = (api.get("/v1/auth/me", headers=person).json for person in (alice, vera))

    assert set(mine) == {"user", "organization", "permissions", "organizations"}
    assert mine["user"] == {"id": alice.user_id, "email": alice.email, "display_name": alice.name}
    assert (mine["organization"]["id"], mine["organization"]["role"]) == (alice.tenant_id, "owner")
    assert mine["organizations"] == [mine["organization"]]
    assert "organizations.delete" in mine["permissions"]
    assert hers["permissions"] == ["organizations.view", "project.view", "session.view", "task.view"]


def test_a_role_change_counts_at_once(api, admin, alice, vera):
    admin.run("UPDATE app.members SET role = 'admin' WHERE user_id = :u", u=vera.user_id)

    assert "users.invite" in api.get("/v1/auth/me", headers=vera).json["permissions"]


def test_a_removed_member_is_out_at_once(api, admin, alice, vera):
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=vera.user_id)

    assert refused(api.get("/v1/auth/me", headers=vera), 401, "invalid_token")


def test_the_name_can_be_changed(api, admin, vera, mallory):
    answer = api.patch("/v1/auth/me", json={"display_name": "  Vera Ström "}, headers=vera)

    assert (answer.status_code, answer.json["user"]["display_name"]) == (200, "Vera Ström")
    assert api.get("/v1/auth/me", headers=vera).json["user"]["display_name"] == "Vera Ström"
    assert api.get("/v1/auth/me", headers=mallory).json["user"]["display_name"] == mallory.name
    event = events(admin, vera.tenant_id)[-1]
    assert (event["action"], event["data"]) == ("user.updated", {"fields": ["display_name"]})
    assert "Ström" not in str(event)


def test_nothing_to_change(api, admin, vera):
    answer = api.patch("/v1/auth/me", json={}, headers=vera)

    assert (answer.status_code, answer.json["user"]["display_name"]) == (200, vera.name)
    assert events(admin, vera.tenant_id) == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"display_name": ""}, "display_name"),
        ({"display_name": None}, "display_name"),
        ({"email": "no address"}, "email"),
        ({"id": "x"}, "id"),
    ],
)
def test_invalid_fields_are_named(api, vera, body, field):
    answer = api.patch("/v1/auth/me", json=body, headers=vera)

    assert refused(answer, 422, "invalid_request")
    assert field in answer.json["errors"]
