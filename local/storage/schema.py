"""The storage stand-in's tables, and a stored object as its row says."""

import base64
import hashlib
import json
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local.durable import database

TABLES = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY, resource TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS objects (
    bucket TEXT NOT NULL, name TEXT NOT NULL, generation INTEGER NOT NULL, metageneration INTEGER NOT NULL,
    size INTEGER NOT NULL, md5 TEXT NOT NULL, crc32c TEXT NOT NULL, components INTEGER NOT NULL,
    file TEXT NOT NULL, created TEXT NOT NULL, updated TEXT NOT NULL, meta TEXT NOT NULL,
    PRIMARY KEY (bucket, name)
);
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY, bucket TEXT NOT NULL, name TEXT NOT NULL, meta TEXT NOT NULL, conditions TEXT NOT NULL,
    total INTEGER, received INTEGER NOT NULL, state TEXT NOT NULL, generation INTEGER, created TEXT NOT NULL
);
"""
# What a client may set on an object; every other field of a resource is the server's.
WRITABLE = (
    *("contentType", "contentEncoding", "contentDisposition", "contentLanguage", "cacheControl"),
    *("customTime", "storageClass", "metadata"),
)


@dataclass(frozen=True)
class Stored:
    """One live object. `md5` is empty for a composed one, `components` 0 for any other."""

    bucket: str
    name: str
    generation: int
    metageneration: int
    size: int
    md5: str
    crc32c: str
    components: int
    file: str
    created: str
    updated: str
    meta: dict[str, Any]

    @classmethod
    def of(cls, row: sqlite3.Row) -> "Stored":
        """From a row of `objects`."""
        return cls(**{**dict(row), "meta": json.loads(row["meta"])})

    @property
    def etag(self) -> str:
        """Changes with every write of content or metadata."""
        digest = hashlib.sha256(f"{self.generation}/{self.metageneration}".encode()).digest()
        return base64.b64encode(digest[:9]).decode()

    def row(self) -> dict[str, Any]:
        """For an INSERT."""
        return {**self.__dict__, "meta": json.dumps(self.meta)}


def connect(path: Path) -> sqlite3.Connection:
    """Open the database; every commit is on disk when it returns, and deleted rows are overwritten."""
    connection = database(path, TABLES)
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def now() -> str:
    """The time as the API writes it, UTC to the microsecond."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def writable(resource: dict[str, Any]) -> dict[str, Any]:
    """The part of a resource that a client may set, without nulls."""
    return {key: resource[key] for key in WRITABLE if resource.get(key) is not None}
