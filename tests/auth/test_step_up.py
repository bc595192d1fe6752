"""POST /v1/auth/step-up."""

import time
import uuid

import pytest

from tests.auth.mfa_support import FACTORS, WRONG, added, enrolled, logged_in
from tests.auth.support import PASSWORD, bearer, claims, events, log_in, refresh, refused
from tests.conftest import PASSWORD as HERS
from tests.conftest import Person

STEP_UP = "/v1/auth/step-up"


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


def aged(admin, tokens):
    """The log-in of these tokens, as if its last proof were an hour old; its headers by a fresh access token."""
    admin.run(
        "UPDATE identity.login_sessions SET auth_time = now() - interval '1 hour' WHERE id = :s",
        s=claims(tokens["access_token"])["sid"],
    )


def test_it_gives_a_fresh_proof(api, admin, people, nora):
    stale = people.log_in(nora, age_seconds=3_000)
    answer = api.post(STEP_UP, json={"password": PASSWORD}, headers=stale)

    assert (answer.status_code, set(answer.json)) == (200, {"access_token", "expires_in"})
    said = claims(answer.json["access_token"])
    assert abs(said["auth_time"] - time.time()) < 30
    assert (said["sub"], said["sid"], said["tenant_id"]) == (nora.user_id, stale.session_id, nora.tenant_id)
    assert api.get("/v1/auth/me", headers=bearer(answer.json)).status_code == 200
    event = events(admin, nora.tenant_id)[-1]
    assert (event["action"], event["resource_id"]) == ("login.stepped_up", stale.session_id)


def test_a_later_refresh_keeps_the_fresh_proof(api, admin, nora):
    tokens = log_in(api, nora.email, PASSWORD).json
    aged(admin, tokens)
    assert time.time() - claims(refresh(api, tokens["refresh_token"]).json["access_token"])["auth_time"] > 3_000

    api.post(STEP_UP, json={"password": PASSWORD}, headers=bearer(tokens))
    renewed = refresh(api, tokens["refresh_token"]).json
    assert abs(claims(renewed["access_token"])["auth_time"] - time.time()) < 30


def test_a_wrong_password_is_recorded(api, admin, nora):
    answer = api.post(STEP_UP, json={"password": "wrong password"}, headers=nora)

    assert refused(answer, 401, "invalid_credentials")
    event = events(admin, nora.tenant_id)[-1]
    assert (event["action"], event["outcome"]) == ("login.step_up_failed", "failure")


def test_wrong_passwords_count_in_the_lock(api, nora):
    statuses = [api.post(STEP_UP, json={"password": "wrong"}, headers=nora).status_code for _ in range(6)]

    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert refused(api.post(STEP_UP, json={"password": PASSWORD}, headers=nora), 429, "account_locked")


def test_someone_without_a_password(api, vera):
    assert refused(api.post(STEP_UP, json={"password": PASSWORD}, headers=vera), 401, "invalid_credentials")


def test_with_a_factor_it_takes_the_factor(api, admin, alice):
    app, _ = enrolled(api, admin, alice)
    tokens = logged_in(api, alice, app)

    assert refused(api.post(STEP_UP, json={"password": HERS}, headers=bearer(tokens)), 401, "invalid_credentials")
    body = {"factor_id": app.factor_id, "code": app.code(1)}
    answer = api.post(STEP_UP, json=body, headers=bearer(tokens))
    assert answer.status_code == 200
    assert set(claims(answer.json["access_token"])["amr"]) == {"pwd", "otp", "mfa"}
    assert refused(api.post(STEP_UP, json=body, headers=bearer(tokens)), 401, "invalid_code"), "a code works once"


def test_a_factor_proves_nothing_in_the_log_in_that_added_it(api, admin, alice):
    """Who has stolen a log-in must not make it last by a factor of their own."""
    app, _ = enrolled(api, admin, alice)
    answer = api.post(STEP_UP, json={"factor_id": app.factor_id, "code": app.code()}, headers=alice)

    assert refused(answer, 401, "invalid_code")
    assert refused(api.post(STEP_UP, json={"password": HERS}, headers=alice), 401, "invalid_credentials")
    assert logged_in(api, alice, app)["status"] == "authenticated", "the code was not spent by the refusal"


def test_a_switch_does_not_make_the_log_in_younger(api, admin, people, alice):
    second = people.organization()
    people.join(alice.user_id, second, "viewer")
    app, _ = enrolled(api, admin, alice)
    switched = api.post("/v1/auth/switch", json={"organization_id": second}, headers=alice).json

    body = {"factor_id": app.factor_id, "code": app.code()}
    assert refused(api.post(STEP_UP, json=body, headers=bearer(switched)), 401, "invalid_code")


def test_a_factor_that_was_never_confirmed_proves_nothing(api, people, alice):
    waiting = added(api, alice)
    later: Person = people.log_in(alice)

    body = {"factor_id": waiting.factor_id, "code": waiting.code()}
    assert refused(api.post(STEP_UP, json=body, headers=later), 401, "invalid_code")


def test_somebody_elses_factor_is_not_there(api, admin, alice, nora):
    app, _ = enrolled(api, admin, alice)
    foreign = api.post(STEP_UP, json={"factor_id": app.factor_id, "code": app.code()}, headers=nora)
    nowhere = api.post(STEP_UP, json={"factor_id": str(uuid.uuid4()), "code": WRONG}, headers=nora)

    assert refused(foreign, 404, "not_found")
    assert {**foreign.json, "request_id": ""} == {**nowhere.json, "request_id": ""}


def test_wrong_codes_count_in_the_lock(api, admin, alice):
    app, _ = enrolled(api, admin, alice)
    tokens = logged_in(api, alice, app)
    body = {"factor_id": app.factor_id, "code": WRONG}
    statuses = [api.post(STEP_UP, json=body, headers=bearer(tokens)).status_code for _ in range(6)]

    assert statuses[0] == 401
    assert statuses[-1] == 429
    right = {"factor_id": app.factor_id, "code": app.code(1)}
    assert refused(api.post(STEP_UP, json=right, headers=bearer(tokens)), 429, "account_locked")
    event = [e for e in events(admin, alice.tenant_id) if e["action"] == "login.step_up_failed"][-1]
    assert (event["outcome"], event["data"]) == ("failure", {"method": "totp"})


def test_it_opens_what_needs_it(api, admin, alice):
    app, _ = enrolled(api, admin, alice)
    tokens = logged_in(api, alice, app)
    aged(admin, tokens)
    stale = bearer(refresh(api, tokens["refresh_token"]).json)
    assert refused(api.post(FACTORS, json={"type": "totp"}, headers=stale), 403, "step_up_required")

    body = {"factor_id": app.factor_id, "code": app.code(1)}
    fresh = bearer(api.post(STEP_UP, json=body, headers=stale).json)
    assert api.post(FACTORS, json={"type": "totp"}, headers=fresh).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"code": "123456"},
        {"factor_id": str(uuid.uuid4())},
        {"password": "x", "factor_id": str(uuid.uuid4()), "code": "123456"},
        {"password": "x", "code": "123456"},
    ],
)
def test_what_is_no_proof(api, nora, body):
    assert refused(api.post(STEP_UP, json=body, headers=nora), 422, "invalid_request")
