"""Queues, tasks and the names of finished ones on disk. What a method returns is committed."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from google.cloud import tasks_v2 as api

from local.durable import database, transaction

TOMBSTONE_SECONDS = 3600  # how long the name of a deleted or executed task cannot be used again
RUNNING, PAUSED = int(api.Queue.State.RUNNING), int(api.Queue.State.PAUSED)
SCHEMA = """
CREATE TABLE IF NOT EXISTS queues (name TEXT PRIMARY KEY, body BLOB NOT NULL, state INTEGER NOT NULL, purged REAL);
CREATE TABLE IF NOT EXISTS tasks (
    name TEXT PRIMARY KEY, queue TEXT NOT NULL REFERENCES queues, body BLOB NOT NULL,
    created REAL NOT NULL, scheduled REAL NOT NULL, flying INTEGER NOT NULL DEFAULT 0,
    dispatches INTEGER NOT NULL DEFAULT 0, responses INTEGER NOT NULL DEFAULT 0, executions INTEGER NOT NULL DEFAULT 0,
    first_dispatch REAL, last_dispatch REAL, last_response REAL, last_code INTEGER
);
CREATE INDEX IF NOT EXISTS tasks_due ON tasks (queue, flying, scheduled);
CREATE TABLE IF NOT EXISTS tombstones (name TEXT PRIMARY KEY, until REAL NOT NULL);
"""


@dataclass(frozen=True)
class Record:
    """One task; times are seconds since 1970. `executions` counts the answers that were not 5xx, `last_code` is the
    HTTP status of the previous attempt, None if there was no answer."""

    name: str
    queue: str
    body: bytes
    created: float
    scheduled: float
    flying: int
    dispatches: int
    responses: int
    executions: int
    first_dispatch: float | None
    last_dispatch: float | None
    last_response: float | None
    last_code: int | None


class TaskStore:
    """`<root>/tasks/tasks.db`. One process has it open; opening it returns what was in flight to its queue."""

    def __init__(self, root: str | Path, now: float) -> None:
        self.connection = database(Path(root, "tasks", "tasks.db"), SCHEMA)
        self.connection.execute("UPDATE tasks SET flying = 0, scheduled = min(scheduled, ?) WHERE flying = 1", (now,))

    def set_queue(self, queue: api.Queue) -> None:
        """Make a queue, or give an existing one other settings; its state and tasks stay."""
        statement = """
            INSERT INTO queues (name, body, state) VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET body = excluded.body
        """
        self.connection.execute(statement, (queue.name, api.Queue.serialize(queue), RUNNING))

    def queues(self) -> list[api.Queue]:
        """All queues by name."""
        rows = self.connection.execute("SELECT body, state, purged FROM queues ORDER BY name")
        return [_queue(row) for row in rows]

    def queue(self, name: str) -> api.Queue | None:
        """One queue, or None."""
        row = self.connection.execute("SELECT body, state, purged FROM queues WHERE name = ?", (name,)).fetchone()
        return None if row is None else _queue(row)

    def set_state(self, name: str, state: int) -> None:
        """Pause or resume a queue."""
        self.connection.execute("UPDATE queues SET state = ? WHERE name = ?", (state, name))

    def purge(self, name: str, now: float) -> None:
        """Delete all tasks of a queue; their names stay taken."""
        with transaction(self.connection):
            statement = "INSERT OR REPLACE INTO tombstones (name, until) SELECT name, ? FROM tasks WHERE queue = ?"
            self.connection.execute(statement, (now + TOMBSTONE_SECONDS, name))
            self.connection.execute("DELETE FROM tasks WHERE queue = ?", (name,))
            self.connection.execute("UPDATE queues SET purged = ? WHERE name = ?", (now, name))

    def create(self, task: api.Task, queue: str, scheduled: float, now: float) -> bool:
        """Add a task; False if its name is in use or was until an hour ago."""
        with transaction(self.connection):
            self.connection.execute("DELETE FROM tombstones WHERE until <= ?", (now,))
            if self.connection.execute("SELECT 1 FROM tombstones WHERE name = ?", (task.name,)).fetchone():
                return False
            statement = """
                INSERT INTO tasks (name, queue, body, created, scheduled) VALUES (?, ?, ?, ?, ?)
                ON CONFLICT DO NOTHING
            """
            values = (task.name, queue, api.Task.serialize(task), now, scheduled)
            return self.connection.execute(statement, values).rowcount == 1

    def task(self, name: str) -> Record | None:
        """One task, or None."""
        row = self.connection.execute("SELECT * FROM tasks WHERE name = ?", (name,)).fetchone()
        return None if row is None else Record(**row)

    def tasks(self, queue: str) -> list[Record]:
        """The tasks of a queue by name."""
        rows = self.connection.execute("SELECT * FROM tasks WHERE queue = ? ORDER BY name", (queue,))
        return [Record(**row) for row in rows]

    def finish(self, name: str, now: float) -> bool:
        """Remove an executed, failed or deleted task and keep its name; False if it was gone already."""
        with transaction(self.connection):
            found = self.connection.execute("DELETE FROM tasks WHERE name = ?", (name,)).rowcount == 1
            if found:
                statement = "INSERT OR REPLACE INTO tombstones (name, until) VALUES (?, ?)"
                self.connection.execute(statement, (name, now + TOMBSTONE_SECONDS))
            return found

    def next_due(self, queue: str) -> float | None:
        """When the queue's next task that is not in flight is due."""
        statement = "SELECT min(scheduled) FROM tasks WHERE queue = ? AND flying = 0"
        due: float | None = self.connection.execute(statement, (queue,)).fetchone()[0]
        return due

    def take(self, queue: str, now: float) -> Record | None:
        """Mark the queue's oldest due task as dispatched, and return it as it was before."""
        statement = """
            SELECT * FROM tasks WHERE queue = ? AND flying = 0 AND scheduled <= ? ORDER BY scheduled, created LIMIT 1
        """
        with transaction(self.connection):
            row = self.connection.execute(statement, (queue, now)).fetchone()
            if row is None:
                return None
            self.connection.execute(
                """
                UPDATE tasks SET flying = 1, dispatches = dispatches + 1, last_dispatch = :now, last_response = NULL,
                    first_dispatch = coalesce(first_dispatch, :now)
                WHERE name = :name
                """,
                {"now": now, "name": row["name"]},
            )
            return Record(**row)

    def put_back(self, name: str, code: int | None, scheduled: float, now: float) -> None:
        """Record a failed attempt (its HTTP status, None without an answer) and when to try again."""
        self.connection.execute(
            """
            UPDATE tasks SET flying = 0, scheduled = :scheduled, last_code = :code,
                last_response = iif(:code IS NULL, NULL, :now), responses = responses + (:code IS NOT NULL),
                executions = executions + (:code IS NOT NULL AND :code < 500)
            WHERE name = :name
            """,
            {"name": name, "code": code, "scheduled": scheduled, "now": now},
        )


def _queue(row: sqlite3.Row) -> api.Queue:
    queue: api.Queue = api.Queue.deserialize(row["body"])
    queue.state = api.Queue.State(row["state"])
    if row["purged"] is not None:
        api.Queue.pb(queue).purge_time.FromMicroseconds(int(row["purged"] * 1e6))
    return queue
