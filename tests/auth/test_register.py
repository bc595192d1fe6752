"""POST /v1/auth/register."""

import hashlib
import re
import uuid

import pytest

from tests.auth.support import COOKIE, PASSWORD, mailed_token, new_address, refused, register
from tests.conftest import wait_until

BODY = {"password": PASSWORD, "display_name": "Nora Berg", "organization_name": "Fjord Labs"}


def test_it_works(api, admin, inbox):
    email = new_address()
    purpose = f"newsletter-{uuid.uuid4().hex[:8]}"
    admin.run("SELECT platform.put_consent_purpose(:p, true, 'May we write to you?')", p=purpose)
    consents = [{"purpose": purpose, "granted": True}]
    answer = api.post("/v1/auth/register", json={**BODY, "email": email, "consents": consents})

    assert (answer.status_code, answer.json) == (202, {"status": "verification_required"})
    cookie = answer.headers["Set-Cookie"]
    assert re.match(rf"{COOKIE}=[\w-]{{43}};", cookie)
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; "))
    token = mailed_token(inbox, email)
    rows = admin.run(
        "SELECT token_hash, browser_hash, password_hash, consents FROM identity.registrations WHERE email = :e", e=email
    )
    token_hash, browser_hash, password_hash, kept = rows[0]
    assert token_hash == hashlib.sha256(token.encode()).digest()
    assert browser_hash == hashlib.sha256(cookie.split("=")[1].split(";")[0].encode()).digest()
    assert password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert kept == [{"purpose": purpose, "granted": True, "version": 1, "signal": None}]
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE email = :e", e=email) == [[0]]


def test_a_taken_address_gets_the_same_answer_and_its_owner_a_mail(api, admin, alice, inbox):
    free = api.post("/v1/auth/register", json={**BODY, "email": new_address()})
    taken = api.post("/v1/auth/register", json={**BODY, "email": alice.email.upper()})

    assert (taken.status_code, taken.json) == (free.status_code, free.json)
    different = {"X-Request-Id", "Set-Cookie", "Date", "Ratelimit"}
    assert {k.title() for k in taken.headers} == {k.title() for k in free.headers}
    assert {k: v for k, v in taken.headers.items() if k.title() not in different} == {
        k: v for k, v in free.headers.items() if k.title() not in different
    }
    mail = inbox.wait_for(alice.email, "Someone tried to register")
    assert "token=" not in mail["text"]
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE email = :e", e=alice.email) == [[1]]


def test_the_mail_quotes_nothing_that_the_sender_typed(api, inbox):
    newcomer = register(
        api,
        display_name="Visit https://evil.example",
        organization_name="<b>Prize</b>",
        password="quite another secret",
    )
    mail = inbox.wait_for(newcomer.email, "Confirm")
    whole = api.get(f"{inbox._base}/messages/{mail['id']}").json
    assert "evil.example" not in str(whole)
    assert "Prize" not in str(whole)


def test_the_address_is_kept_in_its_normal_form(api, admin, inbox):
    email = new_address()
    api.post("/v1/auth/register", json={**BODY, "email": f"  {email.upper()} "})

    inbox.wait_for(email, "Confirm")
    assert admin.run("SELECT count(*) FROM identity.registrations WHERE email = :e", e=email) == [[1]]


@pytest.mark.parametrize(
    "password",
    [
        "elevenchars",
        "x" * 129,
        "nora1970and more",
        "i-am-NORA-berg-really",
        "welcome to fjord labs",
        "my local part is niels.abel yes",
    ],
)
def test_weak_passwords_are_refused(api, password):
    body = {**BODY, "email": "niels.abel@example.org", "password": password}
    answer = api.post("/v1/auth/register", json=body)

    assert refused(answer, 422, "weak_password")
    assert answer.json["errors"]["password"]


@pytest.mark.parametrize("password", ["vixen jumps!", "ß" * 128, "correct horse 🐎 battery"])
def test_any_characters_of_the_right_number_are_accepted(api, password):
    register(api, password=password)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"email": "no-at-sign"}, "email"),
        ({"email": "two@at@example.org"}, "email"),
        ({"email": "a@b"}, "email"),
        ({"email": "a@example.org\r\nBcc: b@example.org"}, "email"),
        ({"email": "a@example.org, b@example.org"}, "email"),
        ({"email": "<a@example.org>"}, "email"),
        ({"email": "\u212aelvin@example.org"}, "email"),
        ({"email": "x" * 65 + "@example.org"}, "email"),
        ({"email": "x@" + "y" * 60 + ("." + "z" * 60) * 4}, "email"),
        ({"display_name": "   "}, "display_name"),
        ({"display_name": "Nora\nBcc: x"}, "display_name"),
        ({"organization_name": "x" * 256}, "organization_name"),
        ({"consents": [{"purpose": "news", "granted": "yes"}]}, "consents.0.granted"),
        ({"role": "owner"}, "role"),
        ({"password": 7}, "password"),
    ],
)
def test_invalid_fields_are_named(api, change, field):
    answer = api.post("/v1/auth/register", json={**BODY, "email": new_address(), **change})

    assert refused(answer, 422, "invalid_request")
    assert field in answer.json["errors"]


def test_every_field_is_needed(api):
    answer = api.post("/v1/auth/register", json={})

    assert set(answer.json["errors"]) == {"email", "password", "display_name", "organization_name"}


def mails_once_all_is_delivered(admin, inbox, email, posted):
    """How many mails there are when the outbox has nothing left for the address."""
    done = (
        "SELECT count(*) FROM platform.outbox o JOIN identity.registrations r ON r.id = o.reference"
        " WHERE r.email = :e AND o.delivered_at IS NOT NULL"
    )
    wait_until(lambda: admin.run(done, e=email) == [[posted]], 60, "the deliveries")
    return len(inbox.messages(email))


def test_nobody_floods_a_mailbox_by_asking_again(api, admin, inbox):
    newcomer = register(api)
    for _ in range(7):
        assert api.post("/v1/auth/email/resend", json={"email": newcomer.email}).status_code == 202

    assert mails_once_all_is_delivered(admin, inbox, newcomer.email, 8) == 5


def test_nobody_floods_a_mailbox_by_registering(api, admin, inbox, alice):
    for _ in range(22):
        register(api, alice.email)

    assert mails_once_all_is_delivered(admin, inbox, alice.email, 22) == 20
