"""Bearer tokens of trusted outside issuers: accepted by every service, for linked people, and worth no more."""

import secrets
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from common import issuers
from common.settings import settings
from tests.conftest import Person, last_audit_event
from tests.providers import AUDIENCE, CLIENT, SCOPE

ROUTES = ("/v1/auth/me", "/v1/organization", "/v1/projects", "/v1/exports", "/v1/deletions", "/v1/audit-events")


def link(admin: Any, person: Person, issuer: str) -> str:
    """Make the person known at an issuer; her subject there."""
    subject = f"subject-{secrets.token_hex(8)}"
    admin.run(
        "INSERT INTO identity.federated_identities (account_id, issuer, subject) VALUES (:a, :i, :s)",
        a=person.user_id,
        i=issuer,
        s=subject,
    )
    return subject


@pytest.fixture
def subject(admin, alice, provider):
    return link(admin, alice, provider.issuer("hydra"))


def refused(answer: Any, status: int = 401, code: str = "invalid_token") -> bool:
    assert (answer.status_code, answer.json["code"]) == (status, code), answer.text
    return True


@pytest.mark.parametrize("path", ROUTES)
def test_it_works_at_every_service(api, provider, alice, subject, path):
    answer = api.get(path, headers=provider.bearer("hydra", subject, alice.tenant_id))

    assert answer.status_code == 200, answer.text


def test_who_she_is_and_what_she_does(api, admin, provider, alice, subject):
    headers = provider.bearer("hydra", subject, alice.tenant_id)

    me = api.get("/v1/auth/me", headers=headers).json
    created = api.post("/v1/projects", json={"name": "From outside"}, headers=headers)

    assert me["user"]["id"] == alice.user_id
    assert me["organization"] == {**me["organization"], "id": alice.tenant_id, "role": "owner"}
    assert created.status_code == 201
    event = last_audit_event(admin, alice)
    assert (event["action"], event["actor_type"], event["actor_id"]) == ("project.created", "user", alice.user_id)


def test_the_tenant_may_stand_where_hydra_puts_it(api, provider, alice, subject):
    headers = provider.bearer("hydra", subject, None, ext={"tenant_id": alice.tenant_id})

    assert api.get("/v1/projects", headers=headers).status_code == 200


def test_scopes_may_be_a_list(api, provider, alice, subject):
    headers = provider.bearer("hydra", subject, alice.tenant_id, scope=None, scp=["openid", SCOPE])

    assert api.get("/v1/projects", headers=headers).status_code == 200


def test_several_audiences(api, provider, alice, subject):
    headers = provider.bearer("hydra", subject, alice.tenant_id, aud=["another", AUDIENCE])

    assert api.get("/v1/projects", headers=headers).status_code == 200


NOW = int(time.time())
WRONG: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOW - 60},
    "no end": {"exp": None},
    "an end that is no number": {"exp": "tomorrow"},
    "not valid yet": {"nbf": NOW + 3600},
    "issued in the future": {"iat": NOW + 3600},
    "another audience": {"aud": "another"},
    "no audience": {"aud": None},
    "no scope": {"scope": None},
    "another scope": {"scope": "openid"},
    "a scope that begins alike": {"scope": SCOPE + "s"},
    "no tenant": {"tenant_id": None},
    "a tenant that is no id": {"tenant_id": "main"},
    "a tenant in capitals": {"tenant_id": "ABCDEFAB-0000-4000-8000-000000000000"},
    "no subject": {"sub": None},
    "a subject that nobody has": {"sub": "nobody"},
    "an ID token, by its nonce": {"nonce": "n"},
    "an ID token, by its at_hash": {"at_hash": "h"},
    "an ID token, by our client as audience": {"aud": [AUDIENCE, CLIENT]},
    "not signed": {"token": {"alg": "none"}},
    "signed with a shared key": {"token": {"alg": "HS256", "key": b"0" * 32, "kid": "shared"}},
    "ES256, which is not agreed on": {"token": {"alg": "ES256"}},
    "another key": {"token": {"kid": "small"}},
    "a key that nobody has": {"token": {"kid": "nobody"}},
    "another type": {"token": {"typ": "logout+jwt"}},
    "an extension that we do not know": {"token": {"crit": ["exp"]}},
    "an issuer that is nearly right": {"iss": "honest"},
}


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_token_that_is_not_right_in_one_thing(api, provider, alice, subject, changes):
    if "iss" in changes:
        changes = {"iss": provider.issuer("hydra") + "/"}
    headers = provider.bearer("hydra", subject, **{"tenant_id": alice.tenant_id, **changes})

    assert refused(api.get("/v1/projects", headers=headers))


def test_signed_by_somebody_else(api, provider, alice, subject):
    headers = provider.bearer("hydra", subject, alice.tenant_id, token={"key": provider.stranger})

    assert refused(api.get("/v1/projects", headers=headers))


