"""POST /v1/auth/password/forgot and /reset."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from common import tokens
from tests.auth.support import (
    PASSWORD,
    bearer,
    device,
    events,
    log_in,
    mailed_token,
    new_address,
    refresh,
    refused,
    register,
)
from tests.conftest import Api, database, wait_until
from tests.tenancy.conftest import Attacker

NEW = "a harbour full of herons"
SUBJECT, PAGE = "Set a new password", "reset-password"


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


def forgot(api, email):
    return api.post("/v1/auth/password/forgot", json={"email": email})


def reset(api, token, password=NEW):
    return api.post("/v1/auth/password/reset", json={"token": token, "new_password": password})


@pytest.fixture
def link(api, inbox):
    """The token of a new mail."""

    def ask(email):
        before = {mail["id"] for mail in inbox.messages(email)}
        assert forgot(api, email).status_code == 202
        wait_until(lambda: {m["id"] for m in inbox.messages(email) if m["subject"] == SUBJECT} - before, what="a mail")
        return mailed_token(inbox, email, SUBJECT, PAGE)

    return ask


def test_it_works(api, admin, inbox, nora, link):
    answer = reset(api, link(nora.email))

    assert (answer.status_code, answer.text) == (204, "")
    assert refused(log_in(api, nora.email, PASSWORD), 401, "invalid_credentials")
    assert log_in(api, nora.email, NEW).status_code == 200
    event = next(e for e in events(admin, nora.tenant_id) if e["action"] == "user.password_changed")
    assert (event["actor_id"], event["data"]) == (nora.user_id, {"method": "mail"})
    assert "It was at" in inbox.wait_for(nora.email, "Your password was changed")["text"]


def test_every_log_in_ends(api, people, nora, link):
    held, second = log_in(api, nora.email, PASSWORD).json, people.log_in(nora)

    assert reset(api, link(nora.email)).status_code == 204
    for headers in (bearer(held), nora, second):
        assert refused(api.get("/v1/auth/me", headers=headers), 401, "invalid_token")
    assert refused(refresh(api, held["refresh_token"]), 401, "invalid_token")


def test_it_is_told_in_each_organization(api, admin, people, nora, link):
    second = people.organization()
    people.join(nora.user_id, second, "viewer")

    assert reset(api, link(nora.email)).status_code == 204
    told = {"user.password_reset_mailed", "user.password_changed"}  # the mail's own event may come a moment later
    for each in (nora.tenant_id, second):
        wait_until(lambda each=each: {e["action"] for e in events(admin, each)} == told, what="the events")
        assert len(events(admin, each)) == 2


def test_a_chain_that_takes_no_event_does_not_have_the_mail_sent_again(api, admin, people, nora, link):
    """Its head was put back; her other organization's chain tells of the mail, and the mail is done."""
    second = people.organization()
    people.join(nora.user_id, second, "viewer")
    assert api.post("/v1/projects", json={"name": "Atlas"}, headers=nora).status_code == 201
    admin.run("UPDATE app.audit_heads SET seq = 0 WHERE tenant_id = :t", t=nora.tenant_id)

    link(nora.email)

    wait_until(lambda: [e["action"] for e in events(admin, second)] == ["user.password_reset_mailed"], what="the event")
    waiting = (
        "SELECT count(*) FROM platform.outbox o JOIN identity.password_resets r ON r.id = o.reference"
        " WHERE r.account_id = :id AND o.delivered_at IS NULL"
    )
    wait_until(lambda: admin.run(waiting, id=nora.user_id) == [[0]], what="the mail's end")


def test_an_unknown_address_is_answered_the_same(api, admin, nora):
    known, unknown = forgot(api, nora.email), forgot(api, new_address())

    assert (known.status_code, known.json) == (unknown.status_code, unknown.json) == (202, {"status": "accepted"})
    different = {"X-Request-Id", "Date", "Ratelimit"}
    shown = [{k: v for k, v in a.headers.items() if k.title() not in different} for a in (known, unknown)]
    assert shown[0] == shown[1]


def test_who_is_unknown_gets_no_mail(api, admin, inbox):
    stranger = new_address()
    forgot(api, stranger)
    newcomer = register(api)  # waits for its mailbox: no account yet
    inbox.wait_for(newcomer.email, "Confirm")
    forgot(api, newcomer.email)

    waiting = "SELECT count(*) FROM platform.outbox WHERE name = 'password_reset' AND delivered_at IS NULL"
    wait_until(lambda: admin.run(waiting) == [[0]], what="the delivery")
    assert inbox.messages(stranger) == []
    assert len(inbox.messages(newcomer.email)) == 1


def test_a_token_works_once(api, nora, link):
    token = link(nora.email)

    assert reset(api, token).status_code == 204
    assert refused(reset(api, token, "another one altogether"), 401, "invalid_token")
    assert log_in(api, nora.email, NEW).status_code == 200


def test_a_token_works_once_at_any_concurrency(api, admin, nora, link):
    token = link(nora.email)

    def use(n):
        body = {"token": token, "new_password": f"{NEW} number {n}"}
        return requests.post(f"{api.base}/v1/auth/password/reset", json=body, timeout=30).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(use, range(4)))
    assert sorted(answers) == [204, 401, 401, 401]
    assert len([e for e in events(admin, nora.tenant_id) if e["action"] == "user.password_changed"]) == 1


def test_a_new_link_kills_the_older_one(api, nora, link):
    first, second = link(nora.email), link(nora.email)

    assert refused(reset(api, first), 401, "invalid_token")
    assert reset(api, second).status_code == 204


def test_a_link_expires(api, admin, nora, link):
    token = link(nora.email)
    admin.run("UPDATE identity.password_resets SET expires_at = now() WHERE account_id = :u", u=nora.user_id)

    assert refused(reset(api, token), 401, "invalid_token")


