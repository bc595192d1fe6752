"""POST /v1/auth/refresh: rotation, replay, reuse."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from tests.auth.support import PASSWORD, bearer, claims, events, log_in, refresh, refused
from tests.conftest import Api, database, wait_until


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


@pytest.fixture
def tokens(api, nora):
    return log_in(api, nora.email, PASSWORD).json


def move_first_use(admin, token, seconds):
    """Pretend that the token was first used so many seconds ago."""
    admin.run(
        "UPDATE identity.refresh_tokens SET first_used_at = now() - make_interval(secs => :s) WHERE token_hash = :h",
        s=seconds,
        h=sha256(token.encode()).digest(),
    )


def test_it_rotates(api, admin, nora, tokens):
    answer = refresh(api, tokens["refresh_token"])

    assert answer.status_code == 200
    renewed = answer.json
    assert set(renewed) == set(tokens)
    assert renewed["refresh_token"] != tokens["refresh_token"]
    assert len(renewed["refresh_token"]) == 43
    before, after = claims(tokens["access_token"]), claims(renewed["access_token"])
    kept = ("sub", "sid", "tenant_id", "amr", "auth_time")
    assert [before[name] for name in kept] == [after[name] for name in kept]
    assert before["jti"] != after["jti"]
    assert api.get("/v1/auth/me", headers=bearer(renewed)).status_code == 200
    rows = admin.run(
        "SELECT token_hash FROM identity.refresh_tokens WHERE account_id = :u ORDER BY generation", u=nora.user_id
    )
    assert [row[0] for row in rows] == [sha256(each["refresh_token"].encode()).digest() for each in (tokens, renewed)]


def test_two_hundred_at_once_have_one_successor(stack, api, admin, nora, tokens):
    """The session's row is held until several requests wait for it, so that they really are at it at once."""

    def once(_):
        client = Api(stack["api"])
        try:
            answer = refresh(client, tokens["refresh_token"])
            return answer.status_code, answer.json.get("refresh_token")
        finally:
            client._session.close()

    def several_wait():
        return admin.run("SELECT count(*) >= 4 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")[0][0]

    with ThreadPoolExecutor(200) as pool, database(stack["postgres"]["admin"]) as holder:
        holder.run("BEGIN")
        holder.run("SELECT FROM identity.login_sessions WHERE account_id = :u FOR UPDATE", u=nora.user_id)
        answers = pool.map(once, range(200))
        wait_until(several_wait, 4, "a queue for the session")
        holder.run("COMMIT")
        found = set(answers)

    assert len(found) == 1
    status, successor = found.pop()
    assert status == 200
    generations = "SELECT max(generation), count(*) FROM identity.refresh_tokens WHERE account_id = :u"
    assert admin.run(generations, u=nora.user_id) == [[1, 2]]
    assert refresh(api, successor).status_code == 200


def test_a_lost_answer_is_given_the_current_token(api, tokens):
    second = refresh(api, tokens["refresh_token"]).json["refresh_token"]
    third = refresh(api, second).json["refresh_token"]
    fourth = refresh(api, third).json["refresh_token"]

    for spent in (tokens["refresh_token"], second, third):
        assert refresh(api, spent).json["refresh_token"] == fourth
    assert refresh(api, fourth).status_code == 200


def test_reuse_after_the_window_revokes_the_family(api, admin, nora, tokens):
    renewed = refresh(api, tokens["refresh_token"]).json
    move_first_use(admin, tokens["refresh_token"], 11)

    answer = refresh(api, tokens["refresh_token"])
    assert refused(answer, 401, "refresh_token_reused")
    assert "refresh_token_reused" in answer.headers["WWW-Authenticate"]
    assert refused(refresh(api, renewed["refresh_token"]), 401, "invalid_token")
    assert api.get("/v1/auth/me", headers=bearer(renewed)).status_code == 401
    event, *refusals = events(admin, nora.tenant_id)[-3:]
    assert (event["action"], event["outcome"]) == ("login.refresh_token_reused", "failure")
    assert [each["resource_id"] for each in refusals] == ["POST /v1/auth/refresh", "GET /v1/auth/me"]
    assert event["resource_id"] == claims(tokens["access_token"])["sid"]


def test_reuse_revokes_nothing_but_its_family(api, admin, nora, tokens):
    elsewhere = log_in(api, nora.email, PASSWORD).json
    refresh(api, tokens["refresh_token"])
    move_first_use(admin, tokens["refresh_token"], 11)
    refresh(api, tokens["refresh_token"])

    assert refresh(api, elsewhere["refresh_token"]).status_code == 200


def test_reuse_by_a_removed_member_revokes_too(api, admin, nora, tokens):
    refresh(api, tokens["refresh_token"])
    move_first_use(admin, tokens["refresh_token"], 11)
    admin.run("DELETE FROM app.members WHERE user_id = :u", u=nora.user_id)

    assert refused(refresh(api, tokens["refresh_token"]), 401, "refresh_token_reused")
    revoked = "SELECT revoked_at IS NOT NULL FROM identity.login_sessions WHERE id = :s"
    assert admin.run(revoked, s=claims(tokens["access_token"])["sid"]) == [[True]]


@pytest.mark.parametrize("token", ["x", "x" * 43, "!" * 43, "é"])
def test_unknown_tokens(api, token):
    assert refused(refresh(api, token), 401, "invalid_token")


def test_an_expired_token(api, admin, nora, tokens):
    admin.run("UPDATE identity.refresh_tokens SET expires_at = now() WHERE account_id = :u", u=nora.user_id)

    assert refused(refresh(api, tokens["refresh_token"]), 401, "invalid_token")


def test_a_family_ends(api, admin, nora, tokens):
    soon = "UPDATE identity.login_sessions SET expires_at = now() + interval '1 hour' WHERE account_id = :u"
    admin.run(soon, u=nora.user_id)
    renewed = refresh(api, tokens["refresh_token"]).json
    assert 3_590 <= renewed["refresh_expires_in"] <= 3_600

    admin.run("UPDATE identity.login_sessions SET expires_at = now() WHERE account_id = :u", u=nora.user_id)
    assert refused(refresh(api, renewed["refresh_token"]), 401, "invalid_token")


def test_a_family_is_meant_to_last_thirty_days(admin, nora, tokens):
    days = "SELECT extract(epoch FROM expires_at - created_at)::integer FROM identity.login_sessions WHERE id = :s"
    assert admin.run(days, s=claims(tokens["access_token"])["sid"]) == [[30 * 86_400]]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ("DELETE FROM app.members WHERE user_id = :u", 401),
        ("UPDATE identity.accounts SET status = 'frozen' WHERE id = :u", 401),
        (
            "UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = "
            "(SELECT tenant_id FROM app.members WHERE user_id = :u)",
            403,
        ),
    ],
)
def test_who_may_not_come_in_any_more_gets_no_tokens(api, admin, nora, tokens, change, status):
    admin.run(change, u=nora.user_id)

    assert refresh(api, tokens["refresh_token"]).status_code == status


def test_a_logged_out_session(api, tokens):
    assert api.post("/v1/auth/logout", headers=bearer(tokens)).status_code == 204

    assert refused(refresh(api, tokens["refresh_token"]), 401, "invalid_token")
