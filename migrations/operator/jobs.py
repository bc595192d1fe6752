"""Jobs that get no further and messages that wait: look at them, and start them anew."""

from argparse import Namespace

from common.settings import job_silence_seconds
from migrations.operator.desk import DONE, REFUSED, Answer, Desk, table

PAUSE_SECONDS = 3600  # before Cloud Scheduler's job starts a failed erasure, or one that gets no further, anew

JOB_WORDS = {
    "queued": "queued: the next drain of the outbox starts it, within a minute",
    "unknown": "there is no such job",
    "running": "it is running: nothing was done",
    "starting": "it is about to start, within a minute: nothing was done",
    "finished": "it has finished: nothing was done",
    "cancelled": "it was cancelled: nothing was done",
    "waits": "it waits for its time or an approval: nothing was done",
    "settling": "its files are still being removed: try again in a minute",
    "forbidden": "whoever asked for it, or whom it is about, is no member with that permission any more",
    "superseded": "another one about the same has been asked for and is open",
    "untouched": "it failed before anything was erased, and what it needed is gone: the person has to ask again",
}
MESSAGE_WORDS = {
    "queued": "queued: the next drain of the outbox sends it, within a minute",
    "unknown": "there is no such message",
    "delivered": "it was delivered: nothing was done",
    "busy": "it is being delivered: nothing was done",
    "waits": "its time has not come: nothing was done",
    "started": "its task was handed over: replay the job that it starts",
}


def jobs(desk: Desk, chosen: Namespace) -> Answer:
    """Jobs that are stuck, silent or failed."""
    with desk.transaction():
        found = desk.tables(
            """
            SELECT id, kind, state, organization_id AS organization,
                   date_trunc('second', clock_timestamp() - queued_at) AS age, attempts, error,
                   next_try_at AS next_try
            FROM platform.jobs_to_see(make_interval(secs => :silence), make_interval(secs => :pause), :every, :most)
            """,
            silence=job_silence_seconds(),
            pause=PAUSE_SECONDS,
            every=chosen.all,
            most=chosen.limit,
        )
        desk.record("job.read", "job", jobs=len(found))
    return Answer(DONE, table(found, "no job is stuck or failed"), {"jobs": found})


def replay(desk: Desk, chosen: Namespace) -> Answer:
    """Start a job anew, as Cloud Scheduler's job would."""
    with desk.transaction():
        ((outcome, kind, state),) = desk.rows(
            "SELECT * FROM platform.replay_job(:job, make_interval(secs => :silence), CAST(:noted AS jsonb), :request)",
            job=chosen.job,
            silence=job_silence_seconds(),
        )
    document = {"job_id": str(chosen.job), "kind": kind, "was": state, "outcome": outcome}
    return Answer(DONE if outcome == "queued" else REFUSED, [JOB_WORDS[outcome]], document)


def messages(desk: Desk, chosen: Namespace) -> Answer:
    """Messages of the outbox that wait, and mails and texts that were handed over and not delivered."""
    with desk.transaction():
        found = desk.tables(
            """
            SELECT id, kind, name, state, reference, date_trunc('second', clock_timestamp() - created_at) AS age,
                   sent_at AS sent
            FROM platform.messages_to_see(make_interval(secs => :silence), :most)
            """,
            silence=job_silence_seconds(),
            most=chosen.limit,
        )
        desk.record("message.read", "message", messages=len(found))
    return Answer(DONE, table(found, "no message waits"), {"messages": found})


def send(desk: Desk, chosen: Namespace) -> Answer:
    """Send a message anew."""
    with desk.transaction():
        outcome = desk.value(
            "SELECT platform.send_again(:message, CAST(:noted AS jsonb), :request)", message=chosen.message
        )
    document = {"message_id": str(chosen.message), "outcome": outcome}
    return Answer(DONE if outcome == "queued" else REFUSED, [MESSAGE_WORDS[outcome]], document)
