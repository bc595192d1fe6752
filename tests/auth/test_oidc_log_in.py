"""Log-in at a provider: a newcomer, somebody who is known, an address that the provider may or may not vouch for."""

import base64
import hashlib
import json
import re
import secrets
import threading
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.auth.support import bearer, claims, events, register
from tests.conftest import Api, Person
from tests.providers import CLIENT, DOMAIN, SECRET, Browser


@pytest.fixture
def browser(api: Api) -> Browser:
    return Browser(api)


def address(domain: str = DOMAIN) -> str:
    return f"olga-{secrets.token_hex(6)}@{domain}"


def vouched(email: str, **more: Any) -> dict[str, Any]:
    return {"email": email, "email_verified": True, "name": "Olga Holm", **more}


def account_of(admin: Any, email: str) -> list[Any]:
    rows: list[list[Any]] = admin.run("SELECT id, password_hash FROM identity.accounts WHERE email = :e", e=email)
    return rows[0] if rows else []


def links(admin: Any, account_id: str) -> list[tuple[str, str]]:
    rows = admin.run(
        "SELECT issuer, subject FROM identity.federated_identities WHERE account_id = :a ORDER BY subject", a=account_id
    )
    return [(issuer, subject) for issuer, subject in rows]


def rename(admin: Any, person: Person, domain: str = DOMAIN) -> str:
    """Give somebody an address of the provider's domain."""
    email = address(domain)
    admin.run("UPDATE identity.accounts SET email = :e WHERE id = :id", e=email, id=person.user_id)
    return email


def give_factor(admin: Any, person: Person) -> None:
    """A confirmed second factor: codes by mail."""
    admin.run(
        "INSERT INTO identity.mfa_factors (id, account_id, type, confirmed_at, expires_at)"
        " VALUES (gen_random_uuid(), :id, 'email', now(), NULL)",
        id=person.user_id,
    )


def test_it_works(browser, provider, admin):
    asked = browser.start()
    email = address()

    answer = browser.come_back(provider.grant(asked, sub="olga", **vouched(email)), asked)

    assert answer.status_code == 200, answer.text
    assert answer.json["status"] == "authenticated"
    assert answer.json["user"]["email"] == email
    assert answer.json["user"]["display_name"] == "Olga Holm"
    assert answer.json["organization"]["role"] == "owner"
    assert claims(answer.json["access_token"])["amr"] == ["fed"]
    account_id, password_hash = account_of(admin, email)
    assert password_hash is None
    assert links(admin, account_id) == [(provider.issuer(), "olga")]
    chain = [event["action"] for event in events(admin, answer.json["organization"]["id"])]
    assert chain == ["organization.created", "user.registered", "identity.linked", "login.succeeded"]
    assert browser.api.get("/v1/auth/me", headers=bearer(answer.json)).status_code == 200


def test_what_the_provider_is_asked(browser, provider, stack):
    answer = browser.get("/v1/auth/oidc/honest/start")

    url = urlsplit(answer.headers["Location"])
    asked = {name: values[0] for name, values in parse_qs(url.query).items()}
    assert answer.headers["Location"].startswith(provider.issuer() + "/authorize?")
    assert asked["response_type"] == "code"
    assert asked["client_id"] == CLIENT
    assert asked["scope"] == "openid email profile"
    assert asked["code_challenge_method"] == "S256"
    assert asked["redirect_uri"] == f"{stack['api']}/v1/auth/oidc/honest/callback"
    assert all(re.fullmatch(r"[\w-]{43}", asked[name]) for name in ("state", "nonce", "code_challenge"))
    assert "max_age" not in asked
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-oidc=")
    assert {"Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=600"} <= set(cookie.split("; "))


def test_each_try_has_its_own_state_nonce_and_verifier(browser):
    first, second = browser.start(), browser.start()

    assert not {first[name] for name in ("state", "nonce", "code_challenge")} & set(second.values())


