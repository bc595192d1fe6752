"""What Cloud Scheduler starts: the outbox drain, the rescue of stuck jobs, and the end of every retention period.

Two runs at once are harmless: rows are leased or skipped while another run has them.
"""

import time

from werkzeug.wrappers import Request, Response

from common import log, metrics, outbox
from common.http import Call, Json, Routes
from functions.retention import anchors, desk, ending, queries
from functions.retention.schemas import Drained

routes = Routes("retention")
routes.include(desk.part)
routes.include(ending.part)
routes.include(anchors.part)
SCHEDULER = "service:scheduler"
MESSAGES = 100
DRAIN_SECONDS = 45.0  # the next drain starts after a minute


@routes.on("POST", "/internal/outbox/drain", needs=SCHEDULER, body=None, answers=Drained)
def drain(_call: Call) -> Json:
    """Send what no request has sent: leased and committed first, then called, then marked."""
    deadline = time.monotonic() + DRAIN_SECONDS
    sent = waiting = 0
    while time.monotonic() < deadline:
        messages = queries.lease_messages(MESSAGES)
        for message in messages:
            if time.monotonic() < deadline and _send(message):
                sent += 1
            else:
                waiting += 1
        if len(messages) < MESSAGES:
            break
    log.entry("INFO", "outbox drained", sent=sent, waiting=waiting)
    due, age = queries.outbox_state()
    metrics.OUTBOX_WAITING.set(due)
    metrics.OUTBOX_AGE.set(age)
    return {"sent": sent, "waiting": waiting}


def _send(message: outbox.Message) -> bool:
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - slow to import, only where it is used

    try:
        outbox.create_task(message)
    except GoogleAPIError as error:
        log.entry("WARNING", "a message waits", message_id=message.id, error=type(error).__name__)
        return False
    queries.mark_sent(message.id)
    return True


def retention(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
