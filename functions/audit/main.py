"""The organization's audit chain, and its data-protection officer's desk."""

from werkzeug.wrappers import Request, Response

from common.http import Call, Json, Routes
from functions.audit import (
    exporting,
    incident_drafts,
    incident_scope,
    incidents,
    privacy,
    privacy_records,
    queries,
    verifying,
)
from functions.audit.schemas import EventFilter, EventPage

routes = Routes("audit")
routes.include(verifying.part)
routes.include(exporting.part)
routes.include(privacy.part)
routes.include(privacy_records.part)
routes.include(incidents.part)
routes.include(incident_scope.part)
routes.include(incident_drafts.part)


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


def audit(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
