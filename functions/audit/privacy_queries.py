"""The data-protection officer's queue: literal SQL, one function per query."""

from datetime import datetime

from common import errors, pagination
from common.db import Tx
from common.wire import DatabaseError, violates

EXPORT_RUNS = "An export of this person's data is running already; wait for it or cancel it."
ERASURE_RUNS = "An erasure of this person is scheduled, waiting or running already."
REFUSED = {
    "platform": "The platform answers a person's own request; this organization can extend its own part alone.",
    "over": "The request is over, or waits for nothing.",
    "extended": "The time was extended already; it can be extended once.",
    "late": "The time can only be extended before it is over: the person is told within the first month.",
}
LACKS = "The person holds a permission that you lack."
LAST_OWNER = "Make somebody else an owner first: an organization with other members needs one."


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
    """The new request as JSON. Raises 404 for somebody who is not known here, 409 `export_in_progress`."""
    try:
        outcome, shown = tx.flight(
            (
                "SELECT platform.receive_export(:request_id, :person, :received_at, :note)",
                {"request_id": request_id, "person": user_id, "received_at": received_at, "note": note},
            ),
            ("SELECT platform.privacy_request(:request_id)", {"request_id": request_id}),
        )
    except DatabaseError as error:
        if violates(error, "exports_one_running"):
            raise errors.conflict("export_in_progress", EXPORT_RUNS) from error
        raise
    if outcome[0][0] != "ok":
        raise errors.not_found()
    return str(shown[0][0])


def insert_erasure(
    tx: Tx, request_id: str, *, user_id: str, received_at: datetime, note: str | None, grace_seconds: int
) -> str | None:
    """The new request, which waits for its approval, as JSON; None when a legal hold had it recorded as refused.

    Raises 404 for somebody who is no member, 403 for one who holds what the caller lacks, 409 `last_owner` and
    `deletion_in_progress`.
    """
    try:
        outcome, shown = tx.flight(
            (
                """
                SELECT platform.receive_erasure(:request_id, :person, :received_at, :note,
                                                make_interval(secs => :grace))
                """,
                {
                    "request_id": request_id,
                    "person": user_id,
                    "received_at": received_at,
                    "note": note,
                    "grace": grace_seconds,
                },
            ),
            ("SELECT platform.privacy_request(:request_id)", {"request_id": request_id}),
        )
    except DatabaseError as error:
        if violates(error, "deletions_one_open"):
            raise errors.conflict("deletion_in_progress", ERASURE_RUNS) from error
        raise
    state = outcome[0][0]
    if state == "last_owner":
        raise errors.conflict("last_owner", LAST_OWNER)
    if state == "running":  # her own, which has come this far already
        raise errors.conflict("deletion_in_progress", ERASURE_RUNS)
    if state in {"denied", "lacks"}:
        raise errors.Problem("permission_denied", LACKS)
    if state not in {"ok", "legal_hold"}:
        raise errors.not_found()
    return str(shown[0][0]) if state == "ok" else None


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
    """The approved erasure as JSON. Raises 404, 403 for who holds what the caller lacks, 409 when it does not wait."""
    outcome, shown = tx.flight(
        ("SELECT platform.approve_deletion(:request_id, :policy)", {"request_id": request_id, "policy": policy}),
        ("SELECT platform.privacy_request(:request_id)", {"request_id": request_id}),
    )
    return _changed(outcome[0][0], shown[0][0])


def _changed(outcome: str, shown: str | None) -> str:
    if outcome == "unknown" or shown is None:
        raise errors.not_found()
    if outcome == "lacks":
        raise errors.Problem("permission_denied", LACKS)
    if outcome in REFUSED:
        raise errors.conflict("conflict", REFUSED[outcome])
    return shown


def select_organization_name(tx: Tx) -> str:
    """What the caller's organization is called."""
    return str(tx.value("SELECT o.name FROM app.organizations o WHERE o.tenant_id = :tenant_id"))
