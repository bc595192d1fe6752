"""Whom else we trust, from two YAML files: providers to log in with, and issuers whose bearer tokens we accept.

OIDC_PROVIDERS: {name: {issuer, client_id, client_secret?, scopes?, trusted_email_domains?}}
TRUSTED_ISSUERS: {issuer: {audience, jwks_uri, required_scope, satisfies_step_up?}}
"""

import re
import time
import uuid
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from common import errors, jws
from common.db import database
from common.fetching import Unreachable, is_safe
from common.settings import document, settings
from common.tokens import LEEWAY_SECONDS, Claim

if TYPE_CHECKING:
    from common.jwks import KeySet

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
LONGEST_SUBJECT = 255
ID_TOKEN_CLAIMS = ("nonce", "at_hash", "c_hash", "s_hash")
ACCESS_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")


@dataclass(frozen=True)
class Provider:
    """A provider to log in with. `client_secret` names a secret, "" for a public client."""

    name: str
    issuer: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...]
    trusted_email_domains: frozenset[str]


@dataclass(frozen=True)
class Issuer:
    """An issuer whose access tokens we accept."""

    issuer: str
    audience: str
    required_scope: frozenset[str]
    satisfies_step_up: bool
    keys: "KeySet"


@dataclass(frozen=True)
class Outsider:
    """Whom a token of a trusted issuer means; `auth_time` is 0 where it may not stand for a fresh proof."""

    account_id: str
    tenant_id: str
    federated_identity_id: str
    auth_time: int
    expires_at: int


@cache
def providers() -> dict[str, Provider]:
    """The configured providers by name. Raises ValueError for a file that is not as it should be."""
    return {name: _provider(name, entry) for name, entry in _file(settings().oidc_providers).items()}


@cache
def trusted() -> dict[str, Issuer]:
    """The trusted issuers. Raises ValueError for a file that is not as it should be."""
    return {issuer: _issuer(issuer, entry) for issuer, entry in _file(settings().trusted_issuers).items()}


def check() -> None:
    """Read both files, so that a wrong one stops the process when it starts. Raises ValueError."""
    providers()
    trusted()


def outsider(token: str) -> Outsider | None:
    """Whom a token of a trusted issuer means, None for a token that none of them claims to have made.

    Raises 401 for a token that is not good, 503 when there are no keys to check it with.
    """
    issuer = _named(token) if trusted() else None
    if issuer is None:
        return None
    import jwt  # noqa: PLC0415 - 30 ms of cryptography, which most requests do without

    try:
        claims = _verified(issuer, token)
        tenant_id = _tenant(claims)
    except Unreachable as error:
        raise errors.Problem("unavailable", headers={"Retry-After": "5"}) from error
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise errors.unauthenticated("The access token is not valid.") from error
    linked = database().single(
        Claim("u"),
        "SELECT * FROM identity.federated_account(:issuer, :subject)",
        issuer=issuer.issuer,
        subject=claims["sub"],
    )
    if not linked:
        raise errors.unauthenticated("The access token belongs to nobody here.")
    return Outsider(str(linked[0][1]), tenant_id, str(linked[0][0]), _auth_time(issuer, claims), int(claims["exp"]))


def _named(token: str) -> Issuer | None:
    """The trusted issuer that a token names; nothing is proven yet."""
    try:
        _, claims = jws.peek(token)
    except jws.Refused:
        return None
    name = claims.get("iss")
    return trusted().get(name) if isinstance(name, str) else None


def _verified(issuer: Issuer, token: str) -> dict[str, Any]:
    """The claims of an access token of this issuer. Raises jwt.PyJWTError, Unreachable."""
    import jwt  # noqa: PLC0415

    header = jwt.get_unverified_header(token)
    kind = header.get("typ")
    if (kind.lower() if isinstance(kind, str) else kind) not in ACCESS_TYPES or "crit" in header:
        raise jwt.InvalidTokenError("not an access token")
    key, algorithm = issuer.keys.key(header, ("RS256",))
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=[algorithm],
        audience=issuer.audience,
        issuer=issuer.issuer,
        leeway=LEEWAY_SECONDS,
        options={"require": ["iss", "sub", "aud", "exp"]},
    )
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    clients = {provider.client_id for provider in providers().values()}
    if any(name in claims for name in ID_TOKEN_CLAIMS) or clients.intersection(audiences):
        raise jwt.InvalidTokenError("an ID token is no access token")
    if not issuer.required_scope <= _scopes(claims):
        raise jwt.InvalidTokenError("a scope is missing")
    if not 0 < len(claims["sub"]) <= LONGEST_SUBJECT or "\x00" in claims["sub"]:
        raise jwt.InvalidTokenError("not a subject")
    return claims


