"""The rotation of keys, which Cloud Scheduler starts once a day: what is due today for each secret.

A run is a function of what the secrets say and the time: doing it again, or after a crash, goes on where it was.
"""

import time
import uuid

from pg8000.exceptions import DatabaseError
from werkzeug.wrappers import Request, Response

from common import errors, log, secrets
from common.http import Call, Json, Routes
from common.settings import settings
from functions.keys import policies, queries
from functions.keys.rotating import Turn
from functions.keys.schemas import Rotation
from functions.keys.vault import Overtaken, Vault

routes = Routes("keys")
SCHEDULER = "service:scheduler"
RUN_SECONDS = 1800  # the service's own timeout: no run outlives its lease


@routes.on("POST", "/internal/keys/rotate", needs=SCHEDULER, body=None, answers=Rotation, errors=("unavailable",))
def rotate(_call: Call) -> Json:
    """Bring every secret as far as it may go today. One that fails stops no other one; then Scheduler comes again."""
    run = str(uuid.uuid4())
    if not queries.begin_run(run, RUN_SECONDS):
        raise errors.Problem("unavailable", "Another run is at it.", headers={"Retry-After": "60"})
    try:
        done = {id: _turn(id) for id in policies.secret_ids()}
    finally:
        queries.end_run(run)
    if None in done.values():
        raise errors.Problem("unavailable", "Some secrets could not be brought up to date.")
    return {"done": {id: steps for id, steps in done.items() if steps}}


def _turn(id: str) -> list[str] | None:
    """What was done to a secret; None when it failed."""
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - slow to import, only where it is used

    try:
        policy = policies.policy(id)
        if policy is None:
            return []
        steps = Turn(Vault(secrets.client(), settings().project_id), id, policy, int(time.time())).take()
    except (GoogleAPIError, DatabaseError, Overtaken, errors.Problem, LookupError, ValueError) as error:
        log.entry("ERROR", "a secret could not be rotated", secret=id, error=type(error).__name__)
        return None
    if steps:
        log.security("NOTICE", "keys rotated", secret=id, steps=steps)
    return steps


def keys(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
