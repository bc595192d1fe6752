"""An organization that asks for a second factor: a log-in without one is worth no permission there."""

import pytest


@pytest.fixture
def strict(admin, alice):
    """Alice's organization asks for a second factor."""
    admin.run(
        "UPDATE app.organizations SET settings = '{\"require_mfa\": true}' WHERE tenant_id = :tenant",
        tenant=alice.tenant_id,
    )
    return alice


def prove(admin, person, methods):
    """How the person has proved who they are."""
    admin.run(
        "UPDATE identity.login_sessions SET amr = CAST(:amr AS text[]) WHERE id = :id",
        amr=methods,
        id=person.session_id,
    )


def test_a_password_alone_opens_nothing_of_the_organization(api, strict, dan):
    for person in (strict, dan):
        answer = api.get("/v1/projects", headers=person)
        assert (answer.status_code, answer.json["code"]) == (403, "mfa_enrollment_required")
        assert api.post("/v1/projects", headers=person, json={"name": "Atlas"}).status_code == 403


def test_a_second_factor_opens_it(api, admin, strict):
    prove(admin, strict, ["pwd", "otp", "mfa"])
    assert api.get("/v1/projects", headers=strict).status_code == 200


def test_the_person_keeps_her_own_data_and_may_enrol(api, strict):
    me = api.get("/v1/auth/me", headers=strict)
    assert me.status_code == 200
    assert me.json["permissions"] == []
    assert api.get("/v1/auth/sessions", headers=strict).status_code == 200


def test_anybody_may_leave(api, strict, dan, vera):
    assert api.delete(f"/v1/members/{vera.user_id}", headers=dan).json["code"] == "mfa_enrollment_required"
    assert api.delete(f"/v1/members/{dan.user_id}", headers=dan).status_code == 204


def test_it_counts_on_the_next_request(api, admin, alice):
    assert api.get("/v1/projects", headers=alice).status_code == 200
    changed = api.patch("/v1/organization", headers=alice, json={"settings": {"require_mfa": True}})
    assert changed.status_code == 200
    assert api.get("/v1/projects", headers=alice).json["code"] == "mfa_enrollment_required"


def test_who_ends_it_is_a_person_with_a_fresh_proof(api, admin, people, alice):
    body = {"name": "robot", "permissions": ["organizations.edit"]}
    key = {"Authorization": f"Bearer {api.post('/v1/api-keys', json=body, headers=alice).json['key']}"}
    asked = {"settings": {"require_mfa": True}}
    assert api.patch("/v1/organization", headers=alice, json=asked).status_code == 200
    stale = people.log_in(alice, age_seconds=301)
    for person in (alice, stale):
        prove(admin, person, ["pwd", "otp", "mfa"])
    for settings in ({}, {"require_mfa": False}):
        ended = {"settings": settings}
        assert api.patch("/v1/organization", headers=key, json=ended).json["code"] == "permission_denied"
        assert api.patch("/v1/organization", headers=stale, json=ended).json["code"] == "step_up_required"
    assert api.patch("/v1/organization", headers=stale, json={**asked, "name": "Other"}).status_code == 200
    assert api.patch("/v1/organization", headers=alice, json={"settings": {}}).status_code == 200
    assert api.patch("/v1/organization", headers=key, json={"settings": {"color": "red"}}).status_code == 200


def test_other_organizations_do_not_care(api, strict, mallory):
    assert api.get("/v1/projects", headers=mallory).status_code == 200


@pytest.mark.parametrize("value", ["true", 1, None])
def test_a_value_that_only_looks_like_yes_is_refused(api, alice, value):
    answer = api.patch("/v1/organization", headers=alice, json={"settings": {"require_mfa": value}})
    assert answer.status_code == 422
    assert "require_mfa" in str(answer.json["errors"])
