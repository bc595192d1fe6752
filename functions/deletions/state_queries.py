"""Where an erasure stands, for its steps: literal SQL, one function per query. The job is the seal's."""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple

from common import jobs
from common.db import OUTBOX_SENT, Tx, database
from common.outbox import Message, send_now


@dataclass(frozen=True)
class Brief:
    """What the steps have to know of the request."""

    scope: str
    tenant_id: str | None


class Child(NamedTuple):
    """The part of a person's own erasure in one organization: `opened`, `refused` or `none`, its id and message."""

    outcome: str
    job_id: str | None
    message: str | None


class LastMail(NamedTuple):
    """To whom the last mail goes, and what it has to say."""

    email: str
    receipt_hash: bytes
    scope: str
    organization: str | None
    retains: bool


def begin_step(tx: Tx, step: str) -> str:
    """`run`, `done` (before), or `absent` when the request has no such step."""
    return str(tx.value("SELECT platform.begin_step(:step)", step=step))


def select_brief(tx: Tx) -> Brief:
    """What the request is about."""
    found: dict[str, Any] = json.loads(tx.value("SELECT CAST(platform.deletion_brief() AS text)"))
    return Brief(found["scope"], found["tenant_id"])


def ensure_receipt(tx: Tx, receipt_hash: bytes) -> None:
    """A request that nobody made by hand gets its receipt."""
    tx.rows("SELECT platform.ensure_receipt(:receipt)", receipt=receipt_hash)


def open_child(tx: Tx, child_id: str) -> Child:
    """The request's part in the sealed organization."""
    outcome, opened, message = tx.rows(
        "SELECT outcome, opened, message FROM platform.open_child(:child)", child=child_id
    )[0]
    return Child(str(outcome), None if opened is None else str(opened), None if message is None else str(message))


def await_children(tx: Tx, execution: str) -> str:
    """`done`; `waiting` when the job rests until its last child wakes it; `lost`."""
    return str(tx.value("SELECT platform.await_children(:execution)", execution=execution))


def select_refused(tx: Tx) -> list[str]:
    """The organizations in which a hold keeps everything."""
    return [str(row[0]) for row in tx.rows("SELECT platform.refused_tenants()")]


def note_held(tx: Tx) -> None:
    """What legal holds keep, of the sealed organization or of the account."""
    tx.rows("SELECT platform.note_held()")


def claim_last_mail(tx: Tx) -> LastMail | None:
    """The last mail, None when it has been sent, another step is sending it, or nobody is to be told."""
    found = tx.row("SELECT email, receipt_hash, scope, organization, retains FROM platform.claim_last_mail()")
    return LastMail(*found) if found else None


def end(job_id: str, execution: str, outcome: str, reason: str | None, request_id: str) -> bool:
    """Whether the execution ended the job; what goes on by its end is started. Its organizations' chains tell of it."""
    (row,) = database().single(
        jobs.claim(),
        """
        SELECT ended, CAST(messages AS text[])
        FROM platform.end_deletion(:job, :execution, :outcome, :reason, :request)
        """,
        job=job_id,
        execution=execution,
        outcome=outcome,
        reason=reason,
        request=request_id,
    )
    send([str(message) for message in row[1]])
    return row[0] is True


def send(message_ids: list[str]) -> None:
    """Send messages that the database wrote; what fails is the drainer's."""
    if not message_ids:
        return
    rows = database().single(
        jobs.claim(),
        "SELECT id, kind, name, reference, task_name FROM platform.erasure_messages(CAST(:ids AS uuid[]))",
        ids=message_ids,
    )
    messages = [Message(kind, name, str(job), str(key), str(task)) for key, kind, name, job, task in rows]
    send_now(messages, lambda message: database().single(jobs.claim(), OUTBOX_SENT, message_id=message.id))