def test_a_changed_password_kills_the_link(api, nora, link):
    token = link(nora.email)
    body = {"current_password": PASSWORD, "new_password": NEW}
    assert api.post("/v1/auth/password/change", json=body, headers=nora).status_code == 204

    assert refused(reset(api, token, "another one altogether"), 401, "invalid_token")


@pytest.mark.parametrize("password", ["short", "password1234", "owner-{id} and more", "organization {tenant}"])
def test_a_weak_password_does_not_spend_the_token(api, nora, link, password):
    token = link(nora.email)
    weak = password.format(id=nora.user_id[:8], tenant=nora.tenant_id[:8])

    assert refused(reset(api, token, weak), 422, "weak_password")
    assert reset(api, token).status_code == 204


@pytest.mark.parametrize("token", ["x", "é" * 43, "A" * 43])
def test_an_invented_token(api, token):
    assert refused(reset(api, token), 401, "invalid_token")


def test_a_frozen_account_has_no_way_back(api, admin, nora, link):
    token = link(nora.email)
    admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :u", u=nora.user_id)

    assert refused(reset(api, token), 401, "invalid_token")


def test_who_has_no_password_gets_one(api, people, link):
    federated = people.create("owner")

    assert reset(api, link(federated.email)).status_code == 204
    assert log_in(api, federated.email, NEW).status_code == 200


def test_the_first_log_in_after_it_is_marked(api, admin, nora, link):
    marked = "SELECT reset_by_mail_at IS NOT NULL FROM identity.accounts WHERE id = :u"
    assert reset(api, link(nora.email)).status_code == 204
    assert admin.run(marked, u=nora.user_id) == [[True]]

    log_in(api, nora.email, NEW)
    assert admin.run(marked, u=nora.user_id) == [[False]]


def test_it_lets_the_owner_in_whom_strangers_have_locked_out(api, nora, link):
    for _ in range(5):
        log_in(api, nora.email, "not the right password")
    answer = reset(api, link(nora.email))

    assert refused(log_in(api, nora.email, NEW), 429, "account_locked")
    known = {"json": {"email": nora.email, "password": NEW}, "headers": device(answer)}
    assert api.post("/v1/auth/login", **known).status_code == 200


def test_nobody_floods_a_mailbox(api, admin, inbox, nora):
    for _ in range(8):
        assert forgot(api, nora.email).status_code == 202

    count = "SELECT count(*) FROM identity.password_resets WHERE account_id = :u"
    assert admin.run(count, u=nora.user_id) == [[5]]


def test_nobody_floods_a_mailbox_with_requests_at_a_time(api, stack, admin, nora):
    def ask(_):
        return forgot(Api(stack["api"]), nora.email).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(32))) == {202}

    count = "SELECT count(*), count(*) FILTER (WHERE expires_at > now()) FROM identity.password_resets"
    assert admin.run(f"{count} WHERE account_id = :u", u=nora.user_id) == [[5, 1]]


def test_the_database_alone_makes_no_link(api, stack, nora):
    """Who can write rows, as injected SQL could, still lacks the key that makes tokens, and the seal of a person."""
    auth, token, reset_id = Attacker(stack, "auth_fn"), uuid.uuid4().hex, str(uuid.uuid4())
    try:
        auth.connection.run("BEGIN")
        auth.authorize(auth.token())
        auth.connection.run(
            "SELECT identity.ask_password_reset(:e, :i, :t, interval '1 hour')",
            e=nora.email,
            i=reset_id,
            t=tokens.digest(token),
        )
        used = auth.connection.run("SELECT * FROM identity.reset_password(:t, 'mine')", t=tokens.digest(token))
        auth.connection.run("COMMIT")
    finally:
        auth.connection.close()

    assert not used
    assert refused(reset(api, token), 401, "invalid_token")
    assert log_in(api, nora.email, PASSWORD).status_code == 200


def test_the_page_behind_the_link(api):
    page = api.get("/reset-password")

    assert page.status_code == 200
    assert page.headers["Content-Type"].startswith("text/html")
    assert "script-src 'sha256-" in page.headers["Content-Security-Policy"]
    assert "/v1/auth/password/reset" in page.text


def test_fields_are_checked(api):
    answer = api.post("/v1/auth/password/reset", json={"new_password": 7})
    assert refused(answer, 422, "invalid_request")
    assert set(answer.json["errors"]) == {"token", "new_password"}
    assert refused(forgot(api, "not an address"), 422, "invalid_request")


def test_a_log_in_on_its_way_does_not_outlive_the_reset(api, stack, admin, nora, link):
    """Its password was right when it was looked at: the account is held while the session opens."""
    token = link(nora.email)
    blocker = database(stack["postgres"]["admin"])
    blocker.run("BEGIN")
    blocker.run("SELECT FROM identity.accounts WHERE id = :u FOR UPDATE", u=nora.user_id)

    def waiting(count):
        sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND state = 'active'"
        wait_until(lambda: admin.run(sql)[0][0] >= count, 10, f"{count} that wait")

    with ThreadPoolExecutor(2) as pool:
        ours = pool.submit(reset, Api(stack["api"]), token)
        waiting(1)
        theirs = pool.submit(log_in, Api(stack["api"]), nora.email, PASSWORD)
        waiting(2)
        blocker.run("COMMIT")
        assert ours.result().status_code == 204
        answer = theirs.result()
    blocker.close()

    if answer.status_code == 200:  # it was faster, and has ended
        assert refused(api.get("/v1/auth/me", headers=bearer(answer.json)), 401, "invalid_token")
    else:
        assert refused(answer, 503, "unavailable")
