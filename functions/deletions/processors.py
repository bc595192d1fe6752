"""Processors are told of an erasure (Art. 19 GDPR): signed, again and again while one is away, and at last given up.

Nothing is sent inside a transaction: a try is noted, sent, and its end noted. What was sent and not noted is sent again
under the same webhook-id. While one is away the job is parked: its next execution begins when the pause is over.
"""

from common import jobs, log, webhooks
from common.db import database
from common.fetching import Unreachable
from common.settings import settings
from functions.deletions import proof_queries as queries

STEP = "processors"
DONE, WAITING = "done", "waiting"
LATER = 202  # taken, and acknowledged by a message of its own
TAKEN = range(200, 300)


def tell(job_id: str, execution: str) -> str:
    """Tell each processor that does not know: `done`, or `waiting` when the job is parked until the next try.

    Raises 409 when another execution has the job.
    """
    names = list(webhooks.processors())
    with database().transaction(jobs.claim(job_id)) as tx:
        lost = queries.give_up_processors(tx, names, settings().processor_patience_seconds)
        due = queries.claim_processors(tx, names, settings().processor_pause_seconds)
    for name in lost:
        log.entry("CRITICAL", "a processor could not be told of an erasure", job_id=job_id, processor=name)
    told = sum(_send(job_id, name, body) for name, body in due)
    with database().transaction(jobs.claim(job_id)) as tx:
        waits = queries.processors_wait(tx)
        queries.progress(tx, STEP, "running" if waits else "done", told)
    if not waits:
        return DONE
    if not queries.park_job(job_id, execution):
        raise jobs.lost()
    return WAITING


def message_id(job_id: str, name: str) -> str:
    """The webhook-id: the same at every try, so that the processor does it once."""
    return f"erasure_{job_id}_{name}"


def _send(job_id: str, name: str, body: str) -> bool:
    """One try; whether the processor took the message."""
    try:
        status = webhooks.send(webhooks.processors()[name], message_id(job_id, name), body.encode())
        why = "" if status in TAKEN else f"status {status}"
    except Unreachable as error:
        status, why = 0, str(error)
    with database().transaction(jobs.claim(job_id)) as tx:
        if not why:
            queries.processor_told(tx, name, acknowledged=status != LATER)
            return True
        queries.processor_failed(tx, name, why)
    log.entry("WARNING", "a processor took no message", job_id=job_id, processor=name, why=why)
    return False
