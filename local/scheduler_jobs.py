"""The jobs of Cloud Scheduler: what the file says of them, when they are due, how they went."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cronsim import CronSim

from local.backoff import Backoff
from local.durable import database
from local.layout import catalog

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    name TEXT PRIMARY KEY, schedule TEXT NOT NULL, due REAL NOT NULL, last_attempt REAL, last_code INTEGER
);
"""


@dataclass(frozen=True)
class Job:
    """One entry of the schedule with Cloud Scheduler's defaults; times in seconds."""

    name: str
    schedule: str
    service: str
    path: str
    retry_count: int = 0
    min_backoff: float = 5
    max_backoff: float = 3600
    max_doublings: int = 5
    attempt_deadline: float = 180

    def __post_init__(self) -> None:
        CronSim(self.schedule, datetime.now(UTC))  # raises CronSimError
        if len(self.schedule.split()) != 5 or self.service not in catalog() or not self.path.startswith("/"):
            raise ValueError(
                f"job {self.name}: unix-cron has five fields, the service is of the catalog, a path starts with /"
            )
        if not 0 <= self.retry_count <= 5 or not 15 <= self.attempt_deadline <= 1800:
            raise ValueError(f"job {self.name}: at most 5 retries, a deadline of 15 s to 30 min")

    @property
    def backoff(self) -> Backoff:
        """The time between its retries."""
        return Backoff(self.min_backoff, self.max_backoff, self.max_doublings)

    def after(self, moment: float) -> float:
        """The first time after `moment` (seconds since 1970) that the schedule names."""
        return next(CronSim(self.schedule, datetime.fromtimestamp(moment, UTC))).timestamp()

    def latest(self, due: float, now: float) -> float:
        """Of a start that is due and those that were missed since, the last: missed starts are made up for once."""
        before = CronSim(self.schedule, datetime.fromtimestamp(now, UTC), reverse=True)
        return max(due, next(before).timestamp())


@dataclass(frozen=True)
class State:
    """When a job is due, and its last attempt: when, and the HTTP status (None without an answer)."""

    due: float
    last_attempt: float | None
    last_code: int | None


class JobStore:
    """`<root>/scheduler/jobs.db`. A start that was due while the scheduler was away is still due after it is back."""

    def __init__(self, root: str | Path, jobs: list[Job], now: float) -> None:
        self.connection = database(Path(root, "scheduler", "jobs.db"), SCHEMA)
        for job in jobs:
            self.connection.execute(
                """
                INSERT INTO jobs (name, schedule, due) VALUES (:name, :schedule, :due)
                ON CONFLICT (name) DO UPDATE SET schedule = excluded.schedule, due = excluded.due
                WHERE schedule <> excluded.schedule
                """,
                {"name": job.name, "schedule": job.schedule, "due": job.after(now)},
            )

    def state(self, name: str) -> State:
        """How a job stands."""
        statement = "SELECT due, last_attempt, last_code FROM jobs WHERE name = ?"
        return State(**self.connection.execute(statement, (name,)).fetchone())

    def set_due(self, name: str, due: float) -> None:
        """When the job starts next."""
        self.connection.execute("UPDATE jobs SET due = ? WHERE name = ?", (due, name))

    def set_attempt(self, name: str, at: float, code: int | None) -> None:
        """How the last attempt went."""
        self.connection.execute("UPDATE jobs SET last_attempt = ?, last_code = ? WHERE name = ?", (at, code, name))


def load(path: Path) -> list[Job]:
    """The jobs of a schedule file. Raises ValueError, CronSimError, TypeError for what a job cannot be."""
    entries: list[dict[str, Any]] = yaml.safe_load(path.read_text())
    return [Job(**entry) for entry in entries]


def text(moment: float) -> str:
    """Seconds since 1970 as RFC 3339 in UTC."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
