"""A provider to log in with: what it says of itself, and what its answer proves (OpenID Connect Core 1.0)."""

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from common import addresses, secrets
from common.fetching import Kept, Unreachable, fetch, fetch_object, is_loopback, is_safe, parse_object
from common.issuers import LONGEST_SUBJECT, Provider, providers
from common.jwks import KeySet
from common.settings import settings
from common.tokens import LEEWAY_SECONDS

ALGORITHMS = ("RS256", "ES256")
SKEW_SECONDS = 30  # how far a provider's clock may be from ours
OLDEST_SECONDS = 600  # an ID token that was issued earlier was not made for this log-in
NAME_LENGTH = 255
PROFILE = ("email", "email_verified", "name", "preferred_username")


class Invalid(Exception):
    """The provider's answer failed a check; the message says which, for the log."""


@dataclass(frozen=True)
class Metadata:
    """What we use of the discovery document (OpenID Connect Discovery 1.0, section 3)."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    sends_issuer: bool
    secret_in_form: bool


@dataclass(frozen=True)
class Identity:
    """Whom an ID token proves. `email` is a normal address that the provider has verified, else None."""

    subject: str
    email: str | None
    name: str


@cache
def _metadata(name: str) -> Kept[Metadata]:
    return Kept(lambda: _discover(providers()[name].issuer))


@lru_cache(maxsize=32)
def _keys(url: str) -> KeySet:
    return KeySet(url)


def metadata(provider: Provider) -> Metadata:
    """The provider's endpoints, kept for an hour. Raises Unreachable."""
    return _metadata(provider.name).get()


def _discover(issuer: str) -> Metadata:
    """Raises Unreachable, also for a document of another issuer."""
    document = fetch_object(issuer.removesuffix("/") + "/.well-known/openid-configuration")
    if document.get("issuer") != issuer:
        raise Unreachable("discovery names another issuer")
    methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    userinfo = _endpoint(document, "userinfo_endpoint", issuer) if "userinfo_endpoint" in document else ""
    return Metadata(
        _endpoint(document, "authorization_endpoint", issuer),
        _endpoint(document, "token_endpoint", issuer),
        _endpoint(document, "jwks_uri", issuer),
        userinfo,
        document.get("authorization_response_iss_parameter_supported") is True,
        isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods,
    )


def _endpoint(document: dict[str, Any], name: str, issuer: str) -> str:
    """An address that is safe: https, and on this machine only where the issuer itself is."""
    url = document.get(name)
    if not isinstance(url, str) or not is_safe(url) or (is_loopback(url) and not is_loopback(issuer)):
        raise Unreachable(f"discovery has no usable {name}")
    return url


def redirect_uri(provider: Provider) -> str:
    """Where the provider sends the browser back: an address of its own for each provider (RFC 9700, section 4.4)."""
    return f"{settings().public_url}/v1/auth/oidc/{provider.name}/callback"


def authorization_url(provider: Provider, *, state: str, nonce: str, verifier: str, fresh: bool) -> str:
    """Where the browser is sent; `fresh`: the person has to log in there again. Raises Unreachable."""
    endpoint = metadata(provider).authorization_endpoint
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri(provider),
        "scope": " ".join(provider.scopes),
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    if fresh:
        asked |= {"max_age": "0", "prompt": "login"}
    return endpoint + ("&" if urlsplit(endpoint).query else "?") + urlencode(asked)


def check_issuer(provider: Provider, given: str | None) -> None:
    """RFC 9207: the answer is this provider's, not one of another mixed in. Raises Invalid, Unreachable."""
    if given is None and metadata(provider).sends_issuer:
        raise Invalid("the answer does not name its issuer")
    if given is not None and given != provider.issuer:
        raise Invalid("the answer names another issuer")


def prove(provider: Provider, code: str, *, verifier: str, nonce: str, fresh_since: int | None = None) -> Identity:
    """Whom the code proves; with `fresh_since` (Unix seconds) only somebody who has logged in there since.

    Raises Invalid, Unreachable.
    """
    answer = _redeem(provider, code, verifier)
    access_token, id_token = answer.get("access_token"), answer.get("id_token")
    if not isinstance(id_token, str) or not isinstance(access_token, str):
        raise Invalid("the answer has no ID token")
    claims = _verified(provider, id_token, access_token, nonce)
    if fresh_since is not None:
        _check_fresh(claims.get("auth_time"), fresh_since)
    userinfo = metadata(provider).userinfo_endpoint
    if "email" not in claims and fresh_since is None and userinfo and "email" in provider.scopes:
        more = fetch_object(userinfo, headers={"Authorization": f"Bearer {access_token}"})
        if more.get("sub") != claims["sub"]:
            raise Invalid("the user info is somebody else's")
        claims = {**claims, **{name: more[name] for name in PROFILE if name in more}}
    return _identity(claims)


