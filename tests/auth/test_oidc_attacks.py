"""What a hostile provider, client or network could try against log-in at a provider: each is refused, and why."""

import secrets
import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.auth.test_oidc_log_in import address, client_secret, links, rename, vouched
from tests.conftest import Api
from tests.providers import CLIENT, Browser


@pytest.fixture
def browser(api: Api) -> Browser:
    return Browser(api)


def refused(answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert "access_token" not in answer.text


NOW = int(time.time())
FORGED: dict[str, dict[str, Any]] = {
    "another nonce": {"nonce": "n" * 43},
    "no nonce": {"without": ("nonce",)},
    "a nonce that is no text": {"nonce": 7},
    "another issuer": {"iss": "https://accounts.example"},
    "the issuer with a slash": {"issuer": "honest/"},
    "no issuer": {"without": ("iss",)},
    "another audience": {"aud": "somebody-else"},
    "no audience": {"without": ("aud",)},
    "several audiences, for nobody in particular": {"aud": [CLIENT, "another"]},
    "several audiences, for another": {"aud": [CLIENT, "another"], "azp": "another"},
    "made for another client": {"azp": "another"},
    "expired": {"exp": NOW - 60},
    "no end": {"without": ("exp",)},
    "issued long ago": {"iat": NOW - 3600},
    "issued in the future": {"iat": NOW + 3600},
    "no time of issue": {"without": ("iat",)},
    "not valid yet": {"nbf": NOW + 3600},
    "no subject": {"without": ("sub",)},
    "an empty subject": {"sub": ""},
    "a subject that is no text": {"sub": 7},
    "a subject without end": {"sub": "x" * 256},
    "another access token": {"at_hash": "A" * 22},
    "no ID token": {"without": ("id_token",)},
    "not signed": {"token": {"alg": "none"}},
    "another type": {"token": {"typ": "at+jwt"}},
    "an extension that we do not know": {"token": {"crit": ["exp"]}},
    "a key that the provider does not have": {"token": {"kid": "nobody"}},
    "the key of another algorithm": {"token": {"kid": "ec"}},
    "no key id where there are several keys": {"token": {"kid": None}},
}


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_an_id_token_that_is_not_right_in_one_thing(browser, provider, changes):
    asked = browser.start()

    answer = browser.come_back(provider.grant(asked, **{**vouched(address()), **changes}), asked)

    refused(answer, 401, "oidc_invalid")
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="oidc_invalid"'


def test_the_same_token_passes_when_nothing_is_changed(browser, provider):
    asked = browser.start()

    assert browser.come_back(provider.grant(asked, **vouched(address())), asked).status_code == 200


def test_signed_with_the_clients_secret(browser, provider, stack):
    asked = browser.start()
    token = {"alg": "HS256", "key": client_secret(stack).encode()}

    refused(browser.come_back(provider.grant(asked, token=token, **vouched(address())), asked), 401, "oidc_invalid")


def test_signed_with_the_public_key_as_a_shared_secret(browser, provider):
    asked = browser.start()
    public = provider.rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    code = provider.grant(asked, token={"alg": "HS256", "key": public}, **vouched(address()))

    refused(browser.come_back(code, asked), 401, "oidc_invalid")


def test_signed_with_a_key_that_the_token_brings_along(browser, provider):
    from jwt.algorithms import RSAAlgorithm

    asked = browser.start()
    own = RSAAlgorithm.to_jwk(provider.stranger.public_key(), as_dict=True)
    for more in ({}, {"jwk": own}, {"jku": provider.issuer() + "/stranger"}, {"x5u": provider.issuer() + "/stranger"}):
        token = {"key": provider.stranger, **more}
        code = provider.grant(asked, token=token, **vouched(address()))
        refused(browser.come_back(code, asked), 401, "oidc_invalid")
        asked = browser.start()
    assert provider.hits["/honest/stranger"] == 0


def test_signed_with_a_key_that_is_too_short(browser, provider):
    asked = browser.start()
    token = {"key": provider.small, "kid": "small"}

    refused(browser.come_back(provider.grant(asked, token=token, **vouched(address())), asked), 401, "oidc_invalid")


def test_a_code_that_somebody_else_got(browser, provider):
    """PKCE at the provider: the code of another try does not fit this one's verifier."""
    asked, another = browser.start(), browser.start()

    code = provider.grant({**asked, "code_challenge": another["code_challenge"]}, **vouched(address()))

    refused(browser.come_back(code, asked), 401, "oidc_invalid")


def test_a_mix_up_does_not_hand_the_code_to_another_provider(browser, provider):
    """RFC 9700, 4.4: the answer names its issuer; a code that another one made is not sent anywhere."""
    asked = browser.start("other")
    before = provider.hits["/other/token"]
    code = provider.grant(asked, **vouched(address()))

    answer = browser.come_back(code, asked, "other", f"&iss={provider.issuer('honest')}")

    refused(answer, 401, "oidc_invalid")
    assert provider.hits["/other/token"] == before


def test_the_answer_of_one_provider_at_the_door_of_another(browser, provider):
    asked = browser.start("other")

    answer = browser.come_back(provider.grant(asked, **vouched(address())), asked, "honest")

    refused(answer, 400, "oidc_state_invalid")


def test_the_issuer_may_be_named(browser, provider):
    for name in ("honest", "careful"):
        asked = browser.start(name)
        code = provider.grant(asked, issuer=name, **vouched(address()))
        assert browser.come_back(code, asked, name, f"&iss={provider.issuer(name)}").status_code == 200


def test_the_issuer_must_be_named_where_the_provider_says_it_does(browser, provider):
    asked = browser.start("careful")
    code = provider.grant(asked, issuer="careful", **vouched(address()))

    refused(browser.come_back(code, asked, "careful"), 401, "oidc_invalid")
    assert provider.hits["/careful/token"] <= 1


def test_a_state_works_once(browser, provider):
    asked, subject = browser.start(), secrets.token_hex(8)
    person = {"sub": subject, **vouched(address())}
    assert browser.come_back(provider.grant(asked, **person), asked).status_code == 200

    refused(browser.come_back(provider.grant(asked, **person), asked), 400, "oidc_state_invalid")


def test_a_state_is_over_after_a_failure_too(browser, provider):
    asked = browser.start()
    browser.come_back("wrong", asked)

    answer = browser.come_back(provider.grant(asked, **vouched(address())), asked)

    refused(answer, 400, "oidc_state_invalid")


def test_the_browser_of_somebody_else(browser, provider, api, admin, alice):
    """A link with a code and a state that an attacker has prepared logs nobody in, and links nothing."""
    attacker, email = Browser(Api(api.base)), rename(admin, alice)
    asked = attacker.start()
    code = provider.grant(asked, **vouched(email))
    browser.start()

    for victim in (browser, Browser(Api(api.base))):
        refused(victim.come_back(code, asked), 400, "oidc_state_invalid")
    assert links(admin, alice.user_id) == []
    assert attacker.come_back(code, asked).status_code == 200


def test_a_state_of_our_own_making(browser):
    browser.start()
    for state in ("", "x", "'; --", "%00", "n" * 43):
        answer = browser.get(f"/v1/auth/oidc/honest/callback?code=x&state={state}")
        assert answer.json["code"] in {"oidc_state_invalid", "invalid_request"}


def test_a_state_twice(browser):
    asked = browser.start()

    answer = browser.get(f"/v1/auth/oidc/honest/callback?code=x&state={asked['state']}&state={asked['state']}")

    assert answer.status_code == 422


def test_a_state_that_is_too_old(browser, provider, admin):
    asked = browser.start()
    admin.run("UPDATE identity.oidc_attempts SET expires_at = now() - interval '1 second'")

    refused(browser.come_back(provider.grant(asked, **vouched(address())), asked), 400, "oidc_state_invalid")


def test_the_provider_says_no(browser, provider):
    asked = browser.start()
    told = "error=access_denied&error_description=%3Cscript%3E&error_uri=https://evil.example"

    answer = browser.get(f"/v1/auth/oidc/honest/callback?{told}&state={asked['state']}")

    refused(answer, 403, "oidc_denied")
    assert "access_denied" in answer.json["detail"]
    assert "script" not in answer.text
    assert "evil" not in answer.text


def test_an_error_beside_a_code_is_an_error(browser, provider):
    asked = browser.start()
    code = provider.grant(asked, **vouched(address()))

    refused(browser.come_back(code, asked, more="&error=%3Cb%3E"), 403, "oidc_denied")
    assert code in provider.grants


def test_neither_code_nor_error(browser):
    asked = browser.start()

    refused(browser.get(f"/v1/auth/oidc/honest/callback?state={asked['state']}"), 401, "oidc_invalid")


def test_the_code_is_refused_by_the_provider(browser, provider):
    refused(browser.come_back("unknown", browser.start()), 401, "oidc_invalid")


@pytest.mark.parametrize("status", [302, 500, 503])
def test_the_provider_breaks(browser, provider, status):
    asked = browser.start()

    answer = browser.come_back(provider.grant(asked, status=status, **vouched(address())), asked)

    refused(answer, 503, "oidc_unavailable")
    assert answer.headers["Retry-After"]


@pytest.mark.parametrize("name", ["misnamed", "plain", "away"])
def test_a_provider_whose_discovery_is_not_usable(browser, name):
    """Another issuer than ours; an address without TLS; nobody there."""
    refused(browser.get(f"/v1/auth/oidc/{name}/start"), 503, "oidc_unavailable")


@pytest.mark.parametrize("name", ["moved", "huge", "slow"])
def test_keys_that_come_by_a_redirect_or_are_too_large_or_too_slow(browser, provider, name):
    asked = browser.start(name)
    before, began = provider.hits["/honest/jwks"], time.monotonic()

    answer = browser.come_back(provider.grant(asked, issuer=name, **vouched(address())), asked, name)

    refused(answer, 503, "oidc_unavailable")
    assert time.monotonic() - began < 8
    assert provider.hits["/honest/jwks"] == before


def test_unknown_key_ids_do_not_make_us_ask_again_and_again(browser, provider):
    asked = browser.start()
    browser.come_back(provider.grant(asked, **vouched(address())), asked)
    before = provider.hits["/honest/jwks"]
    for number in range(5):
        asked = browser.start()
        code = provider.grant(asked, token={"kid": f"unknown-{number}"}, **vouched(address()))
        refused(browser.come_back(code, asked), 401, "oidc_invalid")

    assert provider.hits["/honest/jwks"] <= before + 1


def test_discovery_and_keys_are_kept(browser, provider):
    for _ in range(3):
        asked = browser.start()
        browser.come_back(provider.grant(asked, **vouched(address())), asked)

    assert provider.hits["/honest/.well-known/openid-configuration"] == 1
    assert provider.hits["/honest/jwks"] <= 3
