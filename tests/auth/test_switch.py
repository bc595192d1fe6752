"""POST /v1/auth/switch."""

import uuid

import pytest

from tests.auth.support import PASSWORD, bearer, claims, events, log_in, refresh, refused


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


@pytest.fixture
def second(people, nora):
    tenant_id = people.organization()
    people.join(nora.user_id, tenant_id, "viewer")
    return tenant_id


def test_it_works(api, admin, nora, second):
    tokens = log_in(api, nora.email, PASSWORD).json
    answer = api.post("/v1/auth/switch", json={"organization_id": second}, headers=bearer(tokens))

    assert answer.status_code == 200
    switched = answer.json
    assert (switched["organization"]["id"], switched["organization"]["role"]) == (second, "viewer")
    assert refused(api.post("/v1/projects", json={"name": "x"}, headers=bearer(switched)), 403, "permission_denied")
    assert api.get("/v1/auth/me", headers=bearer(tokens)).json["organization"]["id"] == nora.tenant_id
    assert refresh(api, switched["refresh_token"]).json["organization"]["id"] == second
    assert any(event["action"] == "login.succeeded" for event in events(admin, second))


def test_it_neither_proves_nor_prolongs_anything(api, admin, nora, second):
    tokens = log_in(api, nora.email, PASSWORD).json
    old = claims(tokens["access_token"])["sid"]
    admin.run(
        "UPDATE identity.login_sessions SET auth_time = now() - interval '1 hour',"
        " expires_at = now() + interval '2 hours' WHERE id = :s",
        s=old,
    )
    switched = api.post("/v1/auth/switch", json={"organization_id": second}, headers=bearer(tokens)).json

    times = "SELECT auth_time, expires_at, amr FROM identity.login_sessions WHERE id = :s"
    assert admin.run(times, s=claims(switched["access_token"])["sid"]) == admin.run(times, s=old)
    assert switched["refresh_expires_in"] <= 7_200


def test_a_foreign_organization_is_not_there(api, nora, mallory):
    for tenant_id in (mallory.tenant_id, str(uuid.uuid4())):
        answer = api.post("/v1/auth/switch", json={"organization_id": tenant_id}, headers=nora)
        assert refused(answer, 404, "not_found")