def _scopes(claims: dict[str, Any]) -> frozenset[str]:
    """The granted scopes: `scope` (RFC 9068) or the list `scp`."""
    scope, scp = claims.get("scope"), claims.get("scp")
    named = scope.split(" ") if isinstance(scope, str) else []
    listed = [each for each in scp if isinstance(each, str)] if isinstance(scp, list) else []
    return frozenset([*named, *listed])


def _tenant(claims: dict[str, Any]) -> str:
    """The claim `tenant_id`, or that of `ext`, where Ory Hydra puts what a log-in adds. Raises KeyError, ValueError."""
    tenant_id = claims["tenant_id"] if "tenant_id" in claims else claims["ext"]["tenant_id"]
    if str(uuid.UUID(tenant_id)) != tenant_id:
        raise ValueError("not a UUID in canonical text")
    return str(tenant_id)


def _auth_time(issuer: Issuer, claims: dict[str, Any]) -> int:
    given = claims.get("auth_time")
    believed = issuer.satisfies_step_up and type(given) is int and 0 < given <= time.time() + LEEWAY_SECONDS
    return given if believed and isinstance(given, int) else 0


def _file(value: str) -> dict[str, Any]:
    """The mapping that a setting names or is; none without."""
    known = document(value)
    if known is None:
        return {}
    if not isinstance(known, dict) or not all(isinstance(entry, dict) for entry in known.values()):
        raise ValueError("OIDC_PROVIDERS or TRUSTED_ISSUERS is not a mapping of mappings")
    return known


def _provider(name: str, entry: dict[str, Any]) -> Provider:
    known = _Entry(f"OIDC_PROVIDERS {name}", entry)
    scopes = known.words("scopes", "openid email profile")
    if not isinstance(name, str) or not NAME.fullmatch(name) or "openid" not in scopes:
        raise ValueError(f"OIDC_PROVIDERS {name}: the name must match {NAME.pattern}, the scopes must have openid")
    domains = frozenset(domain.lower() for domain in known.words("trusted_email_domains", ""))
    issuer, client_id = known.url("issuer"), known.text("client_id")
    provider = Provider(name, issuer, client_id, known.text("client_secret", ""), scopes, domains)
    known.finish()
    return provider


def _issuer(issuer: str, entry: dict[str, Any]) -> Issuer:
    from common.jwks import KeySet  # noqa: PLC0415 - PyJWT, for who trusts somebody

    known = _Entry(f"TRUSTED_ISSUERS {issuer}", {**entry, "issuer": issuer})
    known.url("issuer")
    scope = frozenset(known.words("required_scope", ""))
    step_up = known.taken("satisfies_step_up", default=False)
    if not scope or not isinstance(step_up, bool) or issuer == settings().public_url:
        raise ValueError(f"{known.name}: required_scope is missing, satisfies_step_up is no boolean, or it is our own")
    found = Issuer(issuer, known.text("audience"), scope, step_up, KeySet(known.url("jwks_uri")))
    known.finish()
    return found


class _Entry:
    """One entry of a file, read key by key: none may be left over."""

    def __init__(self, name: str, entry: dict[str, Any]) -> None:
        self.name, self._left = name, dict(entry)

    def taken(self, key: str, default: Any = None) -> Any:
        """A value of any kind."""
        return self._left.pop(key, default)

    def text(self, key: str, default: str | None = None) -> str:
        """A text that is not empty unless its default is."""
        value = self.taken(key, default)
        if not isinstance(value, str) or not (value or default == ""):
            raise ValueError(f"{self.name}: {key} is missing or no text")
        return value

    def url(self, key: str) -> str:
        """An address: https, or http on loopback."""
        value = self.text(key)
        if not is_safe(value) or "?" in value:
            raise ValueError(f"{self.name}: {key} is not an https address")
        return value

    def words(self, key: str, default: str) -> tuple[str, ...]:
        """A list of texts, or one text with spaces between."""
        value = self.taken(key, default)
        words = value.split() if isinstance(value, str) else value
        if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
            raise ValueError(f"{self.name}: {key} is not a list of texts")
        return tuple(words)

    def finish(self) -> None:
        """Raise ValueError for a key that nobody knows."""
        if self._left:
            raise ValueError(f"{self.name}: unknown {', '.join(sorted(map(str, self._left)))}")
