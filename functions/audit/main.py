"""The organization's audit chain, and its data-protection officer's desk."""

from werkzeug.wrappers import Request, Response

from common.audit import GENESIS, Verifier
from common.http import Call, Json, Routes
from functions.audit import privacy, privacy_records, queries
from functions.audit.schemas import EventFilter, EventPage, Verification

routes = Routes("audit")
routes.include(privacy.part)
routes.include(privacy_records.part)


@routes.on("GET", "/v1/audit-events", needs="audit.view", query=EventFilter, body=None, answers=EventPage, records=True)
def list_events(call: Call) -> Json:
    """List audit events, newest first; reading them is an event itself."""
    query = call.query
    items, last = queries.list_events(
        call.tx,
        limit=query["limit"],
        after=call.after(),
        actor=query["actor"],
        action=query["action"],
        resource=query["resource"],
        since=query["from_"],
        until=query["to"],
    )
    call.audit("audit.read")
    return call.page(items, last)


@routes.on("GET", "/v1/audit-events/verify", needs="audit.view", body=None, answers=Verification)
def verify(call: Call) -> Json:
    """Check the whole chain: every hash, every link, and that its head is the last event."""
    seq, digest, last = queries.head(call.tx)
    verifier = Verifier()
    for event in queries.chain(call.tx, seq):
        verifier.take(event)
    broken = verifier.broken
    if broken is None and (seq, digest) != (verifier.seq, verifier.hash):
        broken = verifier.seq + 1
    if broken is None and last > seq:
        broken = seq + 1
    return {
        "valid": broken is None,
        "checked": verifier.checked,
        "base": {"seq": 0, "hash": GENESIS},
        "head": {"seq": seq, "hash": digest},
        "anchored": None,
        "first_broken_seq": broken,
    }


def audit(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
