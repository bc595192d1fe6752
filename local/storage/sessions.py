"""Resumable sessions: what has arrived survives a crash, what was acknowledged is never lost."""

import asyncio
import json
import secrets
import sqlite3
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from local.storage.conditions import Conditions
from local.storage.content import Hashes, Sink, hashes_of, sync_folder
from local.storage.problems import Problem
from local.storage.schema import Stored, now
from local.storage.store import Draft, Store


@dataclass(frozen=True)
class Session:
    """A resumable upload; `state` is open, done or cancelled; `total` is None while the client has not said it."""

    id: str
    bucket: str
    name: str
    meta: dict[str, Any]
    conditions: Conditions
    total: int | None
    received: int
    state: str
    generation: int | None

    @classmethod
    def of(cls, row: sqlite3.Row) -> "Session":
        """From a row of `uploads`."""
        fields = {key: row[key] for key in row.keys() if key != "created"}  # noqa: SIM118 - a Row iterates its values
        meta, conditions = json.loads(row["meta"]), Conditions(**json.loads(row["conditions"]))
        return cls(**{**fields, "meta": meta, "conditions": conditions})


class Sessions:
    """Sessions of one store. Hashes of open ones are kept in memory and made again from the file after a restart."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._hashes: dict[str, Hashes] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def turn(self, key: str) -> asyncio.Lock:
        """One request at a time per session."""
        return self._turns.setdefault(key, asyncio.Lock())

    def begin(self, bucket: str, name: str, meta: dict[str, Any], conditions: Conditions, total: int | None) -> Session:
        """Open a session. Raises Problem 404 (bucket) or 412."""
        self.store.bucket(bucket)
        conditions.check_write(self.store.find(bucket, name))
        key = secrets.token_urlsafe(48)
        values = (key, bucket, name, json.dumps(meta), json.dumps(conditions.stored()), total, now())
        (self.store.drafts / key).touch(mode=0o600)
        sync_folder(self.store.drafts)
        with self.store.transaction():
            self.store.database.execute("INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, 0, 'open', NULL, ?)", values)
        return self.get(key)

    def get(self, key: str) -> Session:
        """Raises Problem 404 for a session that never was or has expired."""
        with self.store.transaction():
            row = self.store.database.execute("SELECT * FROM uploads WHERE id = ?", (key,)).fetchone()
        if row is None:
            raise Problem(404, "notFound", "The resumable session does not exist or has expired.")
        return Session.of(row)

    def sink(self, session: Session) -> Sink:
        """The session's file, cut to what was acknowledged and open for more."""
        path = self.store.drafts / session.id
        hashes = self._hashes.pop(session.id, None)
        if hashes is None or hashes.size != session.received:
            hashes = hashes_of(path, session.received)
        return Sink(path, hashes)

    def keep(self, session: Session, sink: Sink) -> None:
        """Acknowledge what the sink holds."""
        sink.sync()
        with self.store.transaction():
            self.store.database.execute("UPDATE uploads SET received = ? WHERE id = ?", (sink.hashes.size, session.id))
        self._hashes[session.id] = sink.hashes

    def finish(self, session: Session, sink: Sink) -> Stored:
        """Turn the upload into an object. Raises Problem 412."""
        sink.sync()
        hashes = sink.hashes
        draft = Draft(sink.path, hashes.size, hashes.md5, hashes.crc32c)
        return self.store.put(session.bucket, session.name, session.meta, draft, session.conditions)

    def cancel(self, session: Session) -> None:
        """Forget the bytes."""
        self._hashes.pop(session.id, None)
        with self.store.transaction():
            self.store.database.execute(
                "UPDATE uploads SET state = 'cancelled', meta = '{}' WHERE id = ?", (session.id,)
            )
        (self.store.drafts / session.id).unlink(missing_ok=True)

    def expire(self, before: str) -> None:
        """Forget sessions that began before a time (Cloud Storage: a week)."""
        with self.store.transaction():
            sql = "DELETE FROM uploads WHERE created < ? RETURNING id"
            gone = [row["id"] for row in self.store.database.execute(sql, (before,))]
        for key in gone:
            self._hashes.pop(key, None)
            (self.store.drafts / key).unlink(missing_ok=True)
