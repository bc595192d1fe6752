"""Log-in with a second factor: POST /v1/auth/login, /v1/auth/mfa/verify."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.auth.mfa_support import (
    WRONG,
    added,
    enrolled,
    first_proof,
    logged_in,
    rested,
    verify,
)
from tests.auth.support import bearer, claims, events, log_in, mailed_token, new_address, refresh, refused
from tests.conftest import PASSWORD, Api


@pytest.fixture
def app(api, admin, alice):
    return enrolled(api, admin, alice)[0]


def test_it_works(api, admin, alice, app):
    answer = first_proof(api, alice)
    assert set(answer) == {"status", "mfa_token", "factors"}
    assert answer["factors"] == [{"id": app.factor_id, "type": "totp", "hint": "Authenticator app"}]
    assert len(answer["mfa_token"]) >= 43

    tokens = verify(api, answer["mfa_token"], factor_id=app.factor_id, code=app.code()).json

    assert (tokens["status"], tokens["user"]["id"]) == ("authenticated", alice.user_id)
    assert set(claims(tokens["access_token"])["amr"]) == {"pwd", "otp", "mfa"}
    assert api.get("/v1/auth/me", headers=bearer(tokens)).status_code == 200
    renewed = refresh(api, tokens["refresh_token"]).json
    assert set(claims(renewed["access_token"])["amr"]) == {"pwd", "otp", "mfa"}
    event = events(admin, alice.tenant_id)[-1]
    assert (event["action"], event["outcome"]) == ("login.succeeded", "success")


def test_it_is_asked_for_only_after_the_right_password(api, alice, app):
    wrong = log_in(api, alice.email, "wrong password")
    unknown = log_in(api, new_address(), "wrong password")

    assert refused(wrong, 401, "invalid_credentials")
    assert {**wrong.json, "request_id": ""} == {**unknown.json, "request_id": ""}


def test_the_first_proof_alone_opens_nothing(api, admin, alice, app):
    sessions = "SELECT count(*) FROM identity.login_sessions WHERE account_id = :u"
    before = admin.run(sessions, u=alice.user_id)
    token = first_proof(api, alice)["mfa_token"]

    assert admin.run(sessions, u=alice.user_id) == before
    assert refused(api.get("/v1/auth/me", headers=bearer({"access_token": token})), 401, "invalid_token")
    assert refused(refresh(api, token), 401, "invalid_token")


def test_the_token_is_hashed_at_rest(api, admin, alice, app):
    token = first_proof(api, alice)["mfa_token"]

    rows = admin.run("SELECT to_json(c)::text FROM identity.mfa_challenges c WHERE account_id = :u", u=alice.user_id)
    assert rows
    assert token not in str(rows)
    assert token.encode().hex() not in str(rows)


@pytest.mark.parametrize(("drift", "status"), [(-2, 401), (-1, 200), (1, 200), (2, 401)])
def test_clocks_may_differ_by_one_step(api, alice, app, drift, status):
    token = first_proof(api, alice)["mfa_token"]

    assert verify(api, token, factor_id=app.factor_id, code=app.code(drift)).status_code == status


def test_a_code_works_once(api, alice, app):
    code = app.code()
    used = verify(api, first_proof(api, alice)["mfa_token"], factor_id=app.factor_id, code=code)
    again = verify(api, first_proof(api, alice)["mfa_token"], factor_id=app.factor_id, code=code)

    assert used.status_code == 200
    assert refused(again, 401, "invalid_code")


def test_an_earlier_code_is_spent_as_well(api, alice, app):
    logged_in(api, alice, app, drift=0)

    answer = verify(api, first_proof(api, alice)["mfa_token"], factor_id=app.factor_id, code=app.code(-1))
    assert refused(answer, 401, "invalid_code")


def test_of_two_hundred_at_once_one_gets_in(stack, api, admin, alice, app):
    """One code, twenty waiting log-ins: the code is spent by one of them."""
    waiting = [first_proof(api, alice)["mfa_token"] for _ in range(20)]
    code = app.code()

    def attempt(number):
        client = Api(stack["api"])
        answer = verify(client, waiting[number % 20], factor_id=app.factor_id, code=code)
        client._session.close()
        return answer.status_code

    with ThreadPoolExecutor(32) as pool:
        statuses = list(pool.map(attempt, range(200)))

    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 429, 503}
    sessions = "SELECT count(*) FROM identity.login_sessions WHERE account_id = :u AND 'mfa' = ANY (amr)"
    assert admin.run(sessions, u=alice.user_id) == [[1]]


def test_a_token_dies_of_success(api, admin, alice, app):
    token = first_proof(api, alice)["mfa_token"]
    assert verify(api, token, factor_id=app.factor_id, code=app.code()).status_code == 200
    rested(admin, app)

    assert refused(verify(api, token, factor_id=app.factor_id, code=app.code()), 401, "invalid_token")


def test_a_token_dies_after_five_tries(api, admin, alice, app):
    token = first_proof(api, alice)["mfa_token"]
    for _ in range(5):
        assert verify(api, token, factor_id=app.factor_id, code=WRONG).status_code in {401, 429}
        admin.run("DELETE FROM identity.login_locks WHERE account_id = :u", u=alice.user_id)  # the token's own count

    assert refused(verify(api, token, factor_id=app.factor_id, code=app.code()), 401, "invalid_token")
    assert logged_in(api, alice, app)["status"] == "authenticated"


def test_a_token_dies_of_age(api, admin, alice, app):
    token = first_proof(api, alice)["mfa_token"]
    lifetime = "SELECT extract(epoch FROM expires_at - created_at)::integer FROM identity.mfa_challenges"
    assert admin.run(lifetime + " WHERE account_id = :u", u=alice.user_id) == [[600]]
    admin.run("UPDATE identity.mfa_challenges SET expires_at = now() WHERE account_id = :u", u=alice.user_id)

    assert refused(verify(api, token, factor_id=app.factor_id, code=app.code()), 401, "invalid_token")


def test_nonsense_is_no_token(api, app):
    assert refused(verify(api, "nonsense", factor_id=app.factor_id, code=WRONG), 401, "invalid_token")


def test_a_frozen_account_is_not_let_in(api, admin, alice, app):
    token = first_proof(api, alice)["mfa_token"]
    admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :u", u=alice.user_id)

    assert refused(verify(api, token, factor_id=app.factor_id, code=app.code()), 401, "invalid_token")


def test_a_member_who_left_is_not_let_in(api, admin, alice, app):
    token = first_proof(api, alice)["mfa_token"]
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=alice.user_id)

    assert refused(verify(api, token, factor_id=app.factor_id, code=app.code()), 401, "invalid_token")


def test_somebody_elses_factor_is_not_there(api, admin, people, alice, app):
    bob = people.create("owner", password=PASSWORD)
    theirs, _ = enrolled(api, admin, bob)
    token = first_proof(api, alice)["mfa_token"]

    foreign = verify(api, token, factor_id=theirs.factor_id, code=theirs.code())
    nowhere = verify(api, token, factor_id=str(uuid.uuid4()), code=theirs.code())
    assert refused(foreign, 404, "not_found")
    assert {**foreign.json, "request_id": ""} == {**nowhere.json, "request_id": ""}


def test_a_factor_that_was_never_confirmed_proves_nothing(api, alice, app):
    waiting = added(api, alice)
    token = first_proof(api, alice)["mfa_token"]

    assert refused(verify(api, token, factor_id=waiting.factor_id, code=waiting.code()), 401, "invalid_code")


@pytest.mark.parametrize(
    "proof",
    [
        {},
        {"code": "123456"},
        {"factor_id": str(uuid.uuid4())},
        {"factor_id": str(uuid.uuid4()), "code": "123456", "recovery_code": "x"},
        {"factor_id": str(uuid.uuid4()), "recovery_code": "x"},
        {"factor_id": "x", "code": "123456"},
    ],
)
def test_what_is_no_proof(api, proof):
    assert refused(verify(api, "nonsense", **proof), 422, "invalid_request")


def test_a_wrong_code_is_recorded_in_each_organization(api, admin, people, alice, app):
    second = people.organization()
    people.join(alice.user_id, second, "viewer")
    token = first_proof(api, alice)["mfa_token"]

    assert refused(verify(api, token, factor_id=app.factor_id, code=WRONG), 401, "invalid_code")

    for tenant_id in (alice.tenant_id, second):
        event = events(admin, tenant_id)[-1]
        assert (event["action"], event["outcome"], event["actor_id"]) == ("login.failed", "failure", alice.user_id)
        assert WRONG not in json.dumps(event["data"])


def test_wrong_codes_count_in_the_lock(api, alice, app):
    token, other = first_proof(api, alice)["mfa_token"], first_proof(api, alice)["mfa_token"]
    answers = [verify(api, token, factor_id=app.factor_id, code=WRONG) for _ in range(5)]

    assert all(answer.status_code in {401, 429} for answer in answers)
    assert refused(verify(api, other, factor_id=app.factor_id, code=app.code()), 429, "account_locked")
    assert refused(log_in(api, alice.email, PASSWORD), 429, "account_locked")


def test_the_right_password_does_not_forget_wrong_codes(api, alice, app):
    """Else who knows the password could try codes for ever: four, log in, four, log in."""
    statuses = []
    for _ in range(3):
        answer = log_in(api, alice.email, PASSWORD)
        if answer.status_code == 429:
            break
        token = answer.json["mfa_token"]
        statuses += [verify(api, token, factor_id=app.factor_id, code=WRONG).status_code for _ in range(3)]
    else:
        pytest.fail("never locked")

    assert statuses.count(401) <= 5


def test_a_factor_rests_after_many_failures_from_anywhere(api, admin, alice, app):
    """The lock is per place: somebody with the password and many addresses meets the factor's own count."""
    token = first_proof(api, alice)["mfa_token"]
    admin.run("UPDATE identity.mfa_factors SET failures = 10, failed_at = now() WHERE id = :id", id=app.factor_id)
    code = app.code()

    answer = verify(api, token, factor_id=app.factor_id, code=code)
    assert refused(answer, 429, "account_locked")
    assert 0 < int(answer.headers["Retry-After"]) <= 60
    admin.run("UPDATE identity.mfa_factors SET failed_at = now() - interval '61 s' WHERE id = :id", id=app.factor_id)
    assert verify(api, token, factor_id=app.factor_id, code=code).status_code == 200
    assert admin.run("SELECT failures FROM identity.mfa_factors WHERE id = :id", id=app.factor_id) == [[0]]


