"""Time limits of exports and erasures, and jobs that get no further: who should know is told."""

from common import log
from common.http import Call, Json, Table
from common.settings import settings
from functions.retention import desk_queries as queries
from functions.retention.schemas import Reminded, Requeued

part = Table()
SCHEDULER = "service:scheduler"
PAUSE_SECONDS = 3600  # before a failed erasure starts anew, and between the tries of a job that gets no further


@part.on("POST", "/internal/jobs/requeue", needs=SCHEDULER, body=None, answers=Requeued)
def requeue(_call: Call) -> Json:
    """Start jobs anew that have fallen silent, and erasures that failed after the person was locked out."""
    silent = queries.requeue_stuck_jobs(settings().job_silence_seconds, PAUSE_SECONDS)
    failed = queries.requeue_failed_deletions(PAUSE_SECONDS)
    for job in silent + failed:
        severity, message = ("CRITICAL", "a job gets no further") if job.stuck else ("WARNING", "a job starts anew")
        log.entry(severity, message, job_id=job.id, kind=job.kind, attempts=job.attempts, reason=job.reason)
    return {"stuck": len(silent), "failed_deletions": len(failed)}


@part.on("POST", "/internal/privacy/remind", needs=SCHEDULER, body=None, answers=Reminded)
def remind(_call: Call) -> Json:
    """Write the mails that say of a request that it is due in seven or two days, or overdue: each once."""
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
