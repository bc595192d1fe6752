"""The data-protection officer's queue: literal SQL, one function per query."""

from datetime import datetime

from common import errors, pagination
from common.db import Tx
from common.wire import DatabaseError, violates

NO_MEMBER = {"user_id": ["Is not a member of this organization."]}
EXPORT_RUNS = "An export of this person's data is running already; wait for it or cancel it."
ERASURE_RUNS = "An erasure of this person is scheduled, waiting or running already."
EXTENSION_REFUSED = {
    "platform": "The platform answers a person's own request; this organization can extend its own part alone.",
    "over": "The request is over.",
    "extended": "The time was extended already; it can be extended once.",
    "late": "The time can only be extended before it is over: the person is told within the first month.",
}
APPROVAL_REFUSED = "The request waits for no approval."


def list_requests(
    tx: Tx, *, limit: int, after: list[str] | None, kind: str | None, status: str | None, overdue: bool | None
) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item ORDER BY n) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(received_at) FILTER (WHERE n = :limit), max(job_id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT q.item, q.received_at, q.job_id,
                   row_number() OVER (ORDER BY q.received_at DESC, q.job_id DESC) AS n
            FROM platform.privacy_requests(
                CAST(:kind AS text), CAST(:status AS text), CAST(:overdue AS boolean), CAST(:time AS timestamptz),
                CAST(:last AS uuid), CAST(:limit AS integer) + 1) q
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        kind=kind,
        status=status,
        overdue=overdue,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def select_request(tx: Tx, request_id: str) -> str:
    """One request as JSON. Raises 404."""
    found = tx.value("SELECT platform.privacy_request(:request_id)", request_id=request_id)
    if found is None:
        raise errors.not_found()
    return str(found)


def insert_export(tx: Tx, request_id: str, *, user_id: str, received_at: datetime, note: str | None) -> str:
    """The new request as JSON. Raises 422 for somebody who is no member, 409 `export_in_progress`."""
    try:
        return _received(
            tx,
            request_id,
            "SELECT platform.receive_export(:request_id, :person, :received_at, :note)",
            person=user_id,
            received_at=received_at,
            note=note,
        )
    except DatabaseError as error:
        if violates(error, "exports_one_running"):
            raise errors.conflict("export_in_progress", EXPORT_RUNS) from error
        raise


def insert_erasure(tx: Tx, request_id: str, *, user_id: str, received_at: datetime, note: str | None) -> str:
    """The new request, which waits for its approval, as JSON. Raises 422 for somebody who is no member, 409."""
    try:
        return _received(
            tx,
            request_id,
            "SELECT platform.receive_erasure(:request_id, :person, :received_at, :note)",
            person=user_id,
            received_at=received_at,
            note=note,
        )
    except DatabaseError as error:
        if violates(error, "deletions_one_open"):
            raise errors.conflict("deletion_in_progress", ERASURE_RUNS) from error
        raise


def _received(tx: Tx, request_id: str, sql: str, **parameters: object) -> str:
    opened, shown = tx.flight(
        (sql, {"request_id": request_id, **parameters}),
        ("SELECT platform.privacy_request(:request_id)", {"request_id": request_id}),
    )
    if opened[0][0] != "opened":
        raise errors.invalid(NO_MEMBER)
    return str(shown[0][0])


def extend_request(tx: Tx, request_id: str, *, months: int, reason: str) -> str:
    """The request with its new due date as JSON. Raises 404, and 409 when it cannot be extended."""
    outcome, shown = tx.flight(
        (
            "SELECT platform.extend_request(:request_id, CAST(:months AS integer), :reason)",
            {"request_id": request_id, "months": months, "reason": reason},
        ),
        ("SELECT platform.privacy_request(:request_id)", {"request_id": request_id}),
    )
    return _changed(outcome[0][0], shown[0][0])


def approve_deletion(tx: Tx, request_id: str, policy: str | None) -> str:
    """The approved erasure as JSON. Raises 404, and 409 when it waits for no approval."""
    outcome, shown = tx.flight(
        ("SELECT platform.approve_deletion(:request_id, :policy)", {"request_id": request_id, "policy": policy}),
        ("SELECT platform.privacy_request(:request_id)", {"request_id": request_id}),
    )
    return _changed(outcome[0][0], shown[0][0])


def _changed(outcome: str, shown: str | None) -> str:
    if outcome == "unknown" or shown is None:
        raise errors.not_found()
    if outcome in EXTENSION_REFUSED:
        raise errors.conflict("conflict", EXTENSION_REFUSED[outcome])
    return shown
