"""The rotation of keys, which Cloud Scheduler starts once a day: what is due today for each secret.

A run is a function of what the secrets say and the time: doing it again, or after a crash, goes on where it was.
"""

from werkzeug.wrappers import Request, Response

from common import errors
from common.http import Call, Json, Routes
from functions.keys import policies, queries, running
from functions.keys.schemas import Rotation

routes = Routes("keys")
SCHEDULER = "service:scheduler"
RUN_SECONDS = 1800  # the service's own timeout: no run outlives its lease


@routes.on("POST", "/internal/keys/rotate", needs=SCHEDULER, body=None, answers=Rotation, errors=("unavailable",))
def rotate(call: Call) -> Json:
    """Bring every secret as far as it may go today. One that fails stops no other one; then Scheduler comes again."""
    try:
        with running.alone(RUN_SECONDS):
            done = running.advance(policies.secret_ids())
    except running.Busy:
        raise errors.Problem("unavailable", "Another run is at it.", headers={"Retry-After": "60"}) from None
    failed = [id for id, steps in done.items() if steps is None]
    changed = {id: steps for id, steps in done.items() if steps}
    if changed or failed:
        queries.record_run(changed, failed, call.request_id)
    if failed:
        raise errors.Problem("unavailable", "Some secrets could not be brought up to date.")
    return {"done": changed}


def keys(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
