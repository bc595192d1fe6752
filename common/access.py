"""Who is calling: a verified token becomes a Caller, a Google-signed identity token a service account."""

import hmac
import json
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from werkzeug.wrappers import Request

from common import apikeys, cookies, errors, issuers, log, secrets, tokens
from common.settings import settings
from common.tokens import Claim

PUBLIC = "public"
SIGNED_IN = "signed-in"
SERVICE = "service:"
SIGNATURE_REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"


@dataclass
class Caller:
    """The person behind a request; `permissions` are what the database said in this very transaction.

    Of an API key (`api_key` is its hash) the database tells the organization and the maker.
    """

    user_id: str
    tenant_id: str
    login_session_id: str
    auth_time: int
    amr: list[str]
    role: str | None = None
    permissions: frozenset[str] = field(default_factory=frozenset)
    api_key: str | None = None
    by_cookie: bool = False
    outside: bool = False  # a token of a trusted issuer: the federated identity stands in the login session's place
    expires_at: int | None = None  # of the access token, in Unix seconds; None for an API key

    @property
    def claim(self) -> Claim:
        """What the transaction is sealed for."""
        if self.api_key:
            return Claim("k", login_session_id=self.api_key)
        return Claim("u", self.tenant_id, self.user_id, self.login_session_id)

    @property
    def fresh(self) -> bool:
        """Whether the last proof of identity is recent enough for a sensitive act."""
        return time.time() - self.auth_time <= settings().step_up_seconds


def step_up_needed() -> errors.Problem:
    """403 with the challenge of RFC 9470: the proof of identity is too old for this act."""
    return errors.Problem(
        "step_up_required",
        "Prove your identity again at POST /v1/auth/step-up.",
        headers={
            "WWW-Authenticate": 'Bearer error="insufficient_user_authentication", '
            f'max_age="{settings().step_up_seconds}"'
        },
    )


def check_edge(request: Request) -> None:
    """403 for a request that did not come through our own load balancer; a key that is not ours raises an alert."""
    given = request.headers.get("X-Edge-Key", "")
    expected = secrets.read("edge-key").split()  # two lines while it changes
    if not any(hmac.compare_digest(given.encode(), each) for each in expected):
        if given:
            log.security("WARNING", "a wrong edge key was shown")
        raise errors.Problem("forbidden", "This service is reached through its public address.")


def bearer(request: Request) -> str | None:
    """The caller's bearer credential, from the one header that she has it in here: the gateway moves it to another."""
    header = request.headers.get(settings().bearer_header)
    if header is None:
        return None
    if "," in header:
        raise errors.Problem("malformed_request", "Send one Authorization header.")
    scheme, _, credential = header.partition(" ")
    if scheme.lower() != "bearer" or not credential.strip():
        raise errors.unauthenticated("The Authorization header must be `Bearer` and a token.", error="invalid_request")
    return credential.strip()


def authenticate(request: Request) -> Caller:
    """The caller by the access token or API key, or by the access token in its cookie. Raises 401."""
    credential = bearer(request)
    by_cookie = credential is None
    if credential is None:
        credential = cookies.received(request, cookies.ACCESS)
    if credential is None:
        raise errors.unauthenticated("Send an access token.")
    if credential.startswith(apikeys.MARK) and not by_cookie:
        return Caller("", "", "", 0, [], api_key=apikeys.key_hash(credential))
    outsider = None if by_cookie else issuers.outsider(credential)
    if outsider is not None:
        who, amr = (outsider.account_id, outsider.tenant_id, outsider.federated_identity_id), ["fed"]
        return Caller(*who, outsider.auth_time, amr, outside=True, expires_at=outsider.expires_at)
    claims = tokens.read_access_token(credential)
    return Caller(
        claims["sub"],
        claims["tenant_id"],
        claims["sid"],
        int(claims["auth_time"]),
        list(claims.get("amr", [])),
        by_cookie=by_cookie,
        expires_at=claims["exp"],
    )


def attempt(request: Request) -> tuple[Caller | None, errors.Problem | None]:
    """The caller, or why there is none."""
    try:
        return authenticate(request), None
    except errors.Problem as problem:
        return None, problem


def check_service(request: Request, name: str) -> None:
    """Only the account `name` (tasks, workflows, scheduler, alerts) passes, by its identity token for this service."""
    accounts = {
        "tasks": settings().tasks_account,
        "workflows": settings().workflows_account,
        "scheduler": settings().scheduler_account,
        "alerts": settings().alerts_account,
    }
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise errors.unauthenticated("Send an identity token.")
    claims = _platform_claims(token) if settings().platform_checks_identity else _verified_claims(token)
    expected = accounts[name]
    email = str(claims.get("email", ""))
    if not expected or not hmac.compare_digest(email.encode(), expected.encode()) or not claims.get("email_verified"):
        raise errors.Problem("forbidden", "This service account may not call here.")


def _verified_claims(token: str) -> dict[str, Any]:
    import jwt  # noqa: PLC0415 - 30 ms of cryptography, which most requests do without

    try:
        key = _google_keys().get_signing_key_from_jwt(token).key
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["RS256"],
            audience=settings().service_url,
            issuer=settings().identity_issuer,
            leeway=tokens.LEEWAY_SECONDS,
            options={"require": ["iss", "aud", "exp", "email"]},
        )
    except jwt.PyJWTError as error:
        raise errors.unauthenticated("The identity token is not valid.") from error
    return claims


def _platform_claims(token: str) -> dict[str, Any]:
    """Cloud Run has verified the token and put a marker in the place of its signature; nothing else is accepted.

    Source: https://cloud.google.com/run/docs/authenticating/service-to-service
    """
    try:
        _, payload, signature = token.split(".")
        claims: dict[str, Any] = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        known = (
            signature == SIGNATURE_REMOVED
            and claims["iss"] == settings().identity_issuer
            and claims["aud"] == settings().service_url
            and float(claims["exp"]) > time.time()
        )
    except (ValueError, KeyError, TypeError) as error:
        raise errors.unauthenticated("The identity token is not valid.") from error
    if not known:
        raise errors.unauthenticated("The identity token is not valid.")
    return claims


@cache
def _google_keys() -> Any:
    import jwt  # noqa: PLC0415

    return jwt.PyJWKClient(settings().identity_jwks_url, cache_keys=True, lifespan=3600, timeout=5)