@pytest.mark.parametrize("ended_by", ["reset", "change", "logout-all"])
def test_a_log_in_that_waits_ends_with_the_others(api, inbox, alice, app, ended_by):
    """Who had got as far as the second factor with the old password gets no further."""
    token = first_proof(api, alice)["mfa_token"]
    new = "a harbour full of herons"

    if ended_by == "reset":
        api.post("/v1/auth/password/forgot", json={"email": alice.email})
        link = mailed_token(inbox, alice.email, "Set a new password", "reset-password")
        answer = api.post("/v1/auth/password/reset", json={"token": link, "new_password": new})
    elif ended_by == "change":
        body = {"current_password": PASSWORD, "new_password": new}
        answer = api.post("/v1/auth/password/change", json=body, headers=alice)
    else:
        answer = api.post("/v1/auth/logout-all", headers=alice)

    assert answer.status_code == 204, answer.text
    assert refused(verify(api, token, factor_id=app.factor_id, code=app.code()), 401, "invalid_token")


def test_the_organization_asked_for_is_kept(api, people, alice, app):
    second = people.organization()
    people.join(alice.user_id, second, "viewer")
    token = log_in(api, alice.email, PASSWORD, organization_id=second).json["mfa_token"]

    tokens = verify(api, token, factor_id=app.factor_id, code=app.code()).json
    assert tokens["organization"]["id"] == second


def test_tokens_may_come_as_cookies(api, alice, app):
    token = first_proof(api, alice)["mfa_token"]
    body = {"mfa_token": token, "factor_id": app.factor_id, "code": app.code()}

    answer = api.post("/v1/auth/mfa/verify?cookies=true", json=body)
    assert answer.status_code == 200
    assert not {"access_token", "refresh_token"} & set(answer.json)
    assert "__Host-access" in answer.headers["Set-Cookie"]


def test_it_opens_an_organization_that_asks_for_a_second_factor(api, admin, alice):
    admin.run(
        "UPDATE app.organizations SET settings = '{\"require_mfa\": true}' WHERE tenant_id = :t", t=alice.tenant_id
    )
    app, _ = enrolled(api, admin, alice)
    assert refused(api.get("/v1/projects", headers=alice), 403, "mfa_enrollment_required")

    assert api.get("/v1/projects", headers=bearer(logged_in(api, alice, app))).status_code == 200
