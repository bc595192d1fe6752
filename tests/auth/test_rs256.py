"""JWT_ALGORITHM=RS256: anybody can verify, and only the private key can sign."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path

import jwt
import pytest

from functions.keys import rings
from local.secrets_store import SecretStore
from tests.auth.support import bearer, refused, sign_up
from tests.conftest import running_stack, wait_until


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """A stack of its own, in the place of the shared one."""
    settings = {"JWT_ALGORITHM": "RS256", "SECRETS_CACHE_SECONDS": "1"}
    with running_stack(tmp_path_factory.mktemp("rs256"), only=["auth"], **settings) as running:
        yield running


@pytest.fixture
def tokens(api, inbox):
    return sign_up(api, inbox)[1]


def test_the_published_key_verifies_our_tokens(stack, api, tokens):
    published = api.get("/.well-known/jwks.json").json["keys"]
    header = jwt.get_unverified_header(tokens["access_token"])

    assert (header["alg"], header["kid"]) == ("RS256", published[-1]["kid"])
    assert set(published[-1]) == {"kty", "kid", "alg", "use", "n", "e"}
    key = jwt.PyJWK(published[-1]).key
    said = jwt.decode(tokens["access_token"], key, algorithms=["RS256"], audience=stack["api"], issuer=stack["api"])
    assert said["tenant_id"] == tokens["organization"]["id"]
    assert api.get("/v1/auth/me", headers=bearer(tokens)).status_code == 200


def test_the_public_key_is_no_shared_secret(stack, api, tokens):
    """The classic confusion: HS256 with the public key's text as the secret."""
    ring = json.loads(Path(stack["jwt_keyring"]).read_text())
    public = ring["keys"][ring["active"]]["public_pem"].encode()
    header = base64.urlsafe_b64encode(
        json.dumps({"alg": "HS256", "typ": "at+jwt", "kid": ring["active"]}).encode()
    ).rstrip(b"=")
    signed = header + b"." + tokens["access_token"].split(".")[1].encode()

    for secret in (public, public.strip()):
        mac = base64.urlsafe_b64encode(hmac.digest(secret, signed, hashlib.sha256)).rstrip(b"=")
        forged = f"{signed.decode()}.{mac.decode()}"
        assert refused(api.get("/v1/auth/me", headers={"Authorization": f"Bearer {forged}"}), 401, "invalid_token")


def test_the_private_key_is_auths_alone(stack):
    mounts = Path(stack["path"]).parent / "mounts"
    holders = {
        file.relative_to(mounts).parts[0]
        for file in mounts.rglob("*")
        if file.is_file() and b"PRIVATE KEY" in file.read_bytes()
    }
    assert holders == {"auth"}
    shown = json.loads((mounts / "projects" / "jwt-verify-keyring" / "latest").read_text())
    assert all(set(key) == {"algorithm", "public_pem"} for key in shown["keys"].values())


def test_tokens_of_the_algorithm_before_are_good_until_they_expire(stack, api, tokens):
    """What a stack keeps that ran HS256 yesterday: its key verifies, is never published, and signs nothing new."""
    store = SecretStore(Path(stack["path"]).parent)
    before = rings.fresh("HS256")
    for id in ("jwt-keyring", "jwt-verify-keyring"):
        ring = json.loads(store.latest(id))
        ring["keys"]["yesterday"] = before
        store.add(id, json.dumps(ring).encode())
    said = jwt.decode(tokens["access_token"], options={"verify_signature": False})
    key = base64.urlsafe_b64decode(before["key"] + "=")
    headers = {"typ": "at+jwt", "kid": "yesterday"}
    old = {"Authorization": f"Bearer {jwt.encode(said, key, 'HS256', headers=headers)}"}

    wait_until(lambda: api.get("/v1/auth/me", headers=old).status_code == 200, 10, "the reading of the ring")

    expired = jwt.encode({**said, "exp": int(time.time()) - 10}, key, "HS256", headers=headers)
    assert refused(api.get("/v1/auth/me", headers={"Authorization": f"Bearer {expired}"}), 401, "invalid_token")
    published = api.get("/.well-known/jwks.json").json["keys"]
    assert [each["alg"] for each in published] == ["RS256"]
