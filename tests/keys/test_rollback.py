"""Back to an earlier version: what an operator does when a new key turns out to be bad."""

import json

import jwt
import pytest
from google.api_core import exceptions

from functions.keys import rollback
from local.layout import PROJECT
from local.secrets_store import ENABLED
from tests.auth.support import PASSWORD, bearer, log_in, refused
from tests.conftest import wait_until
from tests.keys.conftest import SETTLE

JWT, VERIFY = "jwt-keyring", "jwt-verify-keyring"


@pytest.fixture
def nora(people):
    return people.create("owner", password=PASSWORD)


@pytest.fixture
def back(client):
    """The operator's command."""
    return lambda *arguments: rollback.main(["--project", PROJECT, *map(str, arguments)], client=client("engineer"))


def kid_of(tokens):
    return jwt.get_unverified_header(tokens["access_token"])["kid"]


def signed_by(api, nora, kid):
    def signed():
        answer = log_in(api, nora.email, PASSWORD).json
        return answer if kid_of(answer) == kid else None

    return wait_until(signed, 10, "a token by that key")


def turned(safe, api, nora):
    """A new key signs. The version before it was added, the old key and the new one."""
    safe.rotate(JWT)
    wait_until(lambda: safe.end(JWT, 3600) == [] and len(safe.ring(JWT)["keys"]) == 1, 10, "what other tests have left")
    version, old = safe.versions(JWT)[-1].version, safe.ring(JWT)["active"]
    return version, old, safe.turn(JWT)


def test_tokens_that_were_signed_meanwhile_still_verify(safe, api, nora, back):
    version, old, new = turned(safe, api, nora)
    meanwhile = signed_by(api, nora, new)

    assert back(JWT, version) == 0

    before = signed_by(api, nora, old)
    for each in (meanwhile, before):
        assert api.get("/v1/projects", headers=bearer(each)).status_code == 200
    assert safe.ring(JWT)["active"] == old
    assert "retired" in safe.end(JWT, 3600 + SETTLE)
    for ring in (safe.ring(JWT), safe.ring(VERIFY)):
        assert old in ring["keys"]
        assert new not in ring["keys"]


def test_a_key_that_is_known_to_others_is_thrown_away(safe, api, nora, back):
    version, old, new = turned(safe, api, nora)
    meanwhile = signed_by(api, nora, new)

    assert back("--without", new, JWT, version) == 0

    assert new not in safe.ring(JWT)["keys"]
    assert new not in safe.ring(VERIFY)["keys"]
    wait_until(lambda: api.get("/v1/projects", headers=bearer(meanwhile)).status_code == 401, 10, "the refusal")
    assert refused(api.get("/v1/projects", headers=bearer(meanwhile)), 401, "invalid_token")
    signed_by(api, nora, old)
    refreshed = api.post("/v1/auth/refresh", json={"refresh_token": meanwhile["refresh_token"]})
    assert (refreshed.status_code, kid_of(refreshed.json)) == (200, old)
    assert safe.call().status_code == 200
    enabled = {each.version: json.loads(each.payload)["keys"] for each in safe.versions(JWT) if each.state == ENABLED}
    assert version in enabled
    assert not any(new in keys for keys in enabled.values())


def test_a_retired_key_never_comes_back(safe, back, capsys):
    safe.call()
    version = safe.versions("mail-key")[-1].version
    safe.turn("mail-key")
    safe.end("mail-key", 100 * 86_400)

    with pytest.raises(exceptions.FailedPrecondition):
        back("mail-key", version)
    safe.put("mail-key", {"active": "stranger", "keys": {"stranger": {"algorithm": "HS256", "key": "A" * 43}}})
    stranger = safe.versions("mail-key")[-1].version
    safe.store.add("mail-key", safe.store.version("mail-key", stranger - 1).payload)
    assert back("mail-key", stranger) == 1
    assert "cannot sign again" in capsys.readouterr().err


def test_the_plain_way_back_forgets_what_came_since(safe, api, nora, client):
    """Version N as it was, added again: tokens by newer keys are refused, and a log-in is refreshed with one of N."""
    version, old, new = turned(safe, api, nora)
    meanwhile = signed_by(api, nora, new)
    operator, path = client("engineer"), f"projects/{PROJECT}/secrets"
    earlier = operator.access_secret_version(name=f"{path}/{JWT}/versions/{version}").payload.data
    operator.add_secret_version(parent=f"{path}/{VERIFY}", payload={"data": earlier})
    operator.add_secret_version(parent=f"{path}/{JWT}", payload={"data": earlier})

    assert api.get("/v1/projects", headers=bearer(signed_by(api, nora, old))).status_code == 200
    wait_until(lambda: api.get("/v1/projects", headers=bearer(meanwhile)).status_code == 401, 10, "the refusal")
    assert safe.call().status_code == 200
    assert json.loads(earlier)["active"] == safe.ring(JWT)["active"]


def test_somebody_else_was_faster(safe, client):
    from functions.keys.vault import Overtaken, Vault

    vault = Vault(client("engineer"), PROJECT)
    number, ring = vault.newest("mfa-key")
    vault.add("mfa-key", ring, number)
    with pytest.raises(Overtaken):
        vault.add("mfa-key", ring, number)
