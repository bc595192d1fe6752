"""What the tests of the token reader share: rings, and tokens that are put together by hand."""

import base64
import hmac
import json
import time
import uuid

import pytest

from common import errors, tokens
from functions.keys import rings

API = "https://api.example"
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # pragma: allowlist secret
RINGS = {"s": rings.fresh("HS256"), "r": rings.fresh("RS256"), "other": rings.fresh("RS256")}


def encoded(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def shared():
    return base64.urlsafe_b64decode(RINGS["s"]["key"] + "=")


def said(**changes):
    """The claims of a good token, changed; None takes one away."""
    now = int(time.time())
    ids = {name: str(uuid.uuid4()) for name in ("sub", "sid", "tenant_id", "jti")}
    times = {"iat": now, "nbf": now, "exp": now + 3600, "auth_time": now}
    claims = {"iss": API, "aud": API, "client_id": "first-party", "amr": ["pwd"], **ids, **times}
    return {name: value for name, value in {**claims, "account_id": ids["sub"], **changes}.items() if value is not None}


def headed(**changes):
    """The header of a good token, changed; None takes a member away."""
    header = {"alg": "HS256", "kid": "s", "typ": "at+jwt", **changes}
    return {name: value for name, value in header.items() if value is not None}


def signed(header, payload, key=None):
    """HS256 by hand, over whatever is given: bytes, or anything that JSON can say."""
    message = f"{encoded(header)}.{encoded(payload)}"
    return f"{message}.{encoded(hmac.digest(key or shared(), message.encode(), 'sha256'))}"


def accepted(token):
    return tokens.read_access_token(token)


def refused(token):
    with pytest.raises(errors.Problem) as refusal:
        tokens.read_access_token(token)
    assert (refusal.value.status, refusal.value.code) == (401, "invalid_token")
    assert refusal.value.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    return True
