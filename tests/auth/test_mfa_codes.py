"""Codes by text message and mail: POST /v1/auth/mfa/challenge."""

import json
import re
import uuid

import pytest

from tests.auth.mfa_support import (
    CHALLENGE,
    FACTORS,
    WRONG,
    confirm,
    enrolled,
    first_proof,
    mailed_code,
    texted_code,
    texts,
    verify,
)
from tests.auth.support import bearer, claims, log_in, refused
from tests.conftest import PASSWORD, wait_until
from tests.deletions.conftest import Backstage


def another(code):
    """A code that is not this one."""
    return f"{(int(code) + 1) % 1_000_000:06d}"


def ask(api, mfa_token, factor_id):
    return api.post(CHALLENGE, json={"mfa_token": mfa_token, "factor_id": factor_id})


@pytest.fixture
def phone():
    return f"+49151{uuid.uuid4().int % 10**8:08d}"


@pytest.fixture
def sms(api, stack, alice, phone):
    """Alice's confirmed factor by text message; one message has been sent."""
    factor_id = api.post(FACTORS, json={"type": "sms", "phone": phone}, headers=alice).json["id"]
    assert confirm(api, alice, factor_id, texted_code(stack, phone)).status_code == 200
    return factor_id


@pytest.fixture
def mail(api, inbox, alice):
    """Alice's confirmed factor by mail; one mail has been sent."""
    factor_id = api.post(FACTORS, json={"type": "email"}, headers=alice).json["id"]
    assert confirm(api, alice, factor_id, mailed_code(inbox, alice.email)).status_code == 200
    return factor_id


def test_a_log_in_by_text_message(api, stack, alice, phone, sms):
    answer = first_proof(api, alice)
    assert [(f["id"], f["type"]) for f in answer["factors"]] == [(sms, "sms")]
    assert phone not in json.dumps(answer)

    asked = ask(api, answer["mfa_token"], sms)
    assert (asked.status_code, asked.json) == (202, {"status": "accepted"})
    tokens = verify(api, answer["mfa_token"], factor_id=sms, code=texted_code(stack, phone, 2)).json

    assert set(claims(tokens["access_token"])["amr"]) == {"pwd", "sms", "mfa"}
    assert "10 minutes" in texts(stack, phone)[1]


def test_a_log_in_by_mail(api, inbox, alice, mail):
    answer = first_proof(api, alice)
    assert ask(api, answer["mfa_token"], mail).status_code == 202
    tokens = verify(api, answer["mfa_token"], factor_id=mail, code=mailed_code(inbox, alice.email, 2)).json

    assert set(claims(tokens["access_token"])["amr"]) == {"pwd", "mail", "mfa"}


def test_a_code_works_once(api, admin, stack, alice, phone, sms):
    token = first_proof(api, alice)["mfa_token"]
    ask(api, token, sms)
    code = texted_code(stack, phone, 2)
    assert verify(api, token, factor_id=sms, code=code).status_code == 200
    other = first_proof(api, alice)["mfa_token"]

    assert refused(verify(api, other, factor_id=sms, code=code), 401, "invalid_code")


def test_a_code_is_for_the_log_in_that_asked(api, stack, alice, phone, sms):
    """Somebody else at the same moment, with the same password, has no use for it."""
    asked, other = first_proof(api, alice)["mfa_token"], first_proof(api, alice)["mfa_token"]
    ask(api, asked, sms)
    code = texted_code(stack, phone, 2)

    assert refused(verify(api, other, factor_id=sms, code=code), 401, "invalid_code")
    assert verify(api, asked, factor_id=sms, code=code).status_code == 200


def test_a_code_lives_ten_minutes(api, admin, stack, alice, phone, sms):
    token = first_proof(api, alice)["mfa_token"]
    ask(api, token, sms)
    code = texted_code(stack, phone, 2)
    lifetime = "SELECT DISTINCT round(extract(epoch FROM expires_at - created_at))::integer FROM identity.mfa_codes"
    assert admin.run(lifetime + " WHERE account_id = :u", u=alice.user_id) == [[600]]
    admin.run("UPDATE identity.mfa_codes SET expires_at = now() WHERE account_id = :u", u=alice.user_id)

    assert refused(verify(api, token, factor_id=sms, code=code), 401, "invalid_code")


