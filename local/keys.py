"""The secrets of a new stack, and the folders through which the services see them."""

import base64
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from common import kms
from functions.keys import rings, wrapping
from functions.keys.policies import WRAPPED
from local.durable import replace
from local.kms import Keeper
from local.layout import logins
from local.secrets_store import SecretStore

RINGS = ("refresh-key", "mail-key", "unsubscribe-key", "cursor-key", "certificate-key", "audit-key")
EDGE_KEY = "edge-key"
OIDC_CLIENT = "oidc-client-secret"
SMS_ACCOUNT, SMS_TOKEN = "sms-account", "sms-token"
JWT_RING = "jwt-keyring"
VERIFYING_RING = "jwt-verify-keyring"
KEY_BYTES = 32


def context_key(role: str) -> str:
    """The id of the secret with which a service of this role signs its context tokens."""
    return f"context-key-{role}"


def seed(root: Path, environ: Mapping[str, str]) -> None:
    """Make the secrets that are not there yet; a JWT key of the algorithm asked for becomes the active one."""
    store = SecretStore(root)
    there = set(store.ids())
    for id in [*RINGS, *(context_key(role) for role in roles())]:
        if id not in there:
            store.add(id, json.dumps(_ring()).encode())
    plain = {EDGE_KEY: secrets.token_urlsafe(KEY_BYTES), SMS_ACCOUNT: f"AC{secrets.token_hex(16)}"}
    for id, text in {**plain, SMS_TOKEN: secrets.token_hex(16), OIDC_CLIENT: secrets.token_urlsafe()}.items():
        if id not in there:
            store.add(id, text.encode())
    for id in processors(environ):
        if id not in there:
            store.add(id, b"whsec_" + base64.b64encode(secrets.token_bytes(KEY_BYTES)))
    _wrap(store, Keeper(root))
    _seed_jwt(store, environ.get("JWT_ALGORITHM", "HS256"))
    _follow_jwt(store)


def roles() -> list[str]:
    """The database roles of the catalog."""
    return sorted({str(entry["role"]) for entry in logins().values()})


def processors(environ: Mapping[str, str]) -> list[str]:
    """The ids of the secrets that are shared with the processors of PROCESSORS."""
    path = environ.get("PROCESSORS")
    return sorted({str(entry["secret"]) for entry in yaml.safe_load(Path(path).read_text()).values()}) if path else []


def _seed_jwt(store: SecretStore, algorithm: str) -> None:
    """Keys already in the ring stay in it: their tokens are accepted until they expire."""
    ring = json.loads(store.latest(JWT_RING) or '{"active": "", "keys": {}}')
    if ring["keys"].get(ring["active"], {}).get("algorithm") == algorithm:
        return
    ring["active"] = rings.new_kid()
    ring["keys"][ring["active"]] = rings.fresh(algorithm)
    store.add(JWT_RING, json.dumps(ring).encode())


def _wrap(store: SecretStore, keeper: Keeper) -> None:
    """Rings of data keys hold them wrapped, those of an older stack included."""

    def wrap(plain: bytes, *bound: str) -> str:
        return base64.b64encode(keeper.encrypt(plain, kms.associated(bound))).decode()

    for id in WRAPPED:
        known = store.latest(id) if id in store.ids() else None
        ring, done = wrapping.wrapped(id, json.loads(known) if known else _ring(), wrap)
        if done:
            store.add(id, json.dumps(ring).encode())


def _follow_jwt(store: SecretStore) -> None:
    """The ring of those who only verify says what the signing one does, without private keys."""
    wanted = rings.verifying(json.loads(store.latest(JWT_RING) or b""))
    if json.loads(store.latest(VERIFYING_RING) or b"{}") != wanted:
        store.add(VERIFYING_RING, json.dumps(wanted).encode())


def _ring() -> rings.Ring:
    kid = rings.new_kid()
    return {"active": kid, "keys": {kid: rings.fresh("HS256")}}


def mount(root: Path, environ: Mapping[str, str] = MappingProxyType({})) -> None:
    """Per service a folder of links to the newest versions of the secrets that its catalog entry names.

    The services of erasures see the processors' secrets as well.
    """
    for service, entry in logins().items():
        folder = root / "mounts" / service
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        more = processors(environ) if entry.get("folder") == "deletions" else []
        for id in [*entry["secrets"], context_key(entry["role"]), *more]:
            (folder / id).symlink_to(Path("..", "..", "secrets", id, "latest"))
    keys = root / "keys"
    keys.mkdir(mode=0o700, exist_ok=True)
    ring = keys / "jwt-keyring.json"
    ring.unlink(missing_ok=True)
    ring.symlink_to(Path("..", "secrets", JWT_RING, "latest"))


def context_keys(root: Path) -> Path:
    """Write the key rings of all roles into one file, when one has changed, and return its path."""
    path = root / "keys" / "context-keys.json"
    rings: dict[str, Any] = {}
    for latest in sorted(root.glob(f"secrets/{context_key('*')}/latest")):
        rings[latest.parent.name.removeprefix(context_key(""))] = json.loads(latest.read_bytes())
    text = json.dumps(rings, indent=1).encode()
    if not path.exists() or path.read_bytes() != text:
        replace(path, text)
    return path
