"""Buckets and objects on disk: rows in SQLite, bytes in files; one lock, so every check and change is one step."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from local.durable import transaction
from local.storage import retaining
from local.storage.conditions import Conditions
from local.storage.content import sync_folder
from local.storage.problems import Problem, no_bucket, no_object
from local.storage.schema import Stored, connect, now

Change = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Draft:
    """Bytes that are complete and synced, waiting to become an object."""

    path: Path
    size: int
    md5: str
    crc32c: str
    components: int = 0


class Store:
    """Every method is synchronous and safe to call from any thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.drafts = root / ".uploads"
        self.drafts.mkdir(parents=True, exist_ok=True)
        self.database = connect(root / ".metadata" / "objects.db")
        self._lock = threading.RLock()
        highest = self.database.execute("SELECT coalesce(max(generation), 0) FROM objects").fetchone()[0]
        self._generation = int(highest)
        self._sweep_files()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock; commit at the end, roll back on a raise."""
        with self._lock, transaction(self.database):
            yield

    def insert_bucket(self, name: str, resource: dict[str, Any]) -> None:
        """Make a bucket and its folder. Raises Problem 409 if it exists."""
        with self.transaction():
            if self.database.execute("SELECT 1 FROM buckets WHERE name = ?", (name,)).fetchone():
                message = "Your previous request to create the named bucket succeeded and you already own it."
                raise Problem(409, "conflict", message)
            (self.root / name).mkdir(exist_ok=True)
            sync_folder(self.root)
            self.database.execute("INSERT INTO buckets VALUES (?, ?)", (name, json.dumps(resource)))

    def bucket(self, name: str) -> dict[str, Any]:
        """A bucket's resource. Raises Problem 404."""
        with self._lock:
            row = self.database.execute("SELECT resource FROM buckets WHERE name = ?", (name,)).fetchone()
        if row is None:
            raise no_bucket()
        resource: dict[str, Any] = json.loads(row["resource"])
        return resource

    def buckets(self) -> list[dict[str, Any]]:
        """All buckets by name."""
        with self._lock:
            rows = self.database.execute("SELECT resource FROM buckets ORDER BY name").fetchall()
        return [json.loads(row["resource"]) for row in rows]

    def patch_bucket(self, name: str, conditions: Conditions, change: Change) -> dict[str, Any]:
        """Change a bucket's resource. Raises Problem 404 or 412."""
        with self.transaction():
            found = self.bucket(name)
            conditions.check_metageneration(int(found["metageneration"]))
            made = change(found) | {"metageneration": str(int(found["metageneration"]) + 1), "updated": now()}
            self.database.execute("UPDATE buckets SET resource = ? WHERE name = ?", (json.dumps(made), name))
            return made

    def delete_bucket(self, name: str, conditions: Conditions) -> None:
        """Delete an empty bucket. Raises Problem 404, 409 or 412."""
        with self.transaction():
            conditions.check_metageneration(int(self.bucket(name)["metageneration"]))
            if self.database.execute("SELECT 1 FROM objects WHERE bucket = ? LIMIT 1", (name,)).fetchone():
                raise Problem(409, "conflict", "The bucket you tried to delete is not empty.")
            self.database.execute("DELETE FROM uploads WHERE bucket = ?", (name,))
            self.database.execute("DELETE FROM buckets WHERE name = ?", (name,))

    def find(self, bucket: str, name: str) -> Stored | None:
        """The live object, if any."""
        with self._lock:
            row = self.database.execute(
                "SELECT * FROM objects WHERE bucket = ? AND name = ?", (bucket, name)
            ).fetchone()
        return Stored.of(row) if row else None

    def get(self, bucket: str, name: str, generation: int | None, conditions: Conditions) -> Stored:
        """The live object for a read. Raises Problem 404, 412 or 304."""
        self.bucket(bucket)
        found = self.find(bucket, name)
        if found is None or generation not in (None, found.generation):
            raise no_object(bucket, name)
        conditions.check_read(found)
        return found

    def open(self, bucket: str, name: str, generation: int | None, conditions: Conditions) -> tuple[Stored, BinaryIO]:
        """The live object and its bytes: a later write or deletion does not disturb the reader."""
        with self._lock:
            found = self.get(bucket, name, generation, conditions)
            return found, (self.root / bucket / found.file).open("rb")

    def put(self, bucket: str, name: str, meta: dict[str, Any], draft: Draft, conditions: Conditions) -> Stored:
        """Make a draft the live object; its session, if it has one, is done in the same transaction.

        The draft is linked into the bucket first and its own name goes last, so that a crash at any point leaves
        either the old state with the draft, or the new one. Raises Problem 403 (retained), 404 (bucket) or 412.
        """
        with self._lock:
            kept = self.bucket(bucket)
            old = self.find(bucket, name)
            conditions.check_write(old)
            if old:
                retaining.check(kept, old)
            stored = self._new(bucket, name, meta, draft)
            (self.root / bucket / stored.file).hardlink_to(draft.path)
            sync_folder(self.root / bucket)
            with self.transaction():
                self._insert(stored)
                sql = "UPDATE uploads SET state = 'done', received = ?, generation = ?, meta = '{}' WHERE id = ?"
                self.database.execute(sql, (stored.size, stored.generation, draft.path.name))
            draft.path.unlink()
            if old:
                self._unlink(old)
            return stored

    def patch(self, key: tuple[str, str], generation: int | None, conditions: Conditions, change: Change) -> Stored:
        """Change an object's metadata. Raises Problem 404 or 412."""
        with self.transaction():
            current = self.get(*key, generation, Conditions())
            conditions.check_write(current)
            meta = change(current.meta)
            changed = replace(current, meta=meta, metageneration=current.metageneration + 1, updated=now())
            self._insert(changed)
            return changed

    def delete(self, bucket: str, name: str, generation: int | None, conditions: Conditions) -> None:
        """Delete the row and the bytes. Raises Problem 403 (retained), 404 or 412."""
        with self._lock:
            found = self.get(bucket, name, generation, Conditions())
            conditions.check_write(found)
            retaining.check(self.bucket(bucket), found)
            with self.transaction():
                self.database.execute("DELETE FROM objects WHERE bucket = ? AND name = ?", (bucket, name))
            self._unlink(found)

    def page(self, bucket: str, start: str, limit: int) -> list[Stored]:
        """At most `limit` objects whose name is `start` or later, in UTF-8 order."""
        sql = "SELECT * FROM objects WHERE bucket = ? AND name >= ? ORDER BY name LIMIT ?"
        with self._lock:
            return [Stored.of(row) for row in self.database.execute(sql, (bucket, start, limit))]

    def expire(self, bucket: str, before: str) -> int:
        """The lifecycle rule: delete what was created before a time and is not retained. Returns how many."""
        sql = "SELECT * FROM objects WHERE bucket = ? AND created < ?"
        with self._lock:
            kept = self.bucket(bucket)
            found = [Stored.of(row) for row in self.database.execute(sql, (bucket, before)).fetchall()]
            old = [stored for stored in found if not retaining.retained(kept, stored)]
            for stored in old:
                self.delete(bucket, stored.name, stored.generation, Conditions())
        return len(old)

    def copy_bytes(self, source: Stored, target: Path) -> None:
        """Copy an object's bytes to a synced file."""
        _, file = self.open(source.bucket, source.name, source.generation, Conditions())
        with file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
            copy.flush()
            os.fsync(copy.fileno())

    def _new(self, bucket: str, name: str, meta: dict[str, Any], draft: Draft) -> Stored:
        self._generation = max(self._generation + 1, time.time_ns() // 1000)
        file = f"{self._generation}-{quote(name, safe='')[:180]}"
        return Stored(
            bucket=bucket,
            name=name,
            generation=self._generation,
            metageneration=1,
            size=draft.size,
            md5=draft.md5,
            crc32c=draft.crc32c,
            components=draft.components,
            file=file,
            created=(at := now()),
            updated=at,
            meta=meta,
        )

    def _insert(self, stored: Stored) -> None:
        sql = """
            INSERT OR REPLACE INTO objects VALUES (
                :bucket, :name, :generation, :metageneration, :size, :md5, :crc32c, :components,
                :file, :created, :updated, :meta
            )
        """
        self.database.execute(sql, stored.row())

    def _unlink(self, stored: Stored) -> None:
        (self.root / stored.bucket / stored.file).unlink(missing_ok=True)
        sync_folder(self.root / stored.bucket)

    def _sweep_files(self) -> None:
        """After a crash: remove bytes that no row names (an upload not committed, a deletion not finished)."""
        for bucket in self.buckets():
            rows = self.database.execute("SELECT file FROM objects WHERE bucket = ?", (bucket["name"],))
            known = {row["file"] for row in rows}
            for path in (self.root / bucket["name"]).iterdir():
                if path.name not in known:
                    path.unlink()
        live = {row["id"] for row in self.database.execute("SELECT id FROM uploads WHERE state = 'open'")}
        for path in self.drafts.iterdir():
            if path.name not in live:
                path.unlink()
