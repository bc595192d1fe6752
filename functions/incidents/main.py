"""Incidents: an alert of Cloud Monitoring becomes a record of the platform, and who caused it is blocked for a while.

The same alert twice, two runs at once, or a run that dies: docs/decisions/0032-incident-automation.md says why each
ends in the same state.
"""

from werkzeug.wrappers import Request, Response

from common import errors
from common.http import Call, Json, Routes
from functions.incidents import answering, slot
from functions.incidents.schemas import Answered, Push, Swept

routes = Routes("incidents")
ALERTS, SCHEDULER = "service:alerts", "service:scheduler"


@routes.on("POST", "/internal/alerts", needs=ALERTS, body=Push, answers=Answered, errors=("unavailable",))
def receive(call: Call) -> Json:
    """Answer an alert that Pub/Sub brings; without an answer it brings it again. What is none of ours is taken."""
    notice = answering.read(call.body["message"]["data"])
    if notice is None:
        return {"incident_id": None, "blocked": 0, "left_over": 0}
    try:
        with slot.alone() as run:
            return answering.answer(notice, run, call.request_id)
    except slot.Busy:
        raise errors.Problem("unavailable", "Another run is at it.", headers={"Retry-After": "10"}) from None


@routes.on("POST", "/internal/blocks/sweep", needs=SCHEDULER, body=None, answers=Swept, errors=("unavailable",))
def sweep(call: Call) -> Json:
    """Lift what is over, and look again at alerts that go on: who comes later is blocked too."""
    try:
        with slot.alone() as run:
            return answering.sweep(run, call.request_id)
    except slot.Busy:
        raise errors.Problem("unavailable", "Another run is at it.", headers={"Retry-After": "10"}) from None


def incidents(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
