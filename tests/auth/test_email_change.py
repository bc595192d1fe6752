"""PATCH /v1/auth/me with a new e-mail address, and its confirmation at POST /v1/auth/email/verify."""

import re

import pytest

from tests.auth.support import PASSWORD, bearer, events, log_in, mailed_token, new_address, refused, register

SUBJECT = "Confirm your new e-mail"


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


@pytest.fixture
def new():
    return new_address()


def ask(api, headers, email):
    return api.patch("/v1/auth/me", json={"email": email}, headers=headers)


def browser(answer):
    """The cookie of the browser that asked."""
    found = re.search(r"__Host-email-change=([\w-]{43});", answer.headers["Set-Cookie"])
    assert found
    return {"Cookie": f"__Host-email-change={found[1]}"}


def confirm(api, token, headers=None, **more):
    return api.post("/v1/auth/email/verify", json={"token": token, **more}, headers=headers)


def mailed(inbox, email):
    return mailed_token(inbox, email, SUBJECT)


def test_it_works(api, admin, inbox, nora, new):
    asked = ask(api, nora, new)
    assert (asked.status_code, asked.json["user"]["email"]) == (200, nora.email)

    answer = confirm(api, mailed(inbox, new), nora)
    assert (answer.status_code, answer.json["status"]) == (200, "authenticated")
    assert answer.json["user"]["email"] == new
    assert api.get("/v1/auth/me", headers=nora).json["user"]["email"] == new
    assert log_in(api, new, PASSWORD).status_code == 200
    assert refused(log_in(api, nora.email, PASSWORD), 401, "invalid_credentials")
    assert "user.email_changed" in [e["action"] for e in events(admin, nora.tenant_id)]


def test_the_old_address_is_told_before_and_after(api, inbox, nora, new):
    ask(api, nora, new)
    assert inbox.wait_for(nora.email, "A new e-mail address for your account")
    confirm(api, mailed(inbox, new), nora)

    told = inbox.wait_for(nora.email, "Your e-mail address was changed")
    assert new not in told["text"]
    assert not [m for m in inbox.messages(new) if "was changed" in m["subject"]]


def test_the_browser_that_asked_may_confirm(api, inbox, nora, new):
    cookie = browser(ask(api, nora, new))

    answer = confirm(api, mailed(inbox, new), cookie)
    assert answer.status_code == 200
    assert api.get("/v1/auth/me", headers=bearer(answer.json)).json["user"]["email"] == new


def test_the_password_may_confirm(api, inbox, nora, new):
    ask(api, nora, new)
    token = mailed(inbox, new)

    assert refused(confirm(api, token, password="not the right one"), 401, "invalid_credentials")
    assert confirm(api, token, password=PASSWORD).status_code == 200


def test_the_mailbox_alone_is_not_enough(api, inbox, nora, new):
    """A mistyped address belongs to a stranger, who would own the account by the next reset."""
    ask(api, nora, new)
    token = mailed(inbox, new)

    assert refused(confirm(api, token), 401, "password_required")
    assert refused(confirm(api, token, {"Cookie": f"__Host-email-change={'x' * 43}"}), 401, "password_required")
    assert api.get("/v1/auth/me", headers=nora).json["user"]["email"] == nora.email


def test_the_browsers_word_ends_with_its_log_in(api, inbox, nora, new):
    cookie = browser(ask(api, nora, new))
    token = mailed(inbox, new)
    api.post("/v1/auth/logout", headers=nora)

    assert refused(confirm(api, token, cookie), 401, "password_required")


def test_somebody_else_may_not(api, inbox, nora, mallory, new):
    ask(api, nora, new)

    assert refused(confirm(api, mailed(inbox, new), mallory), 401, "invalid_token")


def test_the_proof_by_password_counts_in_the_lock(api, inbox, nora, new):
    ask(api, nora, new)
    token = mailed(inbox, new)
    for _ in range(5):
        assert refused(confirm(api, token, password="not the right one"), 401, "invalid_credentials")

    assert refused(confirm(api, token, password=PASSWORD), 429, "account_locked")
    assert refused(log_in(api, nora.email, PASSWORD), 429, "account_locked")