def _redeem(provider: Provider, code: str, verifier: str) -> dict[str, Any]:
    """The answer of the token endpoint (RFC 6749, section 4.1.3)."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri(provider),
        "code_verifier": verifier,
    }
    headers = {}
    known = metadata(provider)
    secret = secrets.read(provider.client_secret).decode().strip() if provider.client_secret else ""
    if secret and not known.secret_in_form:
        pair = f"{quote(provider.client_id, safe='')}:{quote(secret, safe='')}"
        headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    else:
        form["client_id"] = provider.client_id
        form |= {"client_secret": secret} if secret else {}
    status, body = fetch(known.token_endpoint, form=urlencode(form), headers=headers)
    if 400 <= status < 500:
        raise Invalid(f"the code was refused with status {status}")
    if status != 200:
        raise Unreachable(f"status {status}")
    return parse_object(body)


def _verified(provider: Provider, id_token: str, access_token: str, nonce: str) -> dict[str, Any]:
    """The claims of an ID token after every check of OpenID Connect Core 1.0, section 3.1.3.7."""
    import jwt  # noqa: PLC0415 - 30 ms of cryptography, which most requests do without

    try:
        header = jwt.get_unverified_header(id_token)
        key, algorithm = _keys(metadata(provider).jwks_uri).key(header, ALGORITHMS)
        claims: dict[str, Any] = jwt.decode(
            id_token,
            key,
            algorithms=[algorithm],
            audience=provider.client_id,
            issuer=provider.issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
        raise Invalid(f"ID token: {type(error).__name__}") from error
    several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
    if (several or "azp" in claims) and claims.get("azp") != provider.client_id:
        raise Invalid("ID token: made for another client")
    if "crit" in header or str(header.get("typ", "JWT")).lower() != "jwt":
        raise Invalid("ID token: of another type")
    if claims["iat"] < time.time() - OLDEST_SECONDS:
        raise Invalid("ID token: too old")
    if not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
        raise Invalid("ID token: another nonce")
    if "at_hash" in claims and claims["at_hash"] != _half_hash(access_token):
        raise Invalid("ID token: another access token")
    if not 0 < len(claims["sub"]) <= LONGEST_SUBJECT or "\x00" in claims["sub"]:
        raise Invalid("ID token: no subject")
    return claims


def _half_hash(token: str) -> str:
    """at_hash (section 3.1.3.6): of RS256 and ES256 the left half of SHA-256."""
    return base64.urlsafe_b64encode(hashlib.sha256(token.encode()).digest()[:16]).rstrip(b"=").decode()


def _check_fresh(auth_time: object, since: int) -> None:
    now = time.time()
    if type(auth_time) is not int or auth_time > now + SKEW_SECONDS:
        raise Invalid("the provider does not say when the person logged in")
    if auth_time < since - SKEW_SECONDS or auth_time < now - settings().step_up_seconds - SKEW_SECONDS:
        raise Invalid("the provider did not ask for a fresh log-in")


def _identity(claims: dict[str, Any]) -> Identity:
    email: str | None = None
    if claims.get("email_verified") is True and isinstance(claims.get("email"), str):
        try:
            email = addresses.normal(claims["email"])
        except ValueError:
            email = None
    given = next((claims[name] for name in ("name", "preferred_username") if isinstance(claims.get(name), str)), "")
    printable = "".join(letter for letter in given if letter.isprintable())
    name = " ".join(printable.split())[:NAME_LENGTH] or (email or "Somebody").partition("@")[0]
    return Identity(claims["sub"], email, name)


def vouches(provider: Provider, identity: Identity) -> bool:
    """Whether the provider is trusted for the domain of the address that it has verified."""
    return identity.email is not None and identity.email.rpartition("@")[2] in provider.trusted_email_domains
