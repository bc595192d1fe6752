"""Refresh tokens: R₀ is random, Rₙ₊₁ = HMAC-SHA-256(K, 'rt1' ‖ family ‖ n+1 ‖ Rₙ); only hashes are kept.

So the family's current token can be computed again from any earlier one, by us alone, and never from the database.
"""

import base64
import binascii
import secrets as randomness
import uuid

from common import errors, secrets

RING = "refresh-key"
TOKEN_BYTES = 32


def first_token() -> str:
    """R₀: 256 random bits, base64url."""
    return randomness.token_urlsafe(TOKEN_BYTES)


def successor(token: str, family: str, generation: int) -> tuple[str, str]:
    """The token of `generation` from the one before it, and the id of the key that made it: the active one."""
    key = secrets.ring(RING).signer
    return _next(token, family, generation, key), key.kid


def tip(token: str, family: str, generation: int, kids: list[str]) -> str:
    """The family's current token from that of `generation`, by the keys that made each step.

    Raises 503 when a key is not known here yet: keys are promoted long after every reader has seen them.
    """
    for kid in kids:
        key = secrets.ring(RING).keys.get(kid)
        if key is None:
            raise errors.Problem("unavailable", headers={"Retry-After": "1"})
        generation += 1
        token = _next(token, family, generation, key)
    return token


def _next(token: str, family: str, generation: int, key: secrets.Key) -> str:
    """One step. Every part has a fixed length, so that no two inputs read the same: 3, 16, 4 and 32 bytes."""
    message = b"rt1" + uuid.UUID(family).bytes + generation.to_bytes(4, "big") + _raw(token)
    return base64.urlsafe_b64encode(key.mac(message)).rstrip(b"=").decode()


def _raw(token: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError) as error:
        raise errors.unauthenticated("The refresh token is not valid.") from error
