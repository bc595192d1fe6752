"""The JWT that a caller brings, the context token that the database checks, the MACs behind mailed links."""

import base64
import hashlib
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

from common import errors, jws, secrets
from common.settings import settings

SIGNING_RING = "jwt-keyring"  # auth alone may read it
VERIFYING_RING = "jwt-verify-keyring"  # of RS256 keys the public halves only
ACCESS_TYPE = "at+jwt"  # RFC 9068
ACCESS_TYPES = (ACCESS_TYPE, f"application/{ACCESS_TYPE}")
TIMES = ("iat", "nbf", "exp", "auth_time")
LATEST = 2**53  # beyond it JSON numbers are no longer whole everywhere (RFC 8259, section 6)
LEEWAY_SECONDS = 5
CONTEXT_SECONDS = 4
MOST_VERIFIED = 4096  # tokens that a process remembers
# Digest of a token → the ring that it was verified with, and its claims. While that ring is the present one, only the
# times are looked at again.
_verified: dict[bytes, tuple[secrets.Ring, dict[str, Any]]] = {}
_remembering = threading.Lock()


@dataclass(frozen=True)
class Claim:
    """Who works in a transaction: kind `u` user, `k` API key, `s` system job; ids empty where there is none."""

    kind: str
    tenant_id: str = ""
    principal_id: str = ""
    login_session_id: str = ""


def context_token(claim: Claim, backend_pid: int) -> str:
    """v1.kid.kind.tenant.principal.login session.pid.expiry.mac, signed with this service's own key."""
    key = secrets.ring(f"context-key-{database_role()}").signer
    body = (
        f"v1.{key.kid}.{claim.kind}.{claim.tenant_id}.{claim.principal_id}.{claim.login_session_id}"
        f".{backend_pid}.{int(time.time()) + CONTEXT_SECONDS}"
    )
    return f"{body}.{key.mac(body.encode()).hex()}"


def database_role() -> str:
    """The role of this service: its catalog name as an identifier."""
    return settings().service.replace("-", "_") + "_fn"


def new_access_token(
    *, account_id: str, tenant_id: str, login_session_id: str, amr: list[str], auth_time: int
) -> tuple[str, int]:
    """A signed access token (RFC 9068) and its lifetime in seconds."""
    import jwt  # noqa: PLC0415 - 30 ms of cryptography, which most services do without

    now, lifetime = int(time.time()), settings().access_token_seconds
    key = secrets.ring(SIGNING_RING).signer
    claims = {
        "iss": settings().public_url,
        "aud": settings().public_url,
        "sub": account_id,
        "account_id": account_id,
        "tenant_id": tenant_id,
        "client_id": "first-party",
        "sid": login_session_id,
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
        "jti": str(uuid.uuid4()),
        "amr": amr,
        "auth_time": auth_time,
    }
    secret = key.secret or b""
    return jwt.encode(claims, secret, key.algorithm, headers={"typ": ACCESS_TYPE, "kid": key.kid}), lifetime


def read_access_token(token: str) -> dict[str, Any]:
    """The verified claims of an access token (RFC 9068, section 4). Raises 401."""
    ring = secrets.ring(VERIFYING_RING)
    name = digest(token)
    known = _verified.get(name)
    try:
        if known is None or known[0] is not ring:
            known = ring, _read(token, ring)
            with _remembering:
                if len(_verified) >= MOST_VERIFIED:
                    del _verified[next(iter(_verified))]
                _verified[name] = known
        _check_times(known[1], time.time())
    except (jws.Refused, KeyError, ValueError, TypeError, AttributeError) as error:
        raise errors.unauthenticated("The access token is not valid.") from error
    return known[1]


def _read(token: str, ring: secrets.Ring) -> dict[str, Any]:
    """Raises 401, and as `_check` does."""
    header, claims = jws.read(token, ring.keys.__getitem__)
    if str(header.get("typ")).lower() not in ACCESS_TYPES:
        raise errors.unauthenticated("This is not an access token.")
    _check(claims)
    return claims


def _check(claims: dict[str, Any]) -> None:
    """Issued by us, for us, to somebody. Raises jws.Refused, or KeyError for a claim that is not there."""
    audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if claims["iss"] != settings().public_url or settings().public_url not in audience:
        raise jws.Refused("another issuer or audience")
    if any(type(claims[name]) is not int or not 0 <= claims[name] < LATEST for name in TIMES):
        raise jws.Refused("a time is not a whole number of seconds")
    if any(str(uuid.UUID(claims[name])) != claims[name] for name in ("sub", "sid", "tenant_id")):
        raise jws.Refused("an id is not a UUID in canonical text")
    if not all(isinstance(claims.get(name, ""), str) for name in ("jti", "client_id")):
        raise jws.Refused("a name is not a string")
    methods = claims.get("amr", [])
    if not isinstance(methods, list) or not all(isinstance(method, str) for method in methods):
        raise jws.Refused("amr is not a list of names")


def _check_times(claims: dict[str, Any], now: float) -> None:
    """Raises jws.Refused."""
    began = max(claims["iat"], claims["nbf"], claims["auth_time"])
    if not began - LEEWAY_SECONDS <= now < claims["exp"] + LEEWAY_SECONDS:
        raise jws.Refused("expired, or not valid yet")


def mac(ring: str, purpose: str, *parts: str) -> str:
    """A URL-safe MAC under the active key of a ring: the secret part of a mailed link, never stored."""
    return _mac(secrets.ring(ring).signer, purpose, parts)


def macs(ring: str, purpose: str, *parts: str) -> list[str]:
    """The same MAC under each key of the ring: one of them was the active one when the link was promised."""
    return [_mac(key, purpose, parts) for key in secrets.ring(ring).keys.values()]


def _mac(key: secrets.Key, purpose: str, parts: tuple[str, ...]) -> str:
    message = "\x1f".join([purpose, *parts]).encode()
    return base64.urlsafe_b64encode(key.mac(message)).rstrip(b"=").decode()


def digest(token: str) -> bytes:
    """What the database knows of a secret token: its SHA-256. A fast hash is right for 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
