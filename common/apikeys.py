"""API keys: `ctx_<prefix>_<secret>_<crc>`. The checksum lets scanners and clients tell a key from a typing error."""

import hashlib
import re
import secrets
import string
import uuid
import zlib

from common import errors

MARK = "ctx_"
FORM = re.compile(r"ctx_([0-9A-Za-z]{8})_([0-9A-Za-z]{43})_([0-9a-f]{8})")
ALPHABET = string.digits + string.ascii_letters  # 43 of 62 characters: 256 bits


def new_key() -> tuple[str, str]:
    """A new key and its prefix, which tells keys apart in a list."""
    prefix, secret = (_random(length) for length in (8, 43))
    body = f"{MARK}{prefix}_{secret}"
    return f"{body}_{_crc(body)}", prefix


def key_hash(key: str) -> str:
    """What the database knows of a key: 128 bits of its SHA-256, as a UUID. Raises 401 for what is no key."""
    matched = FORM.fullmatch(key)
    if not matched or matched[3] != _crc(key[: -len(matched[3]) - 1]):
        raise errors.unauthenticated("The API key is not valid.")
    return str(uuid.UUID(bytes=hashlib.sha256(key.encode()).digest()[:16]))


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _crc(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