def test_nothing_named_in_a_token_is_fetched(api, provider, alice, subject):
    trap = provider.issuer("trap") + "/jwks"
    before = sum(provider.hits.values())
    token = {"key": provider.stranger, "jku": trap, "x5u": trap, "kid": trap}

    assert refused(api.get("/v1/projects", headers=provider.bearer("hydra", subject, alice.tenant_id, token=token)))
    unknown = provider.bearer("trap", subject, alice.tenant_id)
    assert refused(api.get("/v1/projects", headers=unknown))

    assert provider.hits["/trap/jwks"] == 0
    assert sum(provider.hits.values()) <= before + 1  # the keys of hydra, once


def test_the_subject_of_another_issuer_is_somebody_else(api, admin, provider, alice, mallory):
    subject = link(admin, alice, provider.issuer("hydra"))

    assert refused(api.get("/v1/projects", headers=provider.bearer("strong", subject, alice.tenant_id)))


def test_a_tenant_that_she_does_not_belong_to(api, provider, subject, mallory):
    assert refused(api.get("/v1/projects", headers=provider.bearer("hydra", subject, mallory.tenant_id)))


def test_her_role_counts(api, admin, provider, alice, vera):
    headers = provider.bearer("hydra", link(admin, vera, provider.issuer("hydra")), alice.tenant_id)

    assert api.get("/v1/projects", headers=headers).status_code == 200
    assert refused(api.post("/v1/projects", json={"name": "No"}, headers=headers), 403, "permission_denied")


@pytest.mark.parametrize(
    "end",
    [
        "DELETE FROM identity.federated_identities WHERE account_id = :id",
        "DELETE FROM app.members WHERE user_id = :id",
        "UPDATE identity.accounts SET status = 'frozen' WHERE id = :id",
    ],
    ids=["the link", "the membership", "the account"],
)
def test_an_end_counts_at_once(api, admin, provider, alice, dan, end):
    headers = provider.bearer("hydra", link(admin, dan, provider.issuer("hydra")), alice.tenant_id)
    assert api.get("/v1/projects", headers=headers).status_code == 200

    admin.run(end, id=dan.user_id)

    assert refused(api.get("/v1/projects", headers=headers))


def test_it_is_no_fresh_proof(api, provider, alice, subject):
    headers = provider.bearer("hydra", subject, alice.tenant_id, auth_time=int(time.time()))

    answer = api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=headers)

    assert refused(answer, 403, "step_up_required")


def test_it_is_a_fresh_proof_where_that_is_configured(api, admin, provider, alice):
    subject, now = link(admin, alice, provider.issuer("strong")), int(time.time())

    def asks(**claims: Any) -> Any:
        headers = provider.bearer("strong", subject, alice.tenant_id, **claims)
        return api.post("/v1/deletions", json={"scope": "me", "dry_run": True}, headers=headers)

    assert asks(auth_time=now).status_code == 200
    for stale in (
        {},
        {"auth_time": now - 3600},
        {"auth_time": now + 3600},
        {"auth_time": str(now)},
        {"auth_time": True},
    ):
        assert refused(asks(**stale), 403, "step_up_required")


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/auth/switch", {}), ("/v1/auth/step-up", {"password": "x"}), ("/v1/auth/logout", None)],
)
def test_it_is_not_traded_for_a_token_of_ours(api, provider, alice, subject, path, body):
    if body == {}:
        body = {"organization_id": alice.tenant_id}

    answer = api.post(path, json=body, headers=provider.bearer("hydra", subject, alice.tenant_id))

    assert answer.status_code in {403, 404}
    assert "access_token" not in answer.text


def test_it_begins_no_link(api, provider, alice, subject):
    answer = api.get(
        "/v1/auth/oidc/honest/start?purpose=link", headers=provider.bearer("hydra", subject, alice.tenant_id)
    )

    assert refused(answer, 403, "permission_denied")


def test_it_is_no_cookie(api, provider, alice, subject):
    token = provider.bearer("hydra", subject, alice.tenant_id)["Authorization"].removeprefix("Bearer ")

    assert refused(api.get("/v1/projects", headers={"Cookie": f"__Host-access={token}"}))


@pytest.mark.parametrize("name", ["moved", "huge"])
def test_without_keys_nobody_can_say(api, admin, provider, alice, name):
    """A redirect is not followed, an endless answer not read."""
    headers = provider.bearer(name, link(admin, alice, provider.issuer(name)), alice.tenant_id)

    assert refused(api.get("/v1/projects", headers=headers), 503, "unavailable")


def test_kept_keys_outlive_an_outage(api, admin, provider, alice):
    subject = link(admin, alice, provider.issuer("fading"))
    headers = provider.bearer("fading", subject, alice.tenant_id)
    assert api.get("/v1/projects", headers=headers).status_code == 200
    before = provider.hits["/fading/jwks"]

    provider.keys_are_away = True
    try:
        for number in range(4):
            unknown = provider.bearer("fading", subject, alice.tenant_id, token={"kid": f"k{number}"})
            assert refused(api.get("/v1/projects", headers=unknown))
        assert api.get("/v1/projects", headers=headers).status_code == 200
    finally:
        provider.keys_are_away = False

    assert provider.hits["/fading/jwks"] <= before + 1


