"""Requests for erasure: literal SQL, one function per query."""

import json
from typing import Any

from common import errors, pagination
from common.db import Tx, database
from common.tokens import Claim
from common.wire import DatabaseError, violates
from functions.deletions.plan import PROOF, STEPS, Count, retained

OWNER = "Make somebody else an owner first: an organization with other members needs one."
RUNNING = "An erasure of this account is scheduled or running already."


def insert_deletion(tx: Tx, deletion_id: str, *, grace_seconds: int, receipt: bytes, reason: str | None) -> str:
    """The new request as JSON. Raises 409 `last_owner`, `deletion_in_progress`."""
    try:
        answers = tx.flight(
            (
                """
                SELECT platform.open_deletion(:deletion_id, make_interval(secs => :grace), :receipt, :reason,
                                              CAST(:steps AS text[]))
                """,
                {
                    "deletion_id": deletion_id,
                    "grace": grace_seconds,
                    "receipt": receipt,
                    "reason": reason,
                    "steps": list(STEPS),
                },
            ),
            ("SELECT platform.my_deletion(:deletion_id)", {"deletion_id": deletion_id}),
        )
    except DatabaseError as error:
        if violates(error, "deletions_one_open"):
            raise errors.conflict("deletion_in_progress", RUNNING) from error
        raise
    outcome, document = answers[0][0][0], answers[1][0][0]
    if outcome == "last_owner":
        raise errors.conflict("last_owner", OWNER)
    if document is None:
        raise errors.unauthenticated("The account is gone.")
    return shown(document)


def select_plan_counts(tx: Tx) -> list[Count]:
    """What erasure would do to how many rows, in every organization of the caller. Raises 409 `last_owner`."""
    last_owner, found = tx.flight(
        ("SELECT platform.preview_last_owner()", {}), ("SELECT platform.preview_deletion()", {})
    )
    if last_owner[0][0]:
        raise errors.conflict("last_owner", OWNER)
    preview = json.loads(found[0][0])
    counts: list[Count] = preview["counts"]
    caller = tx.claim
    for tenant_id in preview["organizations"]:
        tx.continue_as(Claim(caller.kind, tenant_id, caller.principal_id, caller.login_session_id))
        counts += json.loads(tx.value("SELECT app.preview_deletion()"))
    return counts


def list_deletions(tx: Tx, *, limit: int, after: list[str] | None) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT d.received_at, d.job_id, platform.my_deletion(d.job_id)
        FROM platform.deletions d
        WHERE d.subject_id = :user_id
            AND (d.received_at, d.job_id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
        ORDER BY d.received_at DESC, d.job_id DESC
        LIMIT CAST(:limit AS integer) + 1
        """,
        limit=limit,
        time=time,
        last=last,
    )
    items = ",".join(shown(row[2]) for row in rows[:limit])
    return f"[{items}]", [rows[limit - 1][0], rows[limit - 1][1]] if len(rows) > limit else None


def select_deletion(tx: Tx, deletion_id: str) -> str:
    """One request of the caller as JSON. Raises 404."""
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
    if outcome == "unknown":
        raise errors.not_found()
    if outcome == "too_late":
        raise errors.conflict("conflict", "Only a scheduled erasure can be cancelled.")
    return shown(answers[1][0][0])


def shown(document: str) -> str:
    """The database's document as the API shows it: counts become the retained rows with their grounds."""
    found: dict[str, Any] = json.loads(document)
    counts: list[Count] = found.pop("counts")
    if found["status"] == "completed":
        counts.append({"table": PROOF, "rows": 1, "action": "keep"})
    found["retained"] = retained(counts)
    return json.dumps(found)
