"""Compact JWS (RFC 7515), read strictly: bounded before it is parsed, one possible reading of every byte.

The sender chooses nothing: the key binds its algorithm (RFC 8725, section 3.1), header members beyond `alg`, `kid` and
`typ` are refused, so no key, address of a key, certificate, compression or critical extension in a token is looked at.
"""

import binascii
import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from common.secrets import Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

SHAPE = re.compile(r"([A-Za-z0-9_-]{2,1024})\.([A-Za-z0-9_-]{2,8192})\.([A-Za-z0-9_-]{2,1024})")
HEADER = {"alg", "kid", "typ"}


class Refused(ValueError):
    """This is not a JWS that was signed with one of our keys."""


def read(token: str, key_of: Callable[[str], Key]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and payload of a token after its signature was checked with the key that `key_of` gives for its `kid`.

    Raises Refused; `key_of` raises KeyError for a kid that it does not know.
    """
    head, payload, signature = _split(token)
    header = _members(head)
    if header.keys() - HEADER or not isinstance(header.get("kid"), str):
        raise Refused("the header says more than it should, or names no key")
    try:
        key = key_of(header["kid"])
    except KeyError:
        raise Refused("the key is not known") from None
    if header.get("alg") != key.algorithm:
        raise Refused("the algorithm is not that of the key")
    if not _signed(f"{head}.{payload}".encode(), _bytes(signature), key):
        raise Refused("the signature is not that of the key")
    return header, _members(payload)


def peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a token says of itself, nothing of it proven: to find out who should be asked. Raises Refused."""
    head, payload, _ = _split(token)
    return _members(head), _members(payload)


def _split(token: str) -> tuple[str, ...]:
    matched = SHAPE.fullmatch(token)
    if not matched:
        raise Refused("this is no compact JWS")
    return matched.groups()


def _bytes(segment: str) -> bytes:
    """Only the one encoding that RFC 4648 (section 3.5) calls canonical: a changed last letter is another token."""
    try:
        raw = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise Refused("a part is not base64url") from error
    if urlsafe_b64encode(raw).rstrip(b"=") != segment.encode():
        raise Refused("a part is not canonical base64url")
    return raw


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Refused("a member stands twice")
    return found


def _no_number(text: str) -> Any:
    raise Refused(f"{text} is no JSON")


_STRICT = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)


def _members(segment: str) -> dict[str, Any]:
    try:
        found = _STRICT.decode(_bytes(segment).decode())
    except (ValueError, RecursionError) as error:
        raise Refused("a part is not JSON") from error
    if not isinstance(found, dict):
        raise Refused("a part is not a JSON object")
    return found


def _signed(message: bytes, signature: bytes, key: Key) -> bool:
    if key.algorithm == "HS256" and key.secret:
        return hmac.compare_digest(signature, key.mac(message))
    return key.algorithm == "RS256" and bool(key.public) and _signed_with_rsa(message, signature, key.public or b"")


def _signed_with_rsa(message: bytes, signature: bytes, pem: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - OpenSSL's bindings, only where they are used
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15  # noqa: PLC0415
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415

    try:
        _public_key(pem).verify(signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=16)
def _public_key(pem: bytes) -> "RSAPublicKey":
    """RFC 7518, section 3.3: 2048 bits at least."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    key = load_pem_public_key(pem)
    if not isinstance(key, RSAPublicKey) or key.key_size < 2048:
        raise Refused("the key is not an RSA key of 2048 bits or more")
    return key