def test_two_authorization_headers(api, provider, alice, subject):
    token = provider.bearer("hydra", subject, alice.tenant_id)["Authorization"]

    assert api.get("/v1/projects", headers={"Authorization": f"{token}, {token}"}).status_code == 400


GOOD = {"audience": AUDIENCE, "jwks_uri": "https://issuer.example/jwks", "required_scope": SCOPE}
BAD_ISSUERS: dict[str, Any] = {
    "no mapping": ["https://issuer.example"],
    "an issuer without TLS": {"http://issuer.example": GOOD},
    "keys without TLS": {"https://issuer.example": {**GOOD, "jwks_uri": "http://issuer.example/jwks"}},
    "no scope": {"https://issuer.example": {**GOOD, "required_scope": ""}},
    "no audience": {"https://issuer.example": {"jwks_uri": GOOD["jwks_uri"], "required_scope": SCOPE}},
    "an unknown key": {"https://issuer.example": {**GOOD, "algorithms": ["HS256"]}},
    "a doubtful step-up": {"https://issuer.example": {**GOOD, "satisfies_step_up": "no"}},
    "ourselves": {"http://127.0.0.1:1": GOOD},
}
CLIENTS = {"issuer": "https://issuer.example", "client_id": CLIENT, "client_secret": "oidc-client-secret"}
BAD_PROVIDERS: dict[str, Any] = {
    "an issuer without TLS": {"name": {**CLIENTS, "issuer": "http://issuer.example"}},
    "an issuer with a query": {"name": {**CLIENTS, "issuer": "https://issuer.example?x"}},
    "no client": {"name": {"issuer": "https://issuer.example"}},
    "no openid": {"name": {**CLIENTS, "scopes": ["email"]}},
    "a name that is no path": {"a/b": CLIENTS},
    "an unknown key": {"name": {**CLIENTS, "secret": "here"}},
    "domains that are no list": {"name": {**CLIENTS, "trusted_email_domains": 7}},
}


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Read both files anew from what a test writes."""

    def write(name: str, document: Any) -> None:
        path = Path(tmp_path, f"{name}.yaml")
        path.write_text(yaml.safe_dump(document))
        monkeypatch.setenv(name, str(path))

    for name in ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "SERVICE_URL"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("PUBLIC_URL", "http://127.0.0.1:1")
    caches = (settings, issuers.providers, issuers.trusted)
    for cached in caches:
        cached.cache_clear()
    yield write
    for cached in caches:
        cached.cache_clear()


@pytest.mark.parametrize("document", BAD_ISSUERS.values(), ids=BAD_ISSUERS)
def test_a_wrong_list_of_issuers_stops_the_process(configured, document):
    configured("TRUSTED_ISSUERS", document)

    with pytest.raises(ValueError, match=r"TRUSTED_ISSUERS|mapping"):
        issuers.check()


@pytest.mark.parametrize("document", BAD_PROVIDERS.values(), ids=BAD_PROVIDERS)
def test_a_wrong_list_of_providers_stops_the_process(configured, document):
    configured("OIDC_PROVIDERS", document)

    with pytest.raises(ValueError, match="OIDC_PROVIDERS"):
        issuers.check()


def test_the_right_lists(configured):
    configured(
        "OIDC_PROVIDERS", {"work": {**CLIENTS, "scopes": "openid email", "trusted_email_domains": ["A.Example"]}}
    )
    configured("TRUSTED_ISSUERS", {"https://issuer.example": {**GOOD, "required_scope": "one two"}})

    assert issuers.providers()["work"].scopes == ("openid", "email")
    assert issuers.providers()["work"].trusted_email_domains == {"a.example"}
    assert issuers.trusted()["https://issuer.example"].required_scope == {"one", "two"}
    assert issuers.trusted()["https://issuer.example"].satisfies_step_up is False


def test_a_list_may_stand_in_the_setting_itself(configured, monkeypatch):
    """Where there are no files."""
    configured("TRUSTED_ISSUERS", {})
    monkeypatch.setenv("OIDC_PROVIDERS", yaml.safe_dump({"work": CLIENTS}))
    monkeypatch.setenv("TRUSTED_ISSUERS", yaml.safe_dump({"https://issuer.example": GOOD}))

    assert issuers.providers().keys() == {"work"}
    assert issuers.trusted().keys() == {"https://issuer.example"}


def test_nothing_is_trusted_unless_configured(configured):
    assert issuers.providers() == {}
    assert issuers.trusted() == {}
    assert issuers.outsider("a.b.c") is None
