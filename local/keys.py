"""The secrets of a new stack, and the folders through which the services see them."""

import base64
import json
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import yaml

from common import kms
from functions.keys import first, rings, wrapping
from functions.keys.policies import WRAPPED
from functions.keys.vault import Version
from local.durable import replace
from local.kms import Keeper
from local.layout import logins, workloads
from local.secrets_store import DISABLED, ENABLED, SecretStore

OIDC_CLIENT = "oidc-client-secret"
SMS_ACCOUNT, SMS_TOKEN = "sms-account", "sms-token"
JWT_RING = "jwt-keyring"
VERIFYING_RING = "jwt-verify-keyring"
SENTRY_DSN = "sentry-dsn"
SENTRY_PROJECT = "1"
KEY_BYTES = 32


def context_key(role: str) -> str:
    """The id of the secret with which a service of this role signs its context tokens."""
    return f"context-key-{role}"


class Shelf:
    """The secrets of a stack as the job `first-keys` sees them in the cloud."""

    def __init__(self, store: SecretStore) -> None:
        self._store = store

    def versions(self, id: str) -> list[Version]:
        """Newest first; none where the secret itself is not there yet."""
        if id not in self._store.ids():
            return []
        names = {ENABLED: "ENABLED", DISABLED: "DISABLED"}
        return [
            Version(each.version, names.get(each.state, "DESTROYED"), each.created) for each in self._store.versions(id)
        ]

    def payload(self, id: str, version: int | str) -> bytes:
        """What a version holds."""
        return self._store.access(id, version).payload or b""

    def put(self, id: str, payload: bytes) -> int:
        """Add a version; its number."""
        return self._store.add(id, payload)


def seed(root: Path, environ: Mapping[str, str]) -> None:
    """Make the secrets that are not there yet: our own as in the cloud, and the part of those who give us others.

    A JWT key of the algorithm asked for becomes the active one.
    """
    store, keeper = SecretStore(root), Keeper(root)

    def wrap(plain: bytes, *bound: str) -> str:
        return base64.b64encode(keeper.encrypt(plain, kms.associated(bound))).decode()

    algorithm = environ.get("JWT_ALGORITHM", "HS256")
    for _ in first.make(Shelf(store), algorithm, wrap):
        pass
    given = {SMS_ACCOUNT: f"AC{secrets.token_hex(16)}", SMS_TOKEN: secrets.token_hex(16)}
    given[OIDC_CLIENT] = secrets.token_urlsafe()
    given |= {id: "whsec_" + base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode() for id in processors(environ)}
    there = set(store.ids())
    for id, text in given.items():
        if id not in there:
            store.add(id, text.encode())
    _wrap(store, wrap)
    _turn_jwt(store, algorithm)


def introduce_sentry(root: Path, given: str) -> None:
    """Enter Sentry's DSN, as a person would: `none`, a DSN, or the address of the stack's own stand-in."""
    store = SecretStore(root)
    present = (store.latest(SENTRY_DSN) or b"").decode()
    place = urlsplit(given)
    if place.scheme and not place.username:  # the key stays, the port may be another one after a start
        key = urlsplit(present).username or secrets.token_hex(16)
        given = f"{place.scheme}://{key}@{place.netloc}/{SENTRY_PROJECT}"
    if present != given:
        store.add(SENTRY_DSN, given.encode())


def roles() -> list[str]:
    """The database roles of the catalog."""
    return sorted({str(entry["role"]) for entry in logins().values()})


def processors(environ: Mapping[str, str]) -> list[str]:
    """The ids of the secrets that are shared with the processors of PROCESSORS."""
    path = environ.get("PROCESSORS")
    return sorted({str(entry["secret"]) for entry in yaml.safe_load(Path(path).read_text()).values()}) if path else []


def _turn_jwt(store: SecretStore, algorithm: str) -> None:
    """Another algorithm at once, without the wait of the cloud. Keys already in the ring still verify."""
    ring = json.loads(store.latest(JWT_RING) or b"")
    if ring["keys"][ring["active"]]["algorithm"] != algorithm:
        ring["active"] = rings.new_kid()
        ring["keys"][ring["active"]] = rings.fresh(algorithm)
        store.add(JWT_RING, json.dumps(ring).encode())
    wanted = rings.verifying(ring)
    if json.loads(store.latest(VERIFYING_RING) or b"{}") != wanted:
        store.add(VERIFYING_RING, json.dumps(wanted).encode())


def _wrap(store: SecretStore, wrap: wrapping.Wrap) -> None:
    """Rings of an older stack hold their data keys plain."""
    for id in WRAPPED:
        ring, done = wrapping.wrapped(id, json.loads(store.latest(id) or b""), wrap)
        if done:
            store.add(id, json.dumps(ring).encode())


def mount(root: Path, environ: Mapping[str, str] = MappingProxyType({})) -> None:
    """Per service a folder of links to the newest versions of the secrets that its catalog entry names.

    As Cloud Run mounts them, `<id>/latest`, and as pods do, `<id>`. Everybody sees Sentry's DSN, the services of
    erasures the processors' secrets as well. Jobs mount none.
    """
    for service, entry in logins().items():
        folder = root / "mounts" / service
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        more = processors(environ) if entry.get("folder") == "deletions" else []
        for id in {*entry["secrets"], context_key(entry["role"]), SENTRY_DSN, *more}:
            link = folder / id if service in workloads() else folder / id / "latest"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(Path("/".join([".."] * len(link.parent.relative_to(root).parts)), "secrets", id, "latest"))
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
