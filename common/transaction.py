"""One transaction per request, one tenant per transaction: what a handler asks of the database, and says it did."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from common.outbox import Message
from common.tokens import Claim, context_token
from common.wire import Connection, DatabaseError, InterfaceError, Step, sqlstate

COMMIT = Step("COMMIT", {})  # prepared: it needs no Sync of its own
REFUSED_BY_AUTHORIZE = "CX"  # the class of its error codes
AUTHORIZE, AUTHORIZE_AFRESH = "SELECT app.authorize(:token)", "SELECT app.authorize_afresh(:token)"
# Whatever was committed before it, by anybody, is on disk when it answers: docs/decisions/0020-chain-before-disk.md.
SETTLE = "SELECT pg_catalog.pg_logical_emit_message(false, 'settle', '', true)"
# The chain is free for the next writer at COMMIT, before the disk has it; the answer waits for the disk.
APPEND_AUDIT = "SELECT pg_catalog.set_config('synchronous_commit', 'off', true), app.append_audit(:events)"
COMMIT_CHAINED = (COMMIT, Step(SETTLE, {}))
Heed: TypeAlias = Callable[[list[list[Any]]], None]


@dataclass(frozen=True)
class Written:
    """A written object: its id, its JSON as PostgreSQL wrote it, and its version, which becomes the ETag."""

    id: str
    json: str
    version: int


def authorize_afresh(claim: Claim, connection: Connection) -> Step:
    """Seal a transaction that has just begun, on a connection that anything may have been left on."""
    return authorize(claim, connection, AUTHORIZE_AFRESH)


def authorize(claim: Claim, connection: Connection, sql: str = AUTHORIZE) -> Step:
    """Unnamed: a statement that injected SQL had prepared under our name would catch the token."""
    return Step(sql, {"token": context_token(claim, connection.pid)}, unnamed=True)


def _resolved(claim: Claim, granted: dict[str, Any]) -> Claim:
    """The claim as it was sealed: whose an API key is, the database says."""
    if claim.kind != "k":
        return claim
    return Claim("k", granted["tenant"], granted["principal"], granted["key"])


class Tx:
    """An open transaction. SQL names its tenant `:tenant_id` and its principal `:user_id`; both are bound here."""

    def __init__(self, connection: Connection, claim: Claim, answer: str) -> None:
        self._connection = connection
        self.granted: dict[str, Any] = json.loads(answer)
        self.claim = _resolved(claim, self.granted)
        self.audit_events: list[dict[str, Any]] = []
        self.messages: list[Message] = []
        self.settles = False  # what another transaction has just committed is acknowledged here: it is to be on disk
        self.first: list[list[Any]] = []  # the rows of the statement that came along with the checkout
        self._last: list[Step] = []
        self._next_claim: Claim | None = None
        self._ahead: list[tuple[str, dict[str, Any], Heed]] = []

    def _step(self, sql: str, parameters: dict[str, Any]) -> Step:
        known = {"tenant_id": self.claim.tenant_id or None, "user_id": self.claim.principal_id or None}
        return Step(sql, {**known, **parameters})

    def rows(self, sql: str, **parameters: Any) -> list[list[Any]]:
        """All rows of a statement."""
        return self.flight((sql, parameters))[0]

    def row(self, sql: str, **parameters: Any) -> list[Any] | None:
        """The first row, or None."""
        found = self.rows(sql, **parameters)
        return found[0] if found else None

    def value(self, sql: str, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        found = self.row(sql, **parameters)
        return found[0] if found else None

    def written(self, sql: str, **parameters: Any) -> Written | None:
        """The id, JSON and version that a statement returns, None when it touched no row."""
        found = self.row(sql, **parameters)
        return Written(*found) if found else None

    def flight(self, *statements: tuple[str, dict[str, Any]]) -> list[list[list[Any]]]:
        """Several statements in one round trip; the rows of each."""
        steps: list[Step] = []
        if self._next_claim:
            self.claim, self._next_claim = self._next_claim, None
            steps.append(authorize(self.claim, self._connection))
        resealed = len(steps)
        ahead, self._ahead = self._ahead, []
        steps += [self._step(sql, parameters) for sql, parameters, _ in ahead]
        steps += [self._step(sql, parameters) for sql, parameters in statements]
        found = self._connection.flight(steps)
        if resealed:
            self.granted = json.loads(found[0][0][0])
        for (_, _, heed), rows in zip(ahead, found[resealed:], strict=False):
            heed(rows)
        return found[resealed + len(ahead) :]

    def ahead(self, heed: Heed, sql: str, **parameters: Any) -> None:
        """Send a statement ahead of the next ones, in their round trip; `heed` gets its rows, and may refuse."""
        self._ahead.append((sql, parameters, heed))

    def continue_as(self, claim: Claim) -> None:
        """Seal the transaction for another claim, together with the next statement."""
        self._next_claim = claim

    def copy_out(self, sql: str, take: Callable[[list[bytes]], object]) -> int:
        """Stream the rows of `COPY (…) TO STDOUT` into `take`, many at a time, without line ends; their number.

        The SQL is a constant: COPY binds nothing.
        """
        return self._connection.copy_out(sql, take)

    def audit(
        self,
        action: str,
        resource_type: str,
        resource_id: str | None,
        *,
        request_id: str,
        outcome: str = "success",
        data: dict[str, Any] | None = None,
        personal: dict[str, Any] | None = None,
    ) -> None:
        """Buffer an event; the chain gets it as the last statement before COMMIT. `data` holds no personal data."""
        self.audit_events.append(
            {
                "action": action,
                "resource_type": resource_type,
                "resource_id": resource_id,
                "outcome": outcome,
                "request_id": request_id,
                "data": data or {},
                "personal": personal,
            }
        )

    def post(self, message: Message) -> None:
        """Write a message into the outbox: it is sent after the commit, by us or by the drainer."""
        self.messages.append(message)

    def last(self, sql: str, **parameters: Any) -> None:
        """A statement for the last flight, before the audit events and COMMIT: it costs no round trip."""
        self._last.append(self._step(sql, parameters))

    def _last_steps(self) -> list[Step]:
        steps = [*(message.insert() for message in self.messages), *self._last]
        if self.audit_events:
            if not self.claim.tenant_id:
                raise ValueError("an audit event needs an organization")
            steps.append(Step(APPEND_AUDIT, {"events": json.dumps(self.audit_events)}))
        return steps

    def commit(self) -> None:
        """Outbox, audit and COMMIT in one flight; on return it is on disk. Raises what any of them raised."""
        if self._ahead:
            self.flight()
        ending = COMMIT_CHAINED if self.audit_events or self.settles else (COMMIT,)
        self._connection.flight([*self._last_steps(), *ending])
        if not self._connection.idle:  # SQL of this request has put another statement in the place of COMMIT
            raise InterfaceError("not committed")


class Reading(Tx):
    """A read-only transaction of one statement, all of it in one round trip.

    Nobody gets what was read before `judge`, which may refuse, has seen who asks.
    """

    def __init__(self, claim: Claim, fly: Callable[..., list[list[list[Any]]]], judge: Callable[[Tx], None]) -> None:
        self.claim = claim
        self._fly, self._judge, self._flown = fly, judge, False

    def flight(self, *statements: tuple[str, dict[str, Any]]) -> list[list[list[Any]]]:
        """The one statement; its rows. Raises what `judge` raises."""
        ((sql, parameters),) = statements
        return self._once(self._step(sql, parameters))

    def judged(self) -> None:
        """Who asks is judged, also where nothing was read. Raises what `judge` raises."""
        if not self._flown:
            self._once()

    def _once(self, *steps: Step) -> list[list[list[Any]]]:
        if self._flown:
            raise AssertionError("a single read has one statement")
        self._flown = True
        try:
            answer, *found = self._fly(*steps)
        except DatabaseError as error:
            if not steps or sqlstate(error).startswith(REFUSED_BY_AUTHORIZE):
                raise
            self._judged(*self._fly())
            raise
        self._judged(answer)
        return found

    def _judged(self, answer: list[list[Any]]) -> None:
        self.granted = json.loads(answer[0][0])
        self._judge(self)
