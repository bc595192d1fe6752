"""Appending to a session, by POST and by WebSocket: one transaction, and each time anew the question who may."""

from collections.abc import Sequence
from dataclasses import dataclass

import marshmallow

from common import errors, limits, reading, refusals
from common.call import Call
from common.db import Tx, database
from common.tokens import Claim
from sessions import queries
from sessions.outcomes import Appended, Place
from sessions.schemas import NewSessionEvent, compact

NEEDS = "session.update"


def append(tx: Tx, session_id: str, events: Sequence[str]) -> Appended:
    """Append events, given as the JSON texts that `schemas.compact` makes. Raises 404, 409 `session_closed`."""
    written = queries.insert_events(tx, session_id, f"[{','.join(events)}]")
    return Appended(Place(tx.claim.tenant_id, session_id), written[0][0], [text for _, text in written])


def event_of(message: bytes) -> str:
    """A WebSocket message as the JSON text that `append` takes. Raises 400, 422."""
    loaded = reading.validated(NewSessionEvent, reading.json_of(message))
    try:
        return compact(loaded)
    except marshmallow.ValidationError as error:
        raise errors.invalid({"data": [str(each) for each in error.messages]}) from error


@dataclass
class Sender:
    """Who speaks on a WebSocket: seen at the handshake, asked for again with every message.

    Events count for the organization; of somebody who may not append, for nobody else: `may` is what was last known.
    """

    place: Place
    claim: Claim
    route: str
    request_id: str
    personal: dict[str, str | None]
    may: bool
    refused: bool = False  # a refusal is one event of the chain, however often she tries

    @classmethod
    def of(cls, call: Call, place: Place) -> "Sender":
        """Whose handshake this is."""
        route = f"{call.route.method} {call.route.path}"
        may = NEEDS in call.caller.permissions
        return cls(place, call.caller.claim, route, call.request_id, call.personal, may)

    def count(self, number: int) -> None:
        """Count messages before anything is done for them. Raises 429, 401 for a revoked log-in."""
        log_in = self.claim.login_session_id if self.claim.kind == "u" else ""
        alone = self.claim.principal_id or self.claim.login_session_id  # a person, or the hash of an API key
        limits.count_events(self.place.tenant_id if self.may else alone, log_in, number)

    def send(self, events: Sequence[str]) -> Appended:
        """Append what `event_of` made of messages, on disk when this returns. Blocks for the database.

        Raises Problem: 401, 403, 404, 409 `session_closed`, 429, 503.
        """
        try:
            self.count(len(events))
            with database().transaction(self.claim) as tx:
                self.may = False
                _authorize(tx)
                self.may = True
                return append(tx, self.place.session_id, events)
        except errors.Problem as problem:
            if not self.refused and problem.code in refusals.RECORDED:
                self.refused = True
                refusals.tell(
                    self.claim,
                    problem.code,
                    route=self.route,
                    needs=NEEDS,
                    request_id=self.request_id,
                    personal=self.personal,
                )
            raise


def _authorize(tx: Tx) -> None:
    """What the boundary asks of a POST. Raises 403."""
    if tx.granted.get("mfa") is False:
        raise errors.Problem("mfa_enrollment_required")
    if NEEDS not in tx.granted.get("permissions", ()):
        raise errors.Problem("permission_denied", f"This needs the permission {NEEDS}.")


__all__ = ["Sender", "append", "event_of"]
