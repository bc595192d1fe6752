"""Legal holds (Art. 17(3)(e) GDPR): what must be kept although erasure was asked for, why and until when."""

from common.http import Call, Json, Table
from functions.deletions import hold_queries as queries
from functions.deletions.hold_schemas import Hold, HoldFilter, HoldPage, NewHold

part = Table()
HOLDS = "/v1/legal-holds"


@part.on("GET", HOLDS, needs="legalhold.manage", query=HoldFilter, body=None, answers=HoldPage, records=True)
def list_holds(call: Call) -> Json:
    """List the organization's legal holds, newest first."""
    query = call.query
    items, last = queries.list_holds(
        call.tx,
        limit=query["limit"],
        after=call.after(),
        subject=query["subject_user_id"] and str(query["subject_user_id"]),
        status=query["status"],
    )
    call.audit("legal_hold.read")
    return call.page(items, last)


@part.on("POST", HOLDS, needs="legalhold.manage", body=NewHold, answers=Hold, status=201, step_up=True)
def create_hold(call: Call) -> Json:
    """Place a legal hold on a person's data in this organization: on everything, or on the named rows.

    It counts at once, also for an erasure that is scheduled or running: what is not erased yet stays until the hold
    ends, and is erased then. Parents of held rows stay with them. 422 for somebody, or a row, that is not there.
    """
    hold = queries.insert_hold(call.tx, **call.body)
    call.audit("legal_hold.placed", hold.id, subject_user_id=str(call.body["subject_user_id"]))
    call.headers["Location"] = f"{HOLDS}/{hold.id}"
    return hold


@part.on(
    "DELETE", f"{HOLDS}/<uuid:hold_id>", needs="legalhold.manage", body=None, answers=None, status=204, step_up=True
)
def release_hold(call: Call) -> None:
    """Lift a legal hold: what it alone kept from an erasure is erased now. The record of it stays."""
    queries.release_hold(call.tx, call.path["hold_id"], call.if_match)
    call.audit("legal_hold.released", call.path["hold_id"])
