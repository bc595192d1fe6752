"""Time limits and jobs that get no further: literal SQL, one function per query, each a transaction of its own."""

from dataclasses import dataclass

from common.db import database
from common.tokens import Claim

SYSTEM = Claim("s")


@dataclass(frozen=True)
class Restarted:
    """A job that was queued again; `stuck` when it has done nothing more several times in a row. `reason` is a code."""

    id: str
    kind: str
    attempts: int
    stuck: bool
    reason: str


@dataclass(frozen=True)
class Reminder:
    """Mails about a request: `kind` is week, two_days or overdue; `operator` where the platform's operator is told."""

    job_id: str
    kind: str
    mails: int
    operator: bool


@dataclass(frozen=True)
class Alarm:
    """Mails about an incident's 72 hours: `kind` is due or overdue."""

    incident_id: str
    kind: str
    mails: int
    of_platform: bool


def requeue_stuck_jobs(silence_seconds: int, pause_seconds: int) -> list[Restarted]:
    """Queue jobs again that have been silent for so long; those that get no further only after the pause."""
    rows = database().single(
        SYSTEM,
        "SELECT * FROM platform.requeue_stuck_jobs(make_interval(secs => :silence), make_interval(secs => :pause))",
        silence=silence_seconds,
        pause=pause_seconds,
    )
    return [Restarted(*row) for row in rows]


def requeue_failed_deletions(pause_seconds: int) -> list[Restarted]:
    """Queue erasures again that failed so long ago with the account frozen."""
    rows = database().single(
        SYSTEM, "SELECT * FROM platform.requeue_failed_deletions(make_interval(secs => :pause))", pause=pause_seconds
    )
    return [Restarted(*row) for row in rows]


def insert_reminders(*, to_operator: bool) -> list[Reminder]:
    """The reminders that are due and were not written yet, with their mails; what the operator gets only if told so."""
    rows = database().single(
        SYSTEM, "SELECT * FROM platform.remind_of_deadlines(:to_operator)", to_operator=to_operator
    )
    return [Reminder(*row) for row in rows]


def insert_alarms(*, to_operator: bool) -> list[Alarm]:
    """The alarms of incidents that are due and were not written yet, with their mails."""
    rows = database().single(
        SYSTEM, "SELECT * FROM platform.remind_of_incidents(:to_operator)", to_operator=to_operator
    )
    return [Alarm(*row) for row in rows]


def continue_incidents(most: int, request_id: str) -> int:
    """Tell some organizations of an incident of the platform that they were not told of yet; how many."""
    rows = database().single(
        SYSTEM, "SELECT platform.continue_incidents(:most, :request_id)", most=most, request_id=request_id
    )
    return int(rows[0][0])
