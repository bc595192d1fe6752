"""What survives a kill: executions, the source they run, and the outcomes they have seen, in order."""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from sqlite3 import Row
from typing import Any

from local.durable import database, transaction
from local.workflows.calls import Outcome

SCHEMA = """
CREATE TABLE IF NOT EXISTS revisions (
    workflow TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL, source TEXT NOT NULL,
    PRIMARY KEY (workflow, number)
);
CREATE TABLE IF NOT EXISTS executions (
    position INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, workflow TEXT NOT NULL,
    revision INTEGER NOT NULL, argument TEXT NOT NULL, labels TEXT NOT NULL, call_log_level TEXT NOT NULL,
    state TEXT NOT NULL, started REAL NOT NULL, ended REAL, result TEXT, error TEXT, routine TEXT, step TEXT
);
CREATE TABLE IF NOT EXISTS outcomes (
    position INTEGER PRIMARY KEY AUTOINCREMENT, execution TEXT NOT NULL, key TEXT NOT NULL, outcome TEXT NOT NULL,
    UNIQUE (execution, key)
);
CREATE TABLE IF NOT EXISTS facts (
    execution TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (execution, key)
);
"""


class Journal:
    """One database, used from several threads. Every method that writes returns after the data is on disk."""

    def __init__(self, path: Path) -> None:
        self.connection = database(path, SCHEMA)
        self.lock = threading.Lock()

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """All rows of a query."""
        with self.lock:
            return self.connection.execute(sql, values).fetchall()

    def _write(self, *statements: tuple[str, tuple[Any, ...]]) -> int:
        """Run statements in one transaction; the number of rows the first one changed."""
        with self.lock, transaction(self.connection):
            counts = [self.connection.execute(sql, values).rowcount for sql, values in statements]
        return counts[0]

    def deploy(self, workflow: str, source: str) -> int:
        """The revision number of this source: the newest one if it is the same, else a new one."""
        digest = hashlib.sha256(source.encode()).hexdigest()
        newest = self.rows("SELECT * FROM revisions WHERE workflow = ? ORDER BY number DESC LIMIT 1", workflow)
        if newest and newest[0]["digest"] == digest:
            return int(newest[0]["number"])
        number = int(newest[0]["number"]) + 1 if newest else 1
        self._write(("INSERT INTO revisions VALUES (?, ?, ?, ?)", (workflow, number, digest, source)))
        return number

    def revision(self, workflow: str, number: int) -> Row:
        """A revision's row."""
        return self.rows("SELECT * FROM revisions WHERE workflow = ? AND number = ?", workflow, number)[0]

    def create(self, execution: str, workflow: str, revision: int, argument: str, labels: str, log_level: str) -> None:
        """Store a new active execution."""
        sql = (
            "INSERT INTO executions (id, workflow, revision, argument, labels, call_log_level, state, started)"
            " VALUES (?, ?, ?, ?, ?, ?, 'ACTIVE', ?)"
        )
        self._write((sql, (execution, workflow, revision, argument, labels, log_level, time.time())))

    def execution(self, execution: str) -> Row | None:
        """An execution's row."""
        found = self.rows("SELECT * FROM executions WHERE id = ?", execution)
        return found[0] if found else None

    def active(self) -> list[str]:
        """The ids of executions that are to be gone on with, oldest first."""
        return [row["id"] for row in self.rows("SELECT id FROM executions WHERE state = 'ACTIVE' ORDER BY position")]

    def page(self, workflow: str, before: int, count: int) -> list[Row]:
        """Executions of a workflow, newest first, from those older than position `before`."""
        sql = "SELECT * FROM executions WHERE workflow = ? AND position < ? ORDER BY position DESC LIMIT ?"
        return self.rows(sql, workflow, before, count)

    def outcomes(self, execution: str) -> list[tuple[str, Outcome | None]]:
        """What came back from its calls, in the order it came."""
        found = self.rows("SELECT key, outcome FROM outcomes WHERE execution = ? ORDER BY position", execution)
        return [(row["key"], json.loads(row["outcome"])) for row in found]

    def record(self, execution: str, key: str, outcome: Outcome | None) -> None:
        """Keep what came back from one call."""
        sql = "INSERT INTO outcomes (execution, key, outcome) VALUES (?, ?, ?)"
        self._write((sql, (execution, key, json.dumps(outcome))))

    def remember(self, execution: str, key: str, learn: Callable[[], float]) -> float:
        """What the execution learned under this key, learned now if it is the first time."""
        found = self.rows("SELECT value FROM facts WHERE execution = ? AND key = ?", execution, key)
        if found:
            return float(found[0]["value"])
        value = learn()
        self._write(("INSERT INTO facts VALUES (?, ?, ?)", (execution, key, repr(value))))
        return value

    def finish(self, execution: str, state: str, result: str | None, error: str | None, place: tuple[str, str]) -> bool:
        """End an active execution and drop its journal; False when it had ended already."""
        sql = (
            "UPDATE executions SET state = ?, result = ?, error = ?, routine = ?, step = ?, ended = ?"
            " WHERE id = ? AND state = 'ACTIVE'"
        )
        changed = self._write(
            (sql, (state, result, error, *place, time.time(), execution)),
            ("DELETE FROM outcomes WHERE execution = ?", (execution,)),
            ("DELETE FROM facts WHERE execution = ?", (execution,)),
        )
        return changed == 1