def test_the_code_goes_with_its_verifier_and_the_clients_secret(browser, provider, stack):
    asked = browser.start()

    browser.come_back(provider.grant(asked, **vouched(address())), asked)

    path, form, headers = provider.requests[-1]
    assert path == "/honest/token"
    digest = hashlib.sha256(form["code_verifier"].encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
    assert form["redirect_uri"] == asked["redirect_uri"]
    client, _, secret = base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode().partition(":")
    assert client == CLIENT
    assert secret == client_secret(stack)
    assert "client_secret" not in form


def client_secret(stack: dict[str, Any]) -> str:
    from pathlib import Path

    return Path(stack["path"]).parent.joinpath("secrets", SECRET, "latest").read_text()


def test_a_provider_that_wants_the_secret_in_the_form_gets_it_there(browser, provider, stack):
    asked = browser.start("posting")

    code = provider.grant(asked, issuer="posting", **vouched(address()))
    assert browser.come_back(code, asked, "posting").status_code == 200

    _, form, headers = provider.requests[-1]
    assert form["client_secret"] == client_secret(stack)
    assert "Authorization" not in headers


def test_a_public_client_has_no_secret(browser, provider):
    asked = browser.start("public")

    assert browser.come_back(provider.grant(asked, issuer="public", **vouched(address())), asked, "public").json["user"]

    _, form, headers = provider.requests[-1]
    assert form["client_id"] == CLIENT
    assert "client_secret" not in form
    assert "Authorization" not in headers


def test_es256_is_good_as_well(browser, provider):
    asked = browser.start()

    code = provider.grant(asked, token={"alg": "ES256"}, **vouched(address()))

    assert browser.come_back(code, asked).status_code == 200


def test_several_audiences_are_good_when_the_token_was_made_for_us(browser, provider):
    asked = browser.start()

    code = provider.grant(asked, aud=[CLIENT, "another"], azp=CLIENT, **vouched(address()))

    assert browser.come_back(code, asked).status_code == 200


def test_the_address_may_stand_in_the_user_info(browser, provider):
    asked, email, subject = browser.start(), address(), secrets.token_hex(4)

    code = provider.grant(asked, sub=subject, userinfo={"sub": subject, **vouched(email)})

    assert browser.come_back(code, asked).json["user"]["email"] == email


def test_the_user_info_of_somebody_else_is_refused(browser, provider):
    asked = browser.start()

    code = provider.grant(asked, userinfo={"sub": "somebody else", **vouched(address())})

    assert browser.come_back(code, asked).json["code"] == "oidc_invalid"


def test_what_the_provider_adds_to_its_answer_is_ignored(browser, provider):
    asked = browser.start()

    answer = browser.come_back(provider.grant(asked, **vouched(address())), asked, more="&session_state=1&scope=openid")

    assert answer.status_code == 200


def test_the_same_person_comes_back_whatever_her_address_is_there(browser, provider, admin, people):
    first, subject = browser.start(), secrets.token_hex(8)
    before = browser.come_back(provider.grant(first, sub=subject, **vouched(address())), first).json
    bystander = people.create("owner")
    email = rename(admin, bystander)

    for changed in (vouched(address()), vouched(email), {"email": email, "email_verified": False}, {}):
        asked = browser.start()
        after = browser.come_back(provider.grant(asked, sub=subject, **changed), asked).json
        assert after["user"] == before["user"]
        assert after["organization"] == before["organization"]
    assert links(admin, bystander.user_id) == []


def test_an_account_with_an_address_that_the_provider_vouches_for_is_linked(browser, provider, admin, alice):
    email, asked, subject = rename(admin, alice), browser.start(), secrets.token_hex(8)

    answer = browser.come_back(provider.grant(asked, sub=subject, **vouched(email.upper())), asked)

    assert answer.json["user"]["id"] == alice.user_id
    assert answer.json["organization"]["id"] == alice.tenant_id
    assert links(admin, alice.user_id) == [(provider.issuer(), subject)]
    assert [event["action"] for event in events(admin, alice.tenant_id)] == ["identity.linked", "login.succeeded"]


REFUSED = {
    "another domain": vouched("olga@elsewhere.example"),
    "a domain below": vouched(f"olga@sub.{DOMAIN}"),
    "a domain that ends alike": vouched(f"olga@un{DOMAIN}"),
    "not verified": vouched(f"olga-1@{DOMAIN}", email_verified=False),
    "verified in words": vouched(f"olga-2@{DOMAIN}", email_verified="true"),
    "nothing about verified": {"email": f"olga-3@{DOMAIN}"},
    "no address": {"name": "Olga"},
    "two addresses": vouched(f"olga@elsewhere.example,olga@{DOMAIN}"),
    "no address at all": vouched(f"<script>@{DOMAIN}"),
}


@pytest.mark.parametrize("said", REFUSED.values(), ids=REFUSED)
def test_an_address_that_nobody_vouches_for_opens_nothing(browser, provider, admin, alice, said):
    """The same answer whether the address has an account or not: it is no way to find out."""
    answers = []
    for known in (False, True):
        if known and isinstance(said.get("email"), str):
            admin.run("DELETE FROM identity.accounts WHERE email = :e", e=said["email"])
            admin.run("UPDATE identity.accounts SET email = :e WHERE id = :id", e=said["email"], id=alice.user_id)
        asked = browser.start()
        answers.append(browser.come_back(provider.grant(asked, **said), asked))

    assert [(answer.status_code, answer.json["code"]) for answer in answers] == [(403, "oidc_not_linked")] * 2
    assert answers[0].json["detail"] == answers[1].json["detail"]
    assert links(admin, alice.user_id) == []


def test_a_provider_vouches_for_the_domains_of_its_own_entry_only(browser, provider, admin, alice):
    email, asked = rename(admin, alice, "example.org"), browser.start("other")

    code = provider.grant(asked, issuer="other", **vouched(email))

    assert browser.come_back(code, asked, "other").json["code"] == "oidc_not_linked"


def test_pending_registrations_of_the_address_are_discarded(browser, provider, admin, api):
    email = address()
    register(api, email)
    asked = browser.start()

    assert browser.come_back(provider.grant(asked, **vouched(email)), asked).status_code == 200

    assert admin.run("SELECT count(*) FROM identity.registrations WHERE email = :e", e=email) == [[0]]


def test_registrations_stay_when_nobody_vouches(browser, provider, admin, api):
    email = address("elsewhere.example")
    register(api, email)
    asked = browser.start()

    browser.come_back(provider.grant(asked, **vouched(email)), asked)

    assert admin.run("SELECT count(*) FROM identity.registrations WHERE email = :e", e=email) == [[1]]


def test_a_frozen_account_is_not_entered(browser, provider, admin, alice):
    email = rename(admin, alice)
    admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :id", id=alice.user_id)
    for _ in range(2):
        asked = browser.start()
        answer = browser.come_back(provider.grant(asked, sub="frozen", **vouched(email)), asked)
        assert answer.json["code"] == "oidc_not_linked"
    assert links(admin, alice.user_id) == []


def test_somebody_without_an_organization_is_told_so(browser, provider, admin, alice):
    email = rename(admin, alice)
    admin.run("DELETE FROM app.members WHERE user_id = :id", id=alice.user_id)
    asked = browser.start()

    answer = browser.come_back(provider.grant(asked, **vouched(email)), asked)

    assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")


def test_a_suspended_organization_is_not_entered(browser, provider, admin, alice):
    email = rename(admin, alice)
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=alice.tenant_id)
    asked = browser.start()

    answer = browser.come_back(provider.grant(asked, **vouched(email)), asked)

    assert (answer.status_code, answer.json["code"]) == (403, "organization_suspended")


