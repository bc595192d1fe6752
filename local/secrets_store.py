"""Secrets and their versions on disk, shared by the Secret Manager stand-in and the supervisor."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from local.durable import database, locked, replace, transaction

ENABLED, DISABLED, DESTROYED = 1, 2, 3  # the numbers of google.cloud.secretmanager.v1.SecretVersion.State
MAX_BYTES = 65_536
ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
SCHEMA = """
CREATE TABLE IF NOT EXISTS secrets (id TEXT PRIMARY KEY, created REAL NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS versions (
    id TEXT NOT NULL REFERENCES secrets, version INTEGER NOT NULL, state INTEGER NOT NULL,
    created REAL NOT NULL, destroyed REAL, payload BLOB, PRIMARY KEY (id, version)
);
"""


class NotThere(LookupError):
    """No such secret or version."""


class AlreadyThere(ValueError):
    """A secret of this id exists."""


class NotUsable(ValueError):
    """The version is disabled or destroyed."""


@dataclass(frozen=True)
class Version:
    """One version of a secret; times are seconds since 1970, `payload` is None once destroyed."""

    id: str
    version: int
    state: int
    created: float
    destroyed: float | None
    payload: bytes | None


class SecretStore:
    """`<root>/secrets/secrets.db`, and per secret `<root>/secrets/<id>/latest`, as Cloud Run mounts it."""

    def __init__(self, root: str | Path) -> None:
        self.folder = Path(root, "secrets")
        with locked(self.folder / "lock"):
            self.connection = database(self.folder / "secrets.db", SCHEMA)
            for id in self.ids():
                self._publish(id)

    def ids(self) -> list[str]:
        """All secret ids in order."""
        return [row["id"] for row in self.connection.execute("SELECT id FROM secrets ORDER BY id")]

    def create(self, id: str, body: bytes = b"") -> None:
        """Make an empty secret; `body` is the server's own description of it. Raises AlreadyThere, ValueError."""
        if not ID.fullmatch(id):
            raise ValueError("a secret id has letters, digits, hyphens and underscores")
        statement = "INSERT INTO secrets (id, created, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        if self.connection.execute(statement, (id, time.time(), body)).rowcount == 0:
            raise AlreadyThere(id)

    def body(self, id: str) -> tuple[float, bytes]:
        """When a secret was made, and the server's description of it. Raises NotThere."""
        row = self.connection.execute("SELECT created, body FROM secrets WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotThere(id)
        return row["created"], row["body"]

    def add(self, id: str, payload: bytes) -> int:
        """Add an enabled version (at most 64 KiB), making the secret if need be; returns its number, from 1."""
        if len(payload) > MAX_BYTES:
            raise ValueError(f"a payload has at most {MAX_BYTES} bytes")
        with suppress(AlreadyThere):
            self.create(id)
        with locked(self.folder / "lock"):
            with transaction(self.connection):
                statement = "SELECT coalesce(max(version), 0) + 1 FROM versions WHERE id = ?"
                version: int = self.connection.execute(statement, (id,)).fetchone()[0]
                self.connection.execute(
                    "INSERT INTO versions (id, version, state, created, payload) VALUES (?, ?, ?, ?, ?)",
                    (id, version, ENABLED, time.time(), payload),
                )
            self._publish(id)
        return version

    def versions(self, id: str) -> list[Version]:
        """All versions, newest first. Raises NotThere for an unknown secret."""
        self.body(id)
        rows = self.connection.execute("SELECT * FROM versions WHERE id = ? ORDER BY version DESC", (id,))
        return [Version(**row) for row in rows]

    def version(self, id: str, version: int | str) -> Version:
        """One version; `latest` is the most recently created one, whatever its state. Raises NotThere."""
        for each in self.versions(id):
            if version in ("latest", each.version, str(each.version)):
                return each
        raise NotThere(f"{id}/versions/{version}")

    def access(self, id: str, version: int | str) -> Version:
        """A version that is enabled. Raises NotThere, NotUsable."""
        found = self.version(id, version)
        if found.state != ENABLED:
            raise NotUsable("the version is disabled or destroyed")
        return found

    def latest(self, id: str) -> bytes | None:
        """The payload of the newest enabled version, as a mounted secret shows it."""
        statement = "SELECT payload FROM versions WHERE id = ? AND state = ? ORDER BY version DESC LIMIT 1"
        row = self.connection.execute(statement, (id, ENABLED)).fetchone()
        return None if row is None else bytes(row["payload"])

    def set_state(self, id: str, version: int | str, state: int) -> Version:
        """Enable, disable or destroy a version; destroying forgets the payload. Raises NotThere, NotUsable."""
        with locked(self.folder / "lock"):
            with transaction(self.connection):
                found = self.version(id, version)
                if found.state == DESTROYED and state != DESTROYED:
                    raise NotUsable("the version is destroyed")
                self.connection.execute(
                    "UPDATE versions SET state = ? WHERE id = ? AND version = ?", (state, id, found.version)
                )
                if state == DESTROYED:
                    self.connection.execute(
                        """
                        UPDATE versions SET payload = NULL, destroyed = coalesce(destroyed, ?)
                        WHERE id = ? AND version = ?
                        """,
                        (time.time(), id, found.version),
                    )
            self._publish(id)
        return self.version(id, found.version)

    def _publish(self, id: str) -> None:
        path = self.folder / id / "latest"
        payload = self.latest(id)
        if payload is None:
            path.unlink(missing_ok=True)
        elif not path.exists() or path.read_bytes() != payload:
            replace(path, payload)