def test_a_code_dies_after_five_tries(api, admin, alice, stack, phone, sms):
    token = first_proof(api, alice)["mfa_token"]
    ask(api, token, sms)
    code = texted_code(stack, phone, 2)
    for _ in range(5):
        assert refused(verify(api, token, factor_id=sms, code=another(code)), 401, "invalid_code")
        admin.run("DELETE FROM identity.login_locks WHERE account_id = :u", u=alice.user_id)
        admin.run("UPDATE identity.mfa_challenges SET attempts = 0 WHERE account_id = :u", u=alice.user_id)

    assert refused(verify(api, token, factor_id=sms, code=code), 401, "invalid_code")


def test_a_new_code_ends_the_old_one(api, admin, stack, alice, phone, sms):
    token = first_proof(api, alice)["mfa_token"]
    ask(api, token, sms)
    old = texted_code(stack, phone, 2)
    admin.run(
        "UPDATE identity.mfa_codes SET created_at = now() - interval '31 s' WHERE account_id = :u", u=alice.user_id
    )
    assert ask(api, token, sms).status_code == 202
    new = texted_code(stack, phone, 3)

    if old != new:
        assert refused(verify(api, token, factor_id=sms, code=old), 401, "invalid_code")
    assert verify(api, token, factor_id=sms, code=new).status_code == 200


def test_one_in_half_a_minute(api, stack, alice, phone, sms):
    token = first_proof(api, alice)["mfa_token"]
    assert ask(api, token, sms).status_code == 202
    again = ask(api, token, sms)

    assert refused(again, 429, "rate_limited")
    assert 0 < int(again.headers["Retry-After"]) <= 30
    texted_code(stack, phone, 2)
    assert len(texts(stack, phone)) == 2


def test_five_in_an_hour(api, admin, alice, mail):
    statuses = []
    for _ in range(6):
        statuses.append(ask(api, first_proof(api, alice)["mfa_token"], mail).status_code)

    assert statuses == [202] * 5 + [429]
    admin.run(
        "UPDATE identity.mfa_codes SET created_at = now() - interval '61 min' WHERE account_id = :u", u=alice.user_id
    )
    assert ask(api, first_proof(api, alice)["mfa_token"], mail).status_code == 202


def test_text_messages_count_in_the_lock(api, stack, alice, phone, sms):
    sent = 0
    for _ in range(6):
        answer = log_in(api, alice.email, PASSWORD)
        if answer.status_code == 429:
            break
        asked = ask(api, answer.json["mfa_token"], sms)
        sent += asked.status_code == 202
    else:
        pytest.fail("never locked")

    assert 1 <= sent <= 5


def test_twenty_text_messages_in_a_day(api, admin, alice, phone, sms):
    """Used codes count as well, and those of factors that are gone: somebody may earn by being texted."""
    admin.run(
        "INSERT INTO platform.outbox (id, kind, name, reference, task_name, sent_at)"
        " SELECT gen_random_uuid(), 'sms', 'mfa_code', :u, 'x', now() FROM generate_series(1, 19)",
        u=alice.user_id,
    )
    asked = ask(api, first_proof(api, alice)["mfa_token"], sms)
    assert refused(asked, 429, "rate_limited")
    assert 80_000 < int(asked.headers["Retry-After"]) <= 86_400
    assert refused(api.post(FACTORS, json={"type": "sms", "phone": phone}, headers=alice), 429, "rate_limited")

    admin.run("DELETE FROM platform.outbox WHERE reference = :u AND task_name = 'x'", u=alice.user_id)
    assert ask(api, first_proof(api, alice)["mfa_token"], sms).status_code == 202


def test_neither_database_nor_outbox_nor_logs_know_a_code(api, admin, stack, alice, phone, sms):
    ask(api, first_proof(api, alice)["mfa_token"], sms)
    code = texted_code(stack, phone, 2)

    rows = admin.run("SELECT to_json(c)::text FROM identity.mfa_codes c WHERE account_id = :u", u=alice.user_id)
    rows += admin.run("SELECT to_json(o)::text FROM platform.outbox o WHERE reference = :u", u=alice.user_id)
    assert len(rows) >= 4
    ids = re.compile(r"[0-9a-f-]{32,36}|\d{4}-\d\d-\d\dT[\d:.+]+")
    assert code not in ids.sub("", str(rows))
    assert phone not in str(rows)


def test_an_app_is_sent_nothing(api, admin, alice):
    app, _ = enrolled(api, admin, alice)

    assert refused(ask(api, first_proof(api, alice)["mfa_token"], app.factor_id), 422, "invalid_request")


def test_without_a_code_asked_for_none_is_right(api, alice, sms):
    token = first_proof(api, alice)["mfa_token"]

    assert refused(verify(api, token, factor_id=sms, code=WRONG), 401, "invalid_code")


