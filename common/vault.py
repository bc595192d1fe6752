"""Encryption at rest: AES-256-GCM under a ring of keys that Cloud KMS wrapped, bound to what the text belongs to."""

import base64
import binascii
import hmac
import os

from common import kms, secrets

VERSION = "v1"
NONCE_BYTES = 12
PURPOSE = b"vault aes-256-gcm"  # the ring's other uses get other keys out of the same secret


class Unreadable(Exception):
    """The ciphertext was altered, belongs to something else, or its key is gone."""


def seal(ring: str, plain: bytes, *bound: str) -> str:
    """`v1.<kid>.<base64url of nonce, ciphertext>` under the active key. `bound`: ids that must be named to read it.

    Raises kms.Unavailable.
    """
    key = secrets.ring(ring).signer
    nonce = os.urandom(NONCE_BYTES)  # random: far fewer than 2^32 texts are sealed under one key (SP 800-38D, 8.3)
    sealed = nonce + _cipher(ring, key).encrypt(nonce, plain, _associated(key.kid, bound))
    return f"{VERSION}.{key.kid}.{base64.urlsafe_b64encode(sealed).decode()}"


def read(ring: str, sealed: str, *bound: str) -> bytes:
    """What was sealed. Raises Unreadable, kms.Unavailable."""
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - OpenSSL's bindings, only where they are used

    try:
        version, kid, text = sealed.split(".")
        key = secrets.ring(ring).keys[kid]
        raw = base64.urlsafe_b64decode(text)
        if version != VERSION or len(raw) < NONCE_BYTES:
            raise Unreadable
        return bytes(_cipher(ring, key).decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _associated(kid, bound)))
    except (ValueError, KeyError, binascii.Error, InvalidTag, kms.Refused) as error:
        raise Unreadable from error


def outdated(ring: str, sealed: str) -> bool:
    """Whether another key than the active one sealed it: seal it again while its text is at hand."""
    return sealed.split(".")[1] != secrets.ring(ring).active


def _cipher(ring: str, key: secrets.Key):  # type: ignore[no-untyped-def]
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

    return AESGCM(hmac.digest(secrets.data_key(ring, key), PURPOSE, "sha256"))


def _associated(kid: str, bound: tuple[str, ...]) -> bytes:
    return "\x1f".join([VERSION, kid, *bound]).encode()
