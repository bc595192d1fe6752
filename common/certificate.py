"""Signed documents, deletion certificates first: Ed25519 (RFC 8032), so that the public key alone checks them.

`hash` is the hex SHA-256 of the RFC 8785 canonical JSON of the certificate without `hash`, `signature` and `key_id`;
`signature` is the unpadded base64url Ed25519 signature of the bytes of that same JSON. `python -m common.certificate
CERTIFICATE PUBLIC_KEY` checks a file with a certificate against a public key as GET /v1/deletions/certificate-keys
shows it.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import secrets
from common.audit import holds, statement_of, unpadded

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RING = "certificate-key"
AUDIT_RING = "audit-key"  # of anchors, checkpoints and statements, see common/audit.py
__all__ = ["AUDIT_RING", "RING", "holds", "ours", "public_half", "public_keys", "sign"]


def sign(facts: dict[str, Any], ring: str = RING) -> dict[str, Any]:
    """The facts with hash, signature and key_id. They hold no fractions."""
    key = secrets.ring(ring).signer
    statement = statement_of(facts)
    return {
        **facts,
        "hash": hashlib.sha256(statement).hexdigest(),
        "signature": _text(_private(key).sign(statement)),
        "key_id": key.kid,
    }


def public_keys(ring: str = RING) -> dict[str, str]:
    """Every public key of a ring by its key_id: raw Ed25519 in unpadded base64url."""
    return {kid: _public(key) for kid, key in secrets.ring(ring).keys.items()}


def ours(document: dict[str, Any], ring: str = RING) -> bool:
    """Whether a key of the ring signed exactly this document, now or ever."""
    key = secrets.ring(ring).keys.get(str(document.get("key_id")))
    return key is not None and holds(document, _public(key))


def _private(key: secrets.Key) -> "Ed25519PrivateKey":
    """The ring holds 32 random bytes; the seed is derived, so that the bytes serve no two algorithms."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - OpenSSL's bindings, only where they are used

    return Ed25519PrivateKey.from_private_bytes(
        hashlib.sha256(b"ed25519 certificate\x1f" + (key.secret or b"")).digest()
    )


def public_half(kid: str, encoded: str) -> dict[str, str]:
    """What a ring keeps of a key that signs no more: enough to check its certificates for ever."""
    return {"algorithm": "Ed25519", "public_key": _public(secrets.Key(kid, "HS256", unpadded(encoded)))}


def _public(key: secrets.Key) -> str:
    if key.public is not None:
        return _text(key.public)
    return _text(_private(key).public_key().public_bytes_raw())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def main(arguments: list[str]) -> int:
    """Exit code 0 when the certificate in the file holds."""
    if len(arguments) != 3:
        sys.stderr.write("usage: python -m common.certificate CERTIFICATE PUBLIC_KEY\n")
        return 2
    good = holds(json.loads(Path(arguments[1]).read_text(encoding="utf-8")), arguments[2])
    sys.stdout.write("the certificate holds\n" if good else "the certificate does NOT hold\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
