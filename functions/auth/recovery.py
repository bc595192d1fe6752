"""Recovery codes: ten at a time, 120 random bits each, once each; only hashes are kept."""

import hashlib
import secrets

from common.db import Tx
from functions.auth import mfa_queries

CODES = 10
# Crockford's base 32: no I, L, O and U to be misread.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # pragma: allowlist secret
LENGTH, GROUP = 24, 4
READ_AS = str.maketrans("OIL", "011", "- ")


def renew(tx: Tx) -> list[str]:
    """Ten new codes, as they are shown once; any older ones are worth nothing now."""
    codes = [_new() for _ in range(CODES)]
    mfa_queries.replace_recovery_codes(tx, [_hash(code) for code in codes])
    return codes


def use(tx: Tx, given: str) -> bool:
    """Whether it is an unused code of the transaction's person; it is spent then."""
    return mfa_queries.use_recovery_code(tx, _hash(given))


def _new() -> str:
    letters = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
    return "-".join(letters[start : start + GROUP] for start in range(0, LENGTH, GROUP))


def _hash(code: str) -> bytes:
    """SHA-256: a fast hash is right for 120 random bits."""
    return hashlib.sha256(code.upper().translate(READ_AS).encode()).digest()
