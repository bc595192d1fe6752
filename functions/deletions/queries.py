"""Requests for erasure: literal SQL, one function per query."""

import json
from dataclasses import dataclass
from typing import Any

from common import errors, pagination
from common.db import Tx, database
from common.tokens import Claim
from common.wire import DatabaseError, violates
from functions.deletions.plan import PROOF, Count, Held, retained

OWNER = "Make somebody else an owner first: an organization with other members needs one."
RUNNING = "An erasure of this is scheduled, waiting or running already."
HELD = (
    "A legal hold keeps everything that this would erase. You may complain to a supervisory authority (Art. 77 GDPR)."
)
RIGHTS = "Complaint to a supervisory authority (Art. 77 GDPR), or a judicial remedy (Art. 79 GDPR)."
LACKING = "This person holds permissions that you lack."


@dataclass(frozen=True)
class Asked:
    """What somebody asks to have erased."""

    scope: str
    user_id: str | None
    reason: str | None = None


def insert_deletion(tx: Tx, deletion_id: str, asked: Asked, *, grace_seconds: int, receipt: bytes) -> str:
    """The new request as JSON. Raises 401, 403, 404, 409; a refusal for a legal hold is recorded."""
    try:
        answers = tx.flight(
            (
                """
                SELECT platform.request_deletion(:deletion_id, :scope, :person, make_interval(secs => :grace), :receipt,
                                                 :reason, 'api', NULL)
                """,
                {
                    "deletion_id": deletion_id,
                    "scope": asked.scope,
                    "person": asked.user_id,
                    "grace": grace_seconds,
                    "receipt": receipt,
                    "reason": asked.reason,
                },
            ),
            ("SELECT platform.my_deletion(:deletion_id)", {"deletion_id": deletion_id}),
        )
    except DatabaseError as error:
        if violates(error, "deletions_one_open"):
            raise errors.conflict("deletion_in_progress", RUNNING) from error
        raise
    refuse(answers[0][0][0], deletion_id)
    return shown(answers[1][0][0])


def refuse(outcome: str, deletion_id: str | None) -> None:
    """Raise what the database's answer means; return when it is ok."""
    if outcome == "denied":
        raise errors.Problem("permission_denied", "What you may do has just changed.")
    if outcome == "unknown":
        raise errors.not_found()
    if outcome == "lacks":
        raise errors.Problem("permission_denied", LACKING)
    if outcome == "last_owner":
        raise errors.conflict("last_owner", OWNER)
    if outcome == "running":
        raise errors.conflict("deletion_in_progress", RUNNING)
    if outcome == "legal_hold":
        recorded: dict[str, object] = {"deletion_id": deletion_id} if deletion_id else {}
        raise errors.Problem("legal_hold", HELD, extra=recorded, commits=True)
    if outcome != "ok":
        raise errors.unauthenticated("The account is gone.")


def rehearse(tx: Tx, asked: Asked) -> tuple[list[Count], list[Held]]:
    """What erasure would do to how many rows, and what holds would keep. Raises what the request itself would raise."""
    found = json.loads(
        tx.value("SELECT platform.rehearse_deletion(:scope, :person)", scope=asked.scope, person=asked.user_id)
    )
    refuse(found["outcome"], None)
    caller = tx.claim
    claims = [
        Claim("p", tenant_id, caller.principal_id, caller.login_session_id)  # suspended ones are counted too
        for tenant_id in found["organizations"]
    ]
    counts, held = found["counts"], found["held"]
    for claim in claims if asked.scope == "me" else [None]:
        if claim is not None:
            tx.continue_as(claim)
        part = json.loads(
            tx.value("SELECT app.rehearse_deletion(:scope, :person)", scope=asked.scope, person=asked.user_id)
        )
        counts, held = counts + part["counts"], held + part["held"]
    return counts, held


def list_deletions(
    tx: Tx, *, limit: int, after: list[str] | None, status: str | None
) -> tuple[list[str], list[str] | None]:
    """A page of JSON texts, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT found.received_at, found.job_id, found.document
        FROM (SELECT d.received_at, d.job_id, platform.my_deletion(d.job_id) AS document
              FROM platform.deletions d
              WHERE (d.received_at, d.job_id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
              ORDER BY d.received_at DESC, d.job_id DESC
              LIMIT CASE WHEN CAST(:status AS text) IS NULL THEN CAST(:limit AS integer) + 1 END) AS found
        WHERE CAST(:status AS text) IS NULL OR found.document ->> 'status' = :status
        LIMIT CAST(:limit AS integer) + 1
        """,
        limit=limit,
        time=time,
        last=last,
        status=status,
    )
    last_shown = [rows[limit - 1][0], rows[limit - 1][1]] if len(rows) > limit else None
    return [shown(row[2]) for row in rows[:limit]], last_shown


def select_deletion(tx: Tx, deletion_id: str) -> str:
    """One request that concerns the caller, as JSON. Raises 404."""
    document = tx.value("SELECT platform.my_deletion(:deletion_id)", deletion_id=deletion_id)
    if document is None:
        raise errors.not_found()
    return shown(document)


def select_by_receipt(deletion_id: str, receipt_hash: bytes) -> str:
    """The request that this receipt is for, as JSON, in a transaction of its own. Raises 404."""
    rows = database().single(
        Claim("u"),
        "SELECT platform.deletion_by_receipt(:deletion_id, :receipt)",
        deletion_id=deletion_id,
        receipt=receipt_hash,
    )
    if rows[0][0] is None:
        raise errors.not_found()
    return shown(rows[0][0])


def cancel_deletion(tx: Tx, deletion_id: str) -> str:
    """The cancelled request as JSON. Raises 404, and 409 when it has begun or is over."""
    answers = tx.flight(
        ("SELECT platform.cancel_deletion(:deletion_id)", {"deletion_id": deletion_id}),
        ("SELECT platform.my_deletion(:deletion_id)", {"deletion_id": deletion_id}),
    )
    outcome = answers[0][0][0]
    if outcome == "unknown" or answers[1][0][0] is None:
        raise errors.not_found()
    if outcome == "too_late":
        raise errors.conflict("conflict", "Only an erasure that is scheduled or waits for approval can be cancelled.")
    return shown(answers[1][0][0])


def shown(document: str) -> str:
    """The database's document as the API shows it: counts become the retained rows with their grounds."""
    found: dict[str, Any] = json.loads(document)
    counts, held = found.pop("counts"), found.pop("held")
    if found["status"] == "completed":
        counts.append({"table": PROOF, "rows": 1, "action": "keep"})
    found["retained"] = retained(counts, held)
    if found["refusal"] is not None:
        found["refusal"] = {"reason": found["refusal"], "rights": RIGHTS}
    return json.dumps(found)
