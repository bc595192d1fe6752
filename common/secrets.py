"""Secrets: the mounted version of Cloud Run's Secret Manager volumes, or else the Secret Manager API itself."""

import base64
import hmac
import json
import time
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from common import kms, log, tracing
from common.settings import settings

MIN_BYTES = 32  # RFC 7518, section 3.2: a key is at least as long as the hash
STALE_SECONDS = 600  # how long the last payload counts while Secret Manager gives none


@dataclass(frozen=True)
class Key:
    """One key of a ring. `secret` is raw bytes for HS256, the private PEM for RS256; None where there is only `public`:
    the PEM for RS256, 32 raw bytes for Ed25519. In place of an HS256 secret may stand what Cloud KMS made of it.
    """

    kid: str
    algorithm: str
    secret: bytes | None
    public: bytes | None = None
    wrapped: str | None = None

    def mac(self, message: bytes) -> bytes:
        """HMAC-SHA-256 of a message, under the raw secret."""
        state = self._keyed.copy()  # keying anew takes three times as long
        state.update(message)
        return state.digest()

    @cached_property
    def _keyed(self) -> hmac.HMAC:
        return hmac.new(self.secret or b"", digestmod="sha256")


@dataclass(frozen=True)
class Ring:
    """A key ring: one active key for signing, all of them for verifying."""

    active: str
    keys: dict[str, Key]

    @property
    def signer(self) -> Key:
        """The active key."""
        return self.keys[self.active]


_seen: dict[str, tuple[float, bytes]] = {}
_rings: dict[str, tuple[bytes, Ring]] = {}


def read(name: str) -> bytes:
    """The current payload of a secret, at most SECRETS_CACHE_SECONDS old.

    On Cloud Run every look at the file asks Secret Manager, and a look that fails is an OSError: for STALE_SECONDS the
    payload from before counts.
    """
    cached = _seen.get(name)
    now = time.monotonic()
    if cached and now - cached[0] < settings().secrets_cache_seconds:
        return cached[1]
    try:
        file = mounted(settings().secrets_dir, name)
        payload = file.read_bytes() if file.exists() else _access(name)
    except OSError as error:
        if cached is None or now - cached[0] > STALE_SECONDS:
            raise
        log.entry("WARNING", "a secret cannot be read, the one from before counts", error=type(error).__name__)
        return cached[1]
    _seen[name] = (now, payload)
    return payload


def mounted(folder: str | Path, name: str) -> Path:
    """The file of a secret: Cloud Run gives each a folder of its own, `<name>/latest`; in a pod all share one."""
    place = Path(folder, name)
    return place / "latest" if place.is_dir() else place


def ring(name: str) -> Ring:
    """A secret that holds a key ring: {"active": kid, "keys": {kid: {"algorithm", "key"} or {"algorithm", pems}}}."""
    payload = read(name)
    known = _rings.get(name)
    if known and (known[0] is payload or known[0] == payload):
        return known[1]
    document = json.loads(payload)
    parsed = Ring(document["active"], {kid: _key(kid, entry) for kid, entry in document["keys"].items()})
    _rings[name] = (payload, parsed)
    return parsed


def data_key(ring_name: str, key: Key) -> bytes:
    """The secret of a key that encrypts: Cloud KMS unwraps it, once per process.

    Raises kms.Refused, kms.Unavailable.
    """
    return kms.unwrap(key.wrapped, ring_name, key.kid) if key.wrapped else key.secret or b""


def _key(kid: str, entry: dict[str, str]) -> Key:
    """Other members of an entry (when it was made, promoted, retired) are for the rotation alone."""
    if entry["algorithm"] == "RS256":
        private = entry.get("private_pem")
        return Key(kid, "RS256", private.encode() if private else None, entry["public_pem"].encode())
    if entry["algorithm"] == "Ed25519":
        return Key(kid, "Ed25519", None, _raw(entry["public_key"]))
    if entry["algorithm"] == "HS256" and "wrapped" in entry:
        return Key(kid, "HS256", None, wrapped=entry["wrapped"])
    secret = _raw(entry["key"])
    if entry["algorithm"] != "HS256" or len(secret) < MIN_BYTES:
        raise ValueError(f"key {kid} has an unknown algorithm or is too short")
    return Key(kid, "HS256", secret)


def _raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@tracing.traced("secretmanager access")
def _access(name: str) -> bytes:
    path = f"projects/{settings().project_id}/secrets/{name}/versions/latest"
    return bytes(client().access_secret_version(name=path).payload.data)


@cache
def client():  # type: ignore[no-untyped-def]
    """Google's client of Secret Manager."""
    from google.cloud import secretmanager  # noqa: PLC0415 - 300 ms of gRPC, only when nothing is mounted

    return secretmanager.SecretManagerServiceClient(client_options={"api_endpoint": settings().secretmanager_endpoint})