def test_two_tabs_at_once_make_one_account(api, provider, admin):
    browsers = [Browser(Api(api.base)) for _ in range(6)]
    email, subject = address(), secrets.token_hex(8)
    tries = [(browser, browser.start()) for browser in browsers]
    grants = [provider.grant(asked, sub=subject, **vouched(email)) for _, asked in tries]
    answers: list[Any] = []

    def back(browser: Browser, asked: dict[str, str], code: str) -> None:
        answers.append(browser.come_back(code, asked))

    threads = [threading.Thread(target=back, args=(*each, code)) for each, code in zip(tries, grants, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [answer.status_code for answer in answers] == [200] * 6
    assert len({answer.json["user"]["id"] for answer in answers}) == 1
    assert len(links(admin, account_of(admin, email)[0])) == 1


def test_tabs_of_one_browser_do_not_disturb_each_other(browser, provider):
    first, second = browser.start(), browser.start()

    for asked in (first, second):
        assert browser.come_back(provider.grant(asked, **vouched(address())), asked).status_code == 200


def test_a_second_factor_of_ours_is_still_asked_for(browser, provider, admin, alice):
    email, asked = rename(admin, alice), browser.start()
    give_factor(admin, alice)

    answer = browser.come_back(provider.grant(asked, **vouched(email)), asked)

    assert answer.status_code == 200
    assert answer.json["status"] == "mfa_required"
    assert "access_token" not in answer.json


def test_a_script_gets_the_address_as_json(browser, provider):
    answer = browser.get("/v1/auth/oidc/honest/start", Accept="application/json")

    assert answer.status_code == 200
    assert answer.json["authorization_url"].startswith(provider.issuer() + "/authorize?")
    assert answer.json["expires_in"] == 600
    assert answer.headers["Vary"] == "Accept,Origin"
    assert "__Host-oidc" in browser.cookies


def test_with_cookies_the_browser_goes_where_it_wanted(browser, provider, stack):
    asked = browser.start(query="?cookies=true&return_to=/app/start%3Ftab%3D1")

    answer = browser.come_back(provider.grant(asked, **vouched(address())), asked)

    assert answer.status_code == 303
    assert answer.headers["Location"] == stack["api"] + "/app/start?tab=1"
    assert answer.text == ""
    assert {"__Host-access", "__Host-refresh", "__Host-csrf"} <= set(browser.cookies)
    assert browser.get("/v1/auth/me").status_code == 200


def test_without_a_place_to_go_there_is_a_page(browser, provider):
    asked = browser.start(query="?cookies=true")

    answer = browser.come_back(provider.grant(asked, **vouched(address())), asked)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "script-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "__Host-access" in browser.cookies
    assert browser.cookies["__Host-access"] not in answer.text


def test_with_cookies_a_second_factor_is_announced_in_the_fragment(browser, provider, admin, alice):
    email, asked = rename(admin, alice), browser.start(query="?cookies=true&return_to=/app")
    give_factor(admin, alice)

    answer = browser.come_back(provider.grant(asked, **vouched(email)), asked)

    assert answer.status_code == 303
    fragment = parse_qs(urlsplit(answer.headers["Location"]).fragment)
    assert fragment["mfa_token"][0]
    assert json.loads(fragment["factors"][0])[0]["type"] == "email"
    assert "__Host-access" not in browser.cookies


ELSEWHERE = ("//evil.example", "/%5Cevil.example", "https://evil.example", "app", "/a%0D%0AX: y", "/a%23b", "/%09/evil")


@pytest.mark.parametrize("path", ELSEWHERE)
def test_the_way_back_stays_on_our_origin(browser, path):
    answer = browser.get(f"/v1/auth/oidc/honest/start?cookies=true&return_to={path}")

    assert (answer.status_code, list(answer.json["errors"])) == (422, ["return_to"])


def test_a_way_back_needs_cookies(browser):
    assert browser.get("/v1/auth/oidc/honest/start?return_to=/app").status_code == 422


def test_an_unknown_provider(browser):
    assert browser.get("/v1/auth/oidc/nobody/start").status_code == 404
    assert browser.get("/v1/auth/oidc/nobody/callback?state=x&code=y").status_code == 404


def test_an_unknown_purpose(browser):
    assert browser.get("/v1/auth/oidc/honest/start?purpose=anything").status_code == 422


def test_the_database_knows_hashes_only(browser, admin):
    asked = browser.start()

    [row] = admin.run("SELECT to_jsonb(a)::text FROM identity.oidc_attempts a ORDER BY created_at DESC LIMIT 1")

    for secret in (asked["state"], asked["nonce"], browser.cookies["__Host-oidc"]):
        assert secret not in row[0]