def test_somebody_elses_factor_is_not_there(api, admin, people, alice, sms):
    bob = people.create("owner", password=PASSWORD)
    enrolled(api, admin, bob)
    token = first_proof(api, bob)["mfa_token"]

    foreign, nowhere = ask(api, token, sms), ask(api, token, str(uuid.uuid4()))
    assert refused(foreign, 404, "not_found")
    assert {**foreign.json, "request_id": ""} == {**nowhere.json, "request_id": ""}
    assert refused(api.post(CHALLENGE, json={"factor_id": sms}, headers=bob), 404, "not_found")


def test_who_is_nobody_is_sent_nothing(api, sms):
    assert refused(ask(api, "nonsense", sms), 401, "invalid_token")
    assert refused(api.post(CHALLENGE, json={"factor_id": sms}), 401, "invalid_token")
    assert refused(api.post(CHALLENGE, json={}), 422, "invalid_request")


def test_who_is_logged_in_is_sent_one_for_that_log_in(api, people, stack, alice, phone, sms):
    session, other = people.log_in(alice, age_seconds=3_000), people.log_in(alice, age_seconds=3_000)
    assert api.post(CHALLENGE, json={"factor_id": sms}, headers=session).status_code == 202
    body = {"factor_id": sms, "code": texted_code(stack, phone, 2)}

    assert refused(api.post("/v1/auth/step-up", json=body, headers=other), 401, "invalid_code")
    answer = api.post("/v1/auth/step-up", json=body, headers=session)
    assert answer.status_code == 200
    assert api.post(FACTORS, json={"type": "totp"}, headers=bearer(answer.json)).status_code == 201


def test_a_cookie_alone_sends_nothing(api, people, alice, sms):
    """Another site's form carries the cookie, never the header."""
    session = people.log_in(alice)
    answer = api.post(CHALLENGE, json={"factor_id": sms}, headers={"Cookie": f"__Host-access={session.token}"})

    assert refused(answer, 403, "csrf_failed")


def test_after_a_reset_by_mail_a_mail_proves_nothing_more(api, admin, alice, mail):
    app, _ = enrolled(api, admin, alice)
    admin.run("UPDATE identity.accounts SET reset_by_mail_at = now() WHERE id = :u", u=alice.user_id)
    answer = first_proof(api, alice)

    assert [f["id"] for f in answer["factors"]] == [app.factor_id]
    assert refused(ask(api, answer["mfa_token"], mail), 404, "not_found")
    assert refused(verify(api, answer["mfa_token"], factor_id=mail, code=WRONG), 401, "invalid_code")
    assert verify(api, answer["mfa_token"], factor_id=app.factor_id, code=app.code()).status_code == 200
    assert mail in [f["id"] for f in first_proof(api, alice)["factors"]]


def test_a_code_that_is_late_is_not_sent(stack, api, admin, alice, phone, sms):
    """The message waited until its code was of no use: nobody is texted for nothing."""
    message = str(uuid.uuid4())
    admin.run(
        "INSERT INTO identity.mfa_codes (id, account_id, factor_id, bound_to, kid, expires_at)"
        " SELECT :id, account_id, id, id, 'x', now() - interval '1 s' FROM identity.mfa_factors WHERE id = :factor",
        id=message,
        factor=sms,
    )
    admin.run(
        "INSERT INTO platform.outbox (id, kind, name, reference, task_name, sent_at)"
        " VALUES (:id, 'sms', 'mfa_code', :u, 'x', now())",
        id=message,
        u=alice.user_id,
    )

    assert Backstage(stack, api, admin).call("auth", "tasks", f"/internal/sms/{message}").status_code == 204
    assert admin.run("SELECT delivered_at IS NOT NULL FROM platform.outbox WHERE id = :id", id=message) == [[True]]
    assert len(texts(stack, phone)) == 1


def test_a_message_is_sent_once(stack, api, admin, alice, phone, sms):
    ask(api, first_proof(api, alice)["mfa_token"], sms)
    texted_code(stack, phone, 2)
    newest = "SELECT id FROM identity.mfa_codes WHERE account_id = :u ORDER BY created_at DESC LIMIT 1"
    message = admin.run(newest, u=alice.user_id)[0][0]
    delivered = "SELECT delivered_at IS NOT NULL FROM platform.outbox WHERE id = :id"
    wait_until(lambda: admin.run(delivered, id=message) == [[True]])

    assert Backstage(stack, api, admin).call("auth", "tasks", f"/internal/sms/{message}").status_code == 204
    assert len(texts(stack, phone)) == 2
    assert Backstage(stack, api, admin).call("auth", "gateway", f"/internal/sms/{message}").status_code == 403
