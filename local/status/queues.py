"""Cloud Tasks, Pub/Sub, Cloud Scheduler and Workflows, from the databases of their stand-ins."""

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from local.layout import Layout
from local.scheduler_jobs import Job, load
from local.status.files import reading

MINUTES = 60
FAILING = 6
EXECUTIONS = 40
PAUSED = 2  # google.cloud.tasks.v2.Queue.State
NAME_SECONDS = 3600  # local.tasks_store keeps the name of a task for so long after its end
QUEUES = Path(__file__).parent.parent / "queues.yaml"
SCHEDULE = QUEUES.with_name("schedule.yaml")
TRACE = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def limits() -> dict[str, dict[str, Any]]:
    """Rate and concurrency of each queue."""
    return _limits(QUEUES, QUEUES.stat().st_mtime_ns)


def scheduled() -> tuple[Job, ...]:
    """The jobs of Cloud Scheduler, as they stand now: who adds one looks here whether it is there."""
    return _scheduled(SCHEDULE, SCHEDULE.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _limits(path: Path, _changed: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())["queues"]
    return found


@lru_cache(maxsize=1)
def _scheduled(path: Path, _changed: int) -> tuple[Job, ...]:
    return tuple(load(path))


def queues(layout: Layout, now: float) -> list[dict[str, Any]]:
    """Each queue: what waits, what is under way, what failed and is tried again, what was done within the hour."""
    with reading(layout.path("tasks", "tasks.db")) as database:
        if database is None:
            return []
        rows = database.execute("SELECT name, state FROM queues ORDER BY name").fetchall()
        return [_queue(database, row["name"], row["state"], now) for row in rows]


def _queue(database: Any, name: str, state: int, now: float) -> dict[str, Any]:
    short = name.rpartition("/")[2]
    counts = database.execute(
        """
        SELECT count(*) AS depth, count(*) FILTER (WHERE flying = 1) AS flying, min(created) AS oldest,
            count(*) FILTER (WHERE flying = 0 AND dispatches > 0) AS retrying,
            count(*) FILTER (WHERE flying = 0 AND dispatches = 0 AND scheduled > :now) AS later
        FROM tasks WHERE queue = :queue
        """,
        {"queue": name, "now": now},
    ).fetchone()
    failing = database.execute(
        """
        SELECT name, dispatches, last_code, scheduled, created FROM tasks
        WHERE queue = ? AND dispatches > 0 AND flying = 0 ORDER BY dispatches DESC LIMIT ?
        """,
        (name, FAILING),
    ).fetchall()
    done = [0] * MINUTES
    ended = database.execute(
        "SELECT CAST((? - (until - ?)) / 60 AS integer) AS ago, count(*) AS number FROM tombstones"
        " WHERE name LIKE ? GROUP BY ago",
        (now, NAME_SECONDS, f"{name}/tasks/%"),
    )
    for row in ended:
        if 0 <= row["ago"] < MINUTES:
            done[MINUTES - 1 - row["ago"]] += row["number"]
    own = limits().get(short, {})
    return {
        "name": short,
        "paused": state == PAUSED,
        **dict(counts),
        "done": done,
        "rate": own.get("rate"),
        "concurrency": own.get("concurrency"),
        "failing": [{**dict(row), "name": row["name"].rpartition("/")[2]} for row in failing],
    }


def messages(layout: Layout) -> dict[str, Any] | None:
    """What Pub/Sub has not delivered yet; None without the stand-in."""
    with reading(layout.path("pubsub", "messages.db")) as database:
        if database is None:
            return None
        statement = "SELECT count(*) AS depth, min(published) AS oldest, max(attempts) AS attempts FROM messages"
        return dict(database.execute(statement).fetchone())


def mails(layout: Layout) -> int:
    """How many messages the inbox holds."""
    return sum(
        1 for part in ("new", "cur") if layout.path("mail", part).is_dir() for _ in layout.path("mail", part).iterdir()
    )


def texts(layout: Layout) -> int:
    """How many text messages were taken."""
    path = layout.path("sms.jsonl")
    return path.read_bytes().count(b"\n") if path.exists() else 0


def schedule(layout: Layout) -> list[dict[str, Any]]:
    """The jobs of Cloud Scheduler: when next, and how the last attempt went (`code` null: no answer)."""
    with reading(layout.path("scheduler", "jobs.db")) as database:
        rows = database.execute("SELECT * FROM jobs").fetchall() if database else []
    states = {row["name"]: row for row in rows}
    return [
        {
            "name": job.name,
            "schedule": job.schedule,
            "target": f"{job.service} {job.path}",
            "due": states[job.name]["due"],
            "last": states[job.name]["last_attempt"],
            "code": states[job.name]["last_code"],
        }
        for job in scheduled()
        if job.name in states
    ]


def executions(layout: Layout) -> list[dict[str, Any]]:
    """The latest executions of workflows, newest first."""
    with reading(layout.path("workflows", "executions.sqlite")) as database:
        if database is None:
            return []
        rows = database.execute(
            """
            SELECT e.*, (SELECT count(*) FROM outcomes o WHERE o.execution = e.id) AS calls
            FROM executions e ORDER BY position DESC LIMIT ?
            """,
            (EXECUTIONS,),
        ).fetchall()
    return [_execution(row) for row in rows]


def _execution(row: Any) -> dict[str, Any]:
    argument = json.loads(row["argument"])
    argument = argument if isinstance(argument, dict) else {}
    sent = argument.get("headers") or {}
    found = TRACE.fullmatch(str(sent.get("traceparent", "")))
    error = json.loads(row["error"]) if row["error"] else {}
    return {
        "id": row["id"],
        "workflow": row["workflow"],
        "state": row["state"],
        "started": row["started"],
        "ended": row["ended"],
        "step": row["step"],
        "calls": row["calls"],
        "result": json.loads(row["result"]) if row["result"] else None,
        "error": str(error.get("context", ""))[:300],
        "job": argument.get("request_id"),
        "trace": found[1] if found else None,
    }
