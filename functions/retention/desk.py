"""Time limits of exports, erasures and incidents, and jobs that get no further: who should know is told."""

import time

from common import log
from common.http import Call, Json, Table
from common.settings import settings
from functions.retention import desk_queries as queries
from functions.retention.schemas import Reminded, Requeued

part = Table()
SCHEDULER = "service:scheduler"
ORGANIZATIONS = 50
TELL_SECONDS = 120.0
PAUSE_SECONDS = 3600  # before a failed erasure starts anew, and between the tries of a job that gets no further


@part.on("POST", "/internal/jobs/requeue", needs=SCHEDULER, body=None, answers=Requeued)
def requeue(_call: Call) -> Json:
    """Start jobs anew that have fallen silent, and erasures that failed after the person was locked out."""
    silent = queries.requeue_stuck_jobs(settings().job_silence_seconds, PAUSE_SECONDS)
    failed = queries.requeue_failed_deletions(PAUSE_SECONDS)
    for job in silent + failed:
        log.entry(
            "CRITICAL" if job.stuck else "WARNING",
            "a job gets no further" if job.stuck else "a job starts anew",
            job_id=job.id,
            kind=job.kind,
            attempts=job.attempts,
            reason=job.reason,
        )
    return {"stuck": len(silent), "failed_deletions": len(failed)}


@part.on("POST", "/internal/privacy/remind", needs=SCHEDULER, body=None, answers=Reminded)
def remind(call: Call) -> Json:
    """Write the mails that say of a request or incident that its time is nearly or wholly over: each once.

    Organizations that an incident of the platform concerns, and whom the operator's command did not come to, are told.
    """
    told = _tell_organizations(call.request_id)
    return {**_remind_of_requests(), **_remind_of_incidents(), "organizations": told}


def _remind_of_requests() -> dict[str, int]:
    to_operator = bool(settings().privacy_mail)
    reminders = queries.insert_reminders(to_operator=to_operator)
    for reminder in reminders:
        untold = reminder.operator and not to_operator
        log.entry(
            "CRITICAL" if untold or reminder.kind == "overdue" else "WARNING",
            "a request is overdue" if reminder.kind == "overdue" else "a request is due soon",
            job_id=reminder.job_id,
            level=reminder.kind,
            mails=0 if untold else reminder.mails,
        )
    return {"requests": len(reminders), "mails": sum(reminder.mails for reminder in reminders)}


def _remind_of_incidents() -> dict[str, int]:
    """Whoever answers for the incident gets a mail; the alarm stands in the log, too, even if nobody does."""
    alarms = queries.insert_alarms(to_operator=bool(settings().privacy_mail))
    for alarm in alarms:
        over = alarm.kind == "overdue"
        log.security(
            "CRITICAL",
            "the 72 hours of an incident are over" if over else "the 72 hours of an incident are over within a day",
            incident_id=alarm.incident_id,
            level=alarm.kind,
            of_platform=alarm.of_platform,
            mails=alarm.mails,
        )
    return {"incidents": len(alarms)}


def _tell_organizations(request_id: str) -> int:
    """A batch each a transaction; what is left when the time is over, the next run tells."""
    deadline = time.monotonic() + TELL_SECONDS
    total = 0
    while time.monotonic() < deadline:
        told = queries.continue_incidents(ORGANIZATIONS, request_id)
        total += told
        if told < ORGANIZATIONS:
            break
    if total:
        log.security("WARNING", "organizations were told of an incident of the platform", organizations=total)
    return total
