"""POST /v1/auth/step-up."""

import time

import pytest

from tests.auth.support import PASSWORD, bearer, claims, events, log_in, refresh, refused


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


def test_it_gives_a_fresh_proof(api, admin, people, nora):
    stale = people.log_in(nora, age_seconds=3_000)
    answer = api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=stale)

    assert (answer.status_code, set(answer.json)) == (200, {"access_token", "expires_in"})
    said = claims(answer.json["access_token"])
    assert abs(said["auth_time"] - time.time()) < 30
    assert (said["sub"], said["sid"], said["tenant_id"]) == (nora.user_id, stale.session_id, nora.tenant_id)
    assert api.get("/v1/auth/me", headers=bearer(answer.json)).status_code == 200
    event = events(admin, nora.tenant_id)[-1]
    assert (event["action"], event["resource_id"]) == ("login.stepped_up", stale.session_id)


def test_a_later_refresh_keeps_the_fresh_proof(api, admin, nora):
    tokens = log_in(api, nora.email, PASSWORD).json
    admin.run(
        "UPDATE identity.login_sessions SET auth_time = now() - interval '1 hour' WHERE account_id = :u", u=nora.user_id
    )
    assert time.time() - claims(refresh(api, tokens["refresh_token"]).json["access_token"])["auth_time"] > 3_000

    api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=bearer(tokens))
    renewed = refresh(api, tokens["refresh_token"]).json
    assert abs(claims(renewed["access_token"])["auth_time"] - time.time()) < 30


def test_a_wrong_password_is_recorded(api, admin, nora):
    answer = api.post("/v1/auth/step-up", json={"password": "wrong password"}, headers=nora)

    assert refused(answer, 401, "invalid_credentials")
    event = events(admin, nora.tenant_id)[-1]
    assert (event["action"], event["outcome"]) == ("login.step_up_failed", "failure")


def test_someone_without_a_password(api, vera):
    assert refused(api.post("/v1/auth/step-up", json={"password": PASSWORD}, headers=vera), 401, "invalid_credentials")
