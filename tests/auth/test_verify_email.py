"""POST /v1/auth/email/verify and /v1/auth/email/resend."""

import re
from concurrent.futures import ThreadPoolExecutor

from tests.auth.support import (
    PASSWORD,
    bearer,
    claims,
    events,
    log_in,
    mailed_token,
    new_address,
    refused,
    register,
    sign_up,
)
from tests.conftest import Api, wait_until


def verify(api, token, headers=None, **more):
    return api.post("/v1/auth/email/verify", json={"token": token, **more}, headers=headers)


def test_it_works_in_the_browser_of_the_registration(api, admin, inbox):
    newcomer, tokens = sign_up(api, inbox)

    assert tokens["status"] == "authenticated"
    assert tokens["user"]["email"] == newcomer.email
    assert (tokens["organization"]["name"], tokens["organization"]["role"]) == ("Fjord Labs", "owner")
    assert tokens["organizations"] == [tokens["organization"]]
    assert api.get("/v1/auth/me", headers=bearer(tokens)).json["user"] == tokens["user"]
    assert [event["action"] for event in events(admin, tokens["organization"]["id"])] == [
        "organization.created",
        "user.registered",
        "login.succeeded",
    ]
    assert claims(tokens["access_token"])["amr"] == ["mail"]
    assert log_in(api, newcomer.email, PASSWORD).status_code == 200


def test_a_link_works_once(api, inbox):
    newcomer = register(api)
    token = mailed_token(inbox, newcomer.email)

    assert verify(api, token, newcomer.cookie).status_code == 200
    assert refused(verify(api, token, newcomer.cookie), 401, "invalid_token")
    assert refused(verify(api, token, password=PASSWORD), 401, "invalid_token")


def test_a_link_followed_many_times_at_once_makes_one_account(stack, api, admin, inbox):
    newcomer = register(api)
    token = mailed_token(inbox, newcomer.email)

    def follow(_):
        client = Api(stack["api"])
        try:
            return verify(client, token, newcomer.cookie).status_code
        finally:
            client._session.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(follow, range(8))) == [200] + [401] * 7
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE email = :e", e=newcomer.email) == [[1]]


def test_another_browser_needs_the_password(api, admin, inbox):
    newcomer = register(api)
    token = mailed_token(inbox, newcomer.email)

    assert refused(verify(api, token), 401, "password_required")
    assert refused(verify(api, token, password="not the right one"), 401, "invalid_credentials")
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE email = :e", e=newcomer.email) == [[0]]
    answer = verify(api, token, password=PASSWORD)
    assert answer.status_code == 200
    assert claims(answer.json["access_token"])["amr"] == ["pwd"]


def test_the_cookie_of_another_registration_is_no_help(api, inbox):
    """Who registers with a victim's address must not get in when the victim follows the link."""
    attacker, victim = register(api), register(api)
    token = mailed_token(inbox, victim.email)

    assert refused(verify(api, token, attacker.cookie), 401, "password_required")
    assert refused(verify(api, token, attacker.cookie, password="a wrong password"), 401, "invalid_credentials")


def test_an_unknown_token(api):
    assert refused(verify(api, "x" * 43), 401, "invalid_token")
    assert refused(verify(api, "x" * 43, password=PASSWORD), 401, "invalid_token")


def test_an_expired_link(api, admin, inbox):
    newcomer = register(api)
    token = mailed_token(inbox, newcomer.email)
    admin.run("UPDATE identity.registrations SET expires_at = now() WHERE email = :e", e=newcomer.email)

    assert refused(verify(api, token, newcomer.cookie), 401, "invalid_token")


def test_one_verification_discards_the_other_registrations_of_the_address(api, inbox):
    first = register(api)
    token = mailed_token(inbox, first.email)
    second = register(api, first.email, password="somebody else's password")
    wait_until(lambda: len(inbox.messages(first.email)) == 2)
    other = mailed_token(inbox, first.email)

    assert token != other
    assert verify(api, token, first.cookie).status_code == 200
    assert refused(verify(api, other, second.cookie), 401, "invalid_token")
    assert log_in(api, first.email, PASSWORD).status_code == 200
    assert refused(log_in(api, first.email, "somebody else's password"), 401, "invalid_credentials")


def test_resend_sends_the_link_again(api, inbox):
    newcomer = register(api)
    token = mailed_token(inbox, newcomer.email)
    answer = api.post("/v1/auth/email/resend", json={"email": newcomer.email})

    assert (answer.status_code, answer.json) == (202, {"status": "accepted"})
    wait_until(lambda: len(inbox.messages(newcomer.email)) == 2)
    assert all(re.search(token, mail["text"]) for mail in inbox.messages(newcomer.email))


def test_resend_tells_nothing(api, alice):
    for email in (alice.email, new_address()):
        answer = api.post("/v1/auth/email/resend", json={"email": email})
        assert (answer.status_code, answer.json) == (202, {"status": "accepted"})
