"""What a header says: a kid to look up, an algorithm to compare, a type, and nothing else.

RFC 8725: JWT best practices. RFC 9068: access tokens. The section that a test is about stands in its first line.
"""

import hashlib
from typing import Any

import jwt
import pytest
from jwt.algorithms import RSAAlgorithm

from common import jws, secrets, tokens
from tests.jwt.tools import API, RINGS, accepted, encoded, headed, refused, said, shared, signed

INJECTED = [
    "../../../../dev/null",
    "/etc/passwd",
    "s' OR '1'='1",
    "s'; DROP TABLE platform.context_keys; --",
    "s\x00",
    "S",
    " s",
    "s ",
    "",
    "active",
    "keys",
    "__class__",
    "unknown",
    "x" * 600,
    None,
    0,
    1.5,
    True,
    [],
    ["s"],
    {"s": 1},
]
STRANGER = RSAAlgorithm.to_jwk(
    RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(RINGS["other"]["public_pem"]),
    as_dict=True,
)
MORE = [
    {"jwk": {"kty": "oct", "k": RINGS["s"]["key"]}},
    {"jwk": STRANGER},
    {"jku": "http://127.0.0.1:1/keys"},
    {"x5u": "http://127.0.0.1:1/chain"},
    {"x5c": ["MIIB"]},
    {"x5t": "AAAA"},
    {"x5t#S256": "AAAA"},
    {"crit": ["exp"]},
    {"crit": []},
    {"crit": ["b64"], "b64": False},
    {"b64": False},
    {"cty": "JWT"},
    {"enc": "A256GCM"},
    {"zip": "DEF"},
    {"iss": API},
    {"p2c": 1_000_000_000},
    {"url": "http://127.0.0.1:1"},
    {"nonce": "x"},
]
OTHER_TYPES: list[Any] = ["JWT", "jwt", "id+jwt", "logout+jwt", "dpop+jwt", "at+jwt ", "at", "application/jwt"]
OTHER_TYPES += ["text/at+jwt", "at+jwt;v=1", "", None, 1, ["at+jwt"], {"at+jwt": 1}]


@pytest.mark.parametrize("kid", INJECTED, ids=repr)
def test_a_kid_is_looked_up_and_nothing_else(kid):
    """RFC 8725, section 3.10: received claims are not trusted; a kid that no key has, has no effect."""
    for key in (shared(), hashlib.sha256(b"").digest(), b"\x00"):
        token = signed(headed(kid=kid), said(), key)
        assert refused(token)
        with pytest.raises(jws.Refused):
            jws.read(token, secrets.ring(tokens.VERIFYING_RING).keys.__getitem__)


@pytest.mark.parametrize("more", MORE, ids="+".join)
def test_a_key_or_an_address_in_the_header_is_not_looked_at(more):
    """RFC 8725, sections 3.6 (zip) and 3.10; RFC 7515, section 4.1.11 (crit); RFC 7797, section 3 (b64)."""
    assert refused(signed(headed(**more), said()))
    if "b64" not in more:
        headers = {"kid": "r", "typ": "at+jwt", **more}
        assert refused(jwt.encode(said(), RINGS["other"]["private_pem"], "RS256", headers=headers))
        assert refused(jwt.encode(said(), RINGS["r"]["private_pem"], "RS256", headers=headers))


def test_an_unencoded_payload_is_not_read():
    """RFC 7797, section 3: with b64 false the payload stands as it is."""
    head = encoded(headed(crit=["b64"], b64=False))
    assert refused(f"{head}.{{}}.{encoded(b'x' * 32)}")


@pytest.mark.parametrize("typ", OTHER_TYPES, ids=repr)
def test_another_type_is_another_thing(typ):
    """RFC 8725, sections 3.11 and 3.12; RFC 9068, section 4: any other typ, such as an ID token's, is refused."""
    assert refused(signed(headed(typ=typ), said()))


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"])
def test_the_two_names_of_the_type(typ):
    """RFC 9068, section 4: `at+jwt` or `application/at+jwt`; media types know no case (RFC 2045, section 5.1)."""
    assert accepted(signed(headed(typ=typ), said()))


def test_an_id_token_is_no_access_token():
    """RFC 8725, section 3.12; RFC 9068, section 5: the same issuer, key and person, and still not for this."""
    for typ in ("JWT", None, "at+jwt"):
        assert refused(signed(headed(typ=typ), said(nonce="n", at_hash="h", aud="client")))
    assert refused(signed(headed(typ="JWT"), said(nonce="n", at_hash="h")))
