"""What a handler of the session API asks for beyond its answer: acted on once its transaction has committed.

Each is the answer itself, so that it passes through the one boundary like any other. A replayed answer
(Idempotency-Key) is a plain response: what it did was told when it was done.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from werkzeug.wrappers import Response

from common import tracing
from common.db import Written
from common.tokens import Claim

if TYPE_CHECKING:
    from sessions.appending import Sender

EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True)
class Place:
    """A session: where a stream reads, where an event is told."""

    tenant_id: str
    session_id: str


class Appended(Response):
    """201 {first_seq, last_seq}; `events` are the JSON texts of the new events, as PostgreSQL wrote them."""

    def __init__(self, place: Place, first_seq: int, events: Sequence[str]) -> None:
        body = {"first_seq": first_seq, "last_seq": first_seq + len(events) - 1}
        super().__init__(json.dumps(body), 201, content_type="application/json")
        self.place = place
        self.first_seq = first_seq
        self.events = [event.encode() for event in events]
        self.traceparent = tracing.traceparent()  # of the request, for the way to the streams


class Ended(Response):
    """The answer to closing (200, the session) or deleting (204) a session: its streams end with `code`."""

    def __init__(self, place: Place, code: str, session: Written | None = None) -> None:
        if session is None:
            super().__init__(status=204)
        else:
            super().__init__(session.json, 200, content_type="application/json")
            self.headers["ETag"] = f'"{session.version}"'
        self.place = place
        self.code = code


class Opening(Response):
    """200: a stream of the events behind `after`, to whom `claim` stands for, until the credential ends.

    `tip` is the session's last seq and `closed` whether it is over, both as this request's transaction saw them;
    `expires_at` is when the access token ends, in Unix seconds, None for an API key.
    """

    def __init__(
        self, place: Place, claim: Claim, *, after: int, tip: int, closed: bool, expires_at: float | None
    ) -> None:
        super().__init__(status=200, content_type=EVENT_STREAM)
        self.place = place
        self.claim = claim
        self.after = after
        self.tip = tip
        self.closed = closed
        self.expires_at = expires_at
        self.sender: Sender | None = None  # of a WebSocket
