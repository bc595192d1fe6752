"""The key decides: its algorithm and its strength. Nothing that the token says of them counts.

RFC 8725: JWT best practices. RFC 9068: access tokens. The section that a test is about stands in its first line.
"""

import base64
import hashlib
import hmac
import json
import time
import uuid
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import RSAAlgorithm

from common import jws, secrets, tokens
from common.settings import settings
from functions.keys import rings
from tests.jwt.tools import RINGS, accepted, encoded, headed, refused, said, shared, signed


def test_good_ones_of_both_algorithms_are_read():
    claims = said()
    assert accepted(signed(headed(), claims)) == claims
    for kid in ("r", "other"):
        token = jwt.encode(claims, RINGS[kid]["private_pem"], "RS256", headers={"kid": kid, "typ": "at+jwt"})
        assert accepted(token) == claims


def test_our_own_carry_what_an_access_token_has_to():
    """RFC 9068, sections 2.1 and 2.2: RS256 is supported; typ; iss, exp, aud, sub, client_id, iat, jti."""
    ids = {name: str(uuid.uuid4()) for name in ("account_id", "tenant_id", "login_session_id")}
    token, lifetime = tokens.new_access_token(**ids, amr=["pwd"], auth_time=int(time.time()))
    assert jwt.get_unverified_header(token) == {"alg": "RS256", "kid": "r", "typ": "at+jwt"}
    claims = accepted(token)
    assert {"iss", "exp", "aud", "sub", "client_id", "iat", "jti", "auth_time", "amr"} <= claims.keys()
    assert claims["exp"] - claims["iat"] == lifetime == 3600
    assert not {"role", "roles", "permissions", "scope", "groups", "entitlements", "email"} & claims.keys()


@pytest.mark.parametrize(
    "name", ["none", "None", "NONE", "nOnE", "", None, "HS384", "HS512", "RS512", "PS256", "ES256"]
)
def test_the_algorithm_is_the_keys(name):
    """RFC 8725, section 3.1: what the header says is compared with the key's algorithm, and selects nothing."""
    for kid in ("s", "r"):
        message = f"{encoded(headed(alg=name, kid=kid))}.{encoded(said())}"
        function = hashlib.sha512 if name and name.endswith("512") else hashlib.sha256
        assert refused(f"{message}.{encoded(hmac.digest(shared(), message.encode(), function))}")
        assert refused(f"{message}.")
        assert refused(message)


def forms_of(pem):
    """A public key as the texts and bytes that an attacker can make of it."""
    body = "".join(line for line in pem.splitlines() if "-" not in line)
    numbers = RSAAlgorithm.to_jwk(RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(pem))
    return [pem.encode(), pem.strip().encode(), body.encode(), base64.b64decode(body), numbers.encode()]


def test_a_public_key_is_no_shared_secret():
    """RFC 8725, section 2.1: HS256 by the public RSA key in any form, under its kid or another's."""
    for secret in forms_of(RINGS["r"]["public_pem"]):
        for header in (headed(kid="r"), headed(kid="r", alg="RS256"), headed()):
            assert refused(signed(header, said(), secret))


def test_an_rsa_signature_under_another_keys_id():
    """RFC 8725, sections 2.1 and 3.1: the other way round, and the right kind of key under another one's id."""
    for kid, private in (("s", "r"), ("r", "other"), ("other", "r")):
        token = jwt.encode(said(), RINGS[private]["private_pem"], "RS256", headers={"kid": kid, "typ": "at+jwt"})
        assert refused(token)


@pytest.mark.parametrize("algorithm", ["none", "HS384", "RS1", "ES256K", ""])
def test_only_algorithms_that_are_sound(algorithm):
    """RFC 8725, section 3.2: a ring with any other algorithm cannot even be loaded."""
    with pytest.raises(ValueError, match="unknown algorithm"):
        secrets._key("x", {"algorithm": algorithm, "key": RINGS["s"]["key"]})


def test_every_operation_is_validated():
    """RFC 8725, section 3.3: one wrong part refuses the whole token, whatever the others are worth."""
    for header, payload in ((headed(), said(exp=1)), (headed(typ="JWT"), said()), (headed(kid="x"), said())):
        assert refused(signed(header, payload))
    assert refused(signed(headed(), said(), b"another key of thirty-two bytes!"))


def test_a_weak_or_foreign_public_key_verifies_nothing():
    """RFC 8725, section 3.4 (inputs of the cryptography are validated); RFC 7518, section 3.3 (2048 bits or more)."""
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it has to be refused
    for key in (short, ec.generate_private_key(ec.SECP256R1())):
        pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        with pytest.raises(jws.Refused):
            jws._public_key(pem)
    with pytest.raises(ValueError, match="PEM"):
        jws._public_key(b"no key at all")


@pytest.mark.parametrize("length", [0, 1, 16, 31])
def test_keys_have_entropy(length):
    """RFC 8725, section 3.5; RFC 7518, section 3.2: a shared key has 256 bits or more; ours are random."""
    short = base64.urlsafe_b64encode(b"x" * length).rstrip(b"=").decode()
    with pytest.raises(ValueError, match="too short"):
        secrets._key("x", {"algorithm": "HS256", "key": short})
    assert len(base64.urlsafe_b64decode(rings.fresh("HS256")["key"] + "=")) == 32


def test_a_ring_without_private_keys_verifies_and_cannot_sign():
    """RFC 9068, section 5, and ARCHITECTURE: of an RSA key, who verifies holds the public half only."""
    key = secrets.ring(tokens.VERIFYING_RING).keys["r"]
    assert key.secret is None
    assert "PRIVATE" not in json.dumps(rings.verifying({"active": "r", "keys": RINGS}))


def test_a_token_that_was_verified_is_worth_no_more_than_its_key():
    claims = said()
    token = signed(headed(), claims)
    assert accepted(token) == claims
    file = Path(settings().secrets_dir, tokens.VERIFYING_RING)
    before, without = file.read_text(), {kid: key for kid, key in RINGS.items() if kid != "s"}
    file.write_text(json.dumps(rings.verifying({"active": "r", "keys": without})))
    secrets._seen.clear()
    try:
        assert refused(token)
    finally:
        file.write_text(before)
        secrets._seen.clear()
    assert accepted(token) == claims
    assert refused(token[:-1] + ("A" if token[-1] != "A" else "B")), "nor is one that looks like it"


def test_a_token_that_was_verified_ends_when_it_says(monkeypatch):
    now = int(time.time())
    token = signed(headed(), said(exp=now + 60))
    assert accepted(token)
    monkeypatch.setattr(tokens.time, "time", lambda: now + 60 + tokens.LEEWAY_SECONDS)
    assert refused(token)
    monkeypatch.setattr(tokens.time, "time", lambda: now - tokens.LEEWAY_SECONDS - 1)
    assert refused(token)


def test_so_many_tokens_are_remembered_and_no_more(monkeypatch):
    monkeypatch.setattr(tokens, "MOST_VERIFIED", 3)
    tokens._verified.clear()
    many = [signed(headed(), said()) for _ in range(5)]
    for token in many:
        assert accepted(token)
        assert len(tokens._verified) <= 3
    assert [tokens.digest(token) in tokens._verified for token in many] == [False, False, True, True, True]
    assert accepted(many[0])