def test_a_second_confirmation(api, inbox, nora, new):
    ask(api, nora, new)
    token = mailed(inbox, new)

    assert confirm(api, token, nora).status_code == 200
    assert refused(confirm(api, token, nora), 401, "invalid_token")


def test_a_new_wish_kills_the_older_one(api, inbox, nora, new):
    first = new_address()
    ask(api, nora, first)
    token = mailed(inbox, first)
    ask(api, nora, new)

    assert refused(confirm(api, token, nora), 401, "invalid_token")
    assert confirm(api, mailed(inbox, new), nora).status_code == 200


def test_it_needs_a_fresh_proof(api, people, nora, new):
    old = people.log_in(nora, age_seconds=301)

    assert refused(ask(api, old, new), 403, "step_up_required")
    assert api.patch("/v1/auth/me", json={"display_name": "Nora"}, headers=old).status_code == 200
    assert ask(api, old, nora.email).status_code == 200


def test_a_taken_address_is_told_to_its_owner_alone(api, inbox, alice, nora, new):
    taken = ask(api, nora, alice.email)
    mail = inbox.wait_for(alice.email, "Somebody tried to use your e-mail address")
    free = ask(api, nora, new)  # ends the wish before it, and the mail of that wish

    assert (taken.status_code, taken.json) == (free.status_code, free.json)
    assert "token=" not in mail["text"]
    assert nora.email not in mail["text"]


def test_an_address_that_was_taken_meanwhile(api, admin, inbox, people, nora, new):
    ask(api, nora, new)
    token = mailed(inbox, new)
    other = people.create("owner")
    admin.run("UPDATE identity.accounts SET email = :e WHERE id = :u", e=new, u=other.user_id)

    assert refused(confirm(api, token, nora), 401, "invalid_token")
    assert api.get("/v1/auth/me", headers=nora).json["user"]["email"] == nora.email


def test_links_to_the_old_mailbox_end(api, inbox, nora, new):
    api.post("/v1/auth/password/forgot", json={"email": nora.email})
    link = mailed_token(inbox, nora.email, "Set a new password", "reset-password")
    ask(api, nora, new)
    confirm(api, mailed(inbox, new), nora)

    body = {"token": link, "new_password": "a harbour full of herons"}
    assert refused(api.post("/v1/auth/password/reset", json=body), 401, "invalid_token")


def test_a_registration_that_waits_for_the_address_ends(api, admin, inbox, nora, new):
    register(api, new)
    ask(api, nora, new)
    confirm(api, mailed(inbox, new), nora)

    assert admin.run("SELECT count(*) FROM identity.registrations WHERE email = :e", e=new) == [[0]]


def test_nobody_floods_mailboxes(api, nora):
    assert [ask(api, nora, new_address()).status_code for _ in range(6)] == [200] * 5 + [429]


def test_it_is_told_in_each_organization(api, admin, inbox, people, nora, new):
    second = people.organization()
    people.join(nora.user_id, second, "viewer")
    ask(api, nora, new)
    confirm(api, mailed(inbox, new), nora)

    for tenant_id in (nora.tenant_id, second):
        changed = [e for e in events(admin, tenant_id) if e["action"] == "user.email_changed"]
        assert [(e["actor_id"], e["data"]) for e in changed] == [(nora.user_id, {})]


def test_name_and_address_at_once(api, inbox, nora, new):
    answer = api.patch("/v1/auth/me", json={"email": new, "display_name": "Nora Lund"}, headers=nora)

    assert (answer.json["user"]["email"], answer.json["user"]["display_name"]) == (nora.email, "Nora Lund")
    assert confirm(api, mailed(inbox, new), nora).status_code == 200


def test_a_new_password_ends_what_waits(api, inbox, nora, new):
    """Who is told of a new address that she did not ask for sets a new password: her session itself may be stolen."""
    cookie = browser(ask(api, nora, new))
    token = mailed(inbox, new)
    body = {"current_password": PASSWORD, "new_password": "a harbour full of herons"}
    assert api.post("/v1/auth/password/change", json=body, headers=nora).status_code == 204

    for proof in (nora, cookie, None):
        assert refused(confirm(api, token, proof), 401, "invalid_token")
    assert api.get("/v1/auth/me", headers=nora).json["user"]["email"] == nora.email
