"""Google's part as issuer: access tokens, identity tokens, the key set, and the keys of service accounts."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from local.durable import locked, replace

ISSUER = "https://accounts.google.com"
ACCESS_TYPE = "at+jwt"  # RFC 9068: what keeps an identity token from passing as an access token, and the reverse
ACCESS_AUDIENCE = "https://oauth2.googleapis.com/"
EMAIL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}@[a-z0-9-]{1,63}\.iam\.gserviceaccount\.com")


class Refused(Exception):
    """The token or signature does not prove what it must; the text says why and holds no secret."""


class Issuer:
    """One issuer per stack. Processes share its keys under `<root>/identity/`; the first one makes them."""

    def __init__(self, root: str | Path) -> None:
        self.folder = Path(root, "identity")
        self.key = self._private_key(self.folder / "issuer.pem")
        self.kid = _thumbprint(self.key.public_key())
        if not (self.folder / "jwks.json").exists():
            replace(self.folder / "jwks.json", json.dumps(self.jwks(), indent=1).encode())

    def access_token(self, email: str, scopes: Iterable[str] = (), seconds: int = 3600) -> str:
        """An OAuth access token of a service account; callers treat it as opaque."""
        claims = {"aud": ACCESS_AUDIENCE, "scope": " ".join(scopes)}
        return self._signed(email, claims, seconds, ACCESS_TYPE)

    def identity_token(self, email: str, audience: str, seconds: int = 3600) -> str:
        """An OpenID Connect identity token (RS256) of a service account for one audience."""
        return self._signed(email, {"aud": audience, "azp": email}, seconds, "JWT")

    def verify_access_token(self, authorization: str | None) -> str:
        """The e-mail behind an `Authorization: Bearer …` header value. Raises Refused."""
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused("no bearer token")
        return self._verified(token.strip(), ACCESS_AUDIENCE, ACCESS_TYPE)

    def verify_identity_token(self, token: str, audience: str) -> str:
        """The e-mail that an identity token proves for this audience. Raises Refused."""
        return self._verified(token, audience, "JWT")

    def jwks(self) -> dict[str, Any]:
        """The public half as a JSON Web Key Set (RFC 7517)."""
        return {"keys": [{**_jwk(self.key.public_key()), "kid": self.kid, "use": "sig", "alg": "RS256"}]}

    def sign_blob(self, email: str, blob: bytes) -> tuple[str, bytes]:
        """The key id and the RSA-SHA256 PKCS#1 v1.5 signature with the account's own key, made at first use."""
        key = self._private_key(self._account_path(email))
        return _thumbprint(key.public_key()), key.sign(blob, padding.PKCS1v15(), SHA256())

    def account_public_key(self, email: str) -> rsa.RSAPublicKey:
        """The key that verifies what `sign_blob` signed. Raises Refused for an account that never signed."""
        path = self._account_path(email)
        if not path.exists():
            raise Refused("this account has no key")
        return _load(path).public_key()

    def _account_path(self, email: str) -> Path:
        if not EMAIL.fullmatch(email):
            raise Refused("not the e-mail of a service account")
        return self.folder / "accounts" / f"{email}.pem"

    def _private_key(self, path: Path) -> rsa.RSAPrivateKey:
        if not path.exists():
            with locked(self.folder / "lock"):
                if not path.exists():
                    replace(path, _pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))
        return _load(path)

    def _signed(self, email: str, claims: dict[str, str], seconds: int, kind: str) -> str:
        now = int(time.time())
        subject = str(int(hashlib.sha256(email.encode()).hexdigest()[:16], 16))
        proven = {"iss": ISSUER, "sub": subject, "email": email, "email_verified": True}
        times = {"iat": now, "exp": now + seconds}
        headers = {"kid": self.kid, "typ": kind}
        return jwt.encode({**proven, **claims, **times}, self.key, algorithm="RS256", headers=headers)

    def _verified(self, token: str, audience: str, kind: str) -> str:
        try:
            if jwt.get_unverified_header(token).get("typ") != kind:
                raise Refused("another kind of token")
            claims = jwt.decode(
                token,
                self.key.public_key(),
                algorithms=["RS256"],
                issuer=ISSUER,
                audience=audience,
                options={"require": ["iss", "aud", "exp", "iat", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            raise Refused(str(error)) from error
        return str(claims["email"])


def _pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _load(path: Path) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError(f"{path.name} holds no RSA key")
    return key


def _jwk(key: rsa.RSAPublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"e": _base64url(numbers.e), "kty": "RSA", "n": _base64url(numbers.n)}


def _base64url(number: int) -> str:
    octets = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _thumbprint(key: rsa.RSAPublicKey) -> str:
    """The key id: RFC 7638, first 40 hex digits, the length of Google's own."""
    canonical = json.dumps(_jwk(key), separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:40]
