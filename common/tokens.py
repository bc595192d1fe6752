"""The JWT that a caller brings, the context token that the database checks, the MACs behind mailed links."""

import base64
import hashlib
import hmac
import time
import uuid
from dataclasses import dataclass
from typing import Any

import jwt

from common import errors, secrets
from common.settings import settings

ACCESS_TYPE = "at+jwt"  # RFC 9068
LEEWAY_SECONDS = 5
CONTEXT_SECONDS = 4


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
    return f"{body}.{hmac.digest(key.secret or b'', body.encode(), 'sha256').hex()}"


def database_role() -> str:
    """The role of this service: its catalog name as an identifier."""
    return settings().service.replace("-", "_") + "_fn"


def new_access_token(
    *, account_id: str, tenant_id: str, login_session_id: str, amr: list[str], auth_time: int
) -> tuple[str, int]:
    """A signed access token (RFC 9068) and its lifetime in seconds."""
    now, lifetime = int(time.time()), settings().access_token_seconds
    key = secrets.ring("jwt-keyring").signer
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
    """The verified claims of an access token. Raises 401: the algorithm is the key's, never the token's (RFC 8725)."""
    try:
        header = jwt.get_unverified_header(token)
        key = secrets.ring("jwt-keyring").keys[header["kid"]]
        if header.get("typ", "").lower() != ACCESS_TYPE:
            raise errors.unauthenticated("This is not an access token.")
        claims: dict[str, Any] = jwt.decode(
            token,
            key.public or key.secret or b"",
            algorithms=[key.algorithm],
            audience=settings().public_url,
            issuer=settings().public_url,
            leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "aud", "sub", "sid", "tenant_id", "iat", "nbf", "exp", "auth_time"]},
        )
        for name in ("sub", "sid", "tenant_id"):
            if str(uuid.UUID(claims[name])) != claims[name]:
                raise errors.unauthenticated("The access token is not valid.")
    except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise errors.unauthenticated("The access token is not valid.") from error
    return claims


def mac(ring: str, purpose: str, *parts: str) -> str:
    """A URL-safe MAC under the active key of a ring: the secret part of a mailed link, never stored."""
    return _mac(secrets.ring(ring).signer, purpose, parts)


def macs(ring: str, purpose: str, *parts: str) -> list[str]:
    """The same MAC under each key of the ring: one of them was the active one when the link was promised."""
    return [_mac(key, purpose, parts) for key in secrets.ring(ring).keys.values()]


def _mac(key: secrets.Key, purpose: str, parts: tuple[str, ...]) -> str:
    message = "\x1f".join([purpose, *parts]).encode()
    return base64.urlsafe_b64encode(hmac.digest(key.secret or b"", message, "sha256")).rstrip(b"=").decode()


def digest(token: str) -> bytes:
    """What the database knows of a secret token: its SHA-256. A fast hash is right for 256 random bits."""
    return hashlib.sha256(token.encode()).digest()
