"""The pool, and a request's way through it: checkout, work, audit and commit in four flights at most."""

import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pg8000.exceptions import DatabaseError, InterfaceError

from common import errors, log, metrics, tracing
from common.connecting import PrivilegedLogin, connect, refuse_privileged_login
from common.outbox import Message, send_now
from common.settings import settings
from common.tokens import Claim
from common.transaction import COMMIT, SETTLE, Reading, Tx, Written, authorize_afresh
from common.wire import Connection, Step, sqlstate, violates

# Unnamed, as authorize behind them: what SQL has prepared under our names must not run in the next request. BEGIN is
# said in full, since the defaults that SQL has set hold until the reset.
CHECKOUT = Step("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", {}, unnamed=True)
CHECKOUT_READ_ONLY = Step("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY", {}, unnamed=True)
CHECKOUT_SNAPSHOT = Step("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", {}, unnamed=True)
RESET = (Step("RESET ROLE", {}, unnamed=True), Step("RESET ALL", {}, unnamed=True))
ROLLBACK = Step("ROLLBACK")
OUTBOX_SENT = "SELECT platform.outbox_sent(:message_id)"
# What is put into the outbox by definer functions learns from it to which trace it belongs: their rows' default.
TRACE = "SELECT pg_catalog.set_config('context.traceparent', :traceparent, true)"
POOL_WAIT_SECONDS = 5
CREDENTIAL_DEAD, CONNECTION_TAMPERED, SUSPENDED = "CX401", "CX402", "CX403"  # of app.authorize
TAMPERED = frozenset({CONNECTION_TAMPERED, "26000"})  # SQL has prepared statements, or taken ours away
NEXT_EVENT = "audit_events_pkey"  # violated where the head of a chain was put back, which is tampering
NO_EVENT = "Nothing was changed: the audit trail cannot record it. The operator is told."


class Database:
    """A pool of as many connections as the service has threads."""

    def __init__(self, url: str, size: int) -> None:
        self._url = url
        self._idle: queue.LifoQueue[Connection | None] = queue.LifoQueue()
        for _ in range(size):
            self._idle.put(None)

    @contextmanager
    def transaction(
        self, claim: Claim, *, read_only: bool = False, snapshot: bool = False, first: Step | None = None
    ) -> Iterator[Tx]:
        """A transaction sealed for the claim: raising rolls back, returning commits. `first` runs with the checkout.

        `snapshot`: read only, and every statement sees the database as it was at the checkout.
        Raises Problem: 401 dead credential, 403 suspended organization, 503 database not reachable.
        """
        connection = self._checkout()
        keep = False
        sent: list[Message] = []
        try:
            begin = CHECKOUT_SNAPSHOT if snapshot else CHECKOUT_READ_ONLY if read_only else CHECKOUT
            along = [*([first] if first else []), *_trace()]
            connection, found = self._enter(connection, claim, begin, *along)
            tx = Tx(connection, claim, found[0][0][0])
            tx.first = found[1] if first else []
            try:
                yield tx
                tx.commit()
            except errors.Problem as problem:
                if problem.commits:
                    tx.commit()
                raise
            keep = True
            sent = tx.messages
        except (DatabaseError, InterfaceError) as error:
            raise _as_problem(error, claim) from error
        except errors.Problem:
            keep = True
            raise
        finally:
            self._give_back(connection, keep)
        if sent:
            send_now(sent, lambda message: self.single(claim, OUTBOX_SENT, message_id=message.id))

    @contextmanager
    def reading(self, claim: Claim, judge: Callable[[Tx], None]) -> Iterator[Reading]:
        """A read-only transaction of one statement in one round trip, sealed for the claim of a person.

        Raises as `transaction` does, and what `judge` raises.
        """
        connection = self._checkout()
        keep = False

        def fly(*steps: Step) -> list[list[list[Any]]]:
            nonlocal connection
            if not connection.idle:  # the statement failed: who asked for it is judged nevertheless
                connection.flight([ROLLBACK])
            along = [*steps, *_trace(), COMMIT]
            connection, found = self._enter(connection, claim, CHECKOUT_READ_ONLY, *along)
            return found[: 1 + len(steps)]

        try:
            yield Reading(claim, fly, judge)
            keep = True
        except (DatabaseError, InterfaceError) as error:
            raise _as_problem(error, claim) from error
        except errors.Problem:
            keep = True
            raise
        finally:
            self._give_back(connection, keep)

    def open_first(self) -> None:
        """Open a connection ahead of the first request. Raises PrivilegedLogin; a database that is away may come."""
        try:
            connection = self._connect()
        except (DatabaseError, InterfaceError, OSError) as error:
            log.entry("WARNING", "database not reachable at start", error=type(error).__name__)
            return
        self._idle.get()
        self._idle.put(connection)

    def single(self, claim: Claim, sql: str, **parameters: Any) -> list[list[Any]]:
        """One statement in a transaction of its own, in one round trip; its rows."""
        connection = self._checkout()
        keep = False
        try:
            bound = {"tenant_id": claim.tenant_id or None, "user_id": claim.principal_id or None, **parameters}
            connection, found = self._enter(connection, claim, CHECKOUT, *_trace(), Step(sql, bound), COMMIT)
            keep = True
            return found[-2]
        except (DatabaseError, InterfaceError) as error:
            raise _as_problem(error, claim) from error
        finally:
            self._give_back(connection, keep)

    def settle(self) -> None:
        """Return when all that was ever visible here is on disk: before it is told where no crash takes it back.

        Raises Problem 503.
        """
        self._alone(Step(SETTLE))

    def ping(self) -> None:
        """Raise Problem 503 unless the database answers."""
        self._alone(Step("SELECT 1"))

    def _alone(self, step: Step) -> None:
        connection = self._checkout()
        keep = False
        try:
            connection.flight([step])
            keep = True
        except (DatabaseError, InterfaceError) as error:
            raise errors.Problem("unavailable") from error
        finally:
            self._give_back(connection, keep)

    def _enter(
        self, connection: Connection, claim: Claim, begin: Step, *rest: Step
    ) -> tuple[Connection, list[list[list[Any]]]]:
        """BEGIN, reset, authorize and the rest in one flight; the connection that it was, the rows from authorize on.

        A tampered connection is replaced: nothing that was done there stays.
        """
        steps = [begin, *RESET]
        try:
            return connection, connection.flight([*steps, authorize_afresh(claim, connection), *rest])[len(steps) :]
        except DatabaseError as error:
            if sqlstate(error) not in TAMPERED:
                raise
        log.security("CRITICAL", "a pooled connection was tampered with")
        connection.close()
        connection = self._connect()
        try:
            return connection, connection.flight([*steps, authorize_afresh(claim, connection), *rest])[len(steps) :]
        except BaseException:
            connection.close()  # nobody knows of it yet
            raise

    def _checkout(self) -> Connection:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._awaited()
        try:
            if connection is not None and connection.dead:
                _discard(connection)
                connection = None
            return connection or self._connect()
        except (DatabaseError, InterfaceError, OSError, PrivilegedLogin) as error:
            self._idle.put(None)
            log.entry("ERROR", "database not reachable", error=type(error).__name__, code=sqlstate(error))
            raise errors.Problem("unavailable", headers={"Retry-After": "1"}) from error

    def _awaited(self) -> Connection | None:
        """The next connection that somebody gives back. Raises Problem 503 after POOL_WAIT_SECONDS."""
        began = time.perf_counter()
        try:
            with tracing.span("wait for a connection", tracing.INTERNAL):
                return self._idle.get(timeout=POOL_WAIT_SECONDS)
        except queue.Empty:
            metrics.POOL_TIMEOUTS.add(1)
            raise errors.Problem("unavailable", headers={"Retry-After": "1"}) from None
        finally:
            metrics.POOL_WAITS.record(time.perf_counter() - began)

    def _give_back(self, connection: Connection, keep: bool) -> None:
        try:
            if not connection.idle:
                connection.flight([ROLLBACK])
            if keep and connection.idle:
                self._idle.put(connection)
                return
        except (DatabaseError, InterfaceError):
            log.entry("WARNING", "a connection was lost")
        _discard(connection)
        self._idle.put(None)

    def _connect(self) -> Connection:
        with tracing.span("connect", tracing.CLIENT, {"db.system.name": "postgresql"}):
            connection = connect(self._url)
        try:
            refuse_privileged_login(connection)
        except PrivilegedLogin as error:
            connection.close()
            log.security("CRITICAL", "the database login is refused", reasons=str(error))
            raise
        return connection


def _trace() -> list[Step]:
    """The statement that tells PostgreSQL the trace of a request that is kept."""
    return [Step(TRACE, {"traceparent": tracing.traceparent()})] if tracing.here() else []


def _discard(connection: Connection) -> None:
    try:
        connection.close()
    except (InterfaceError, OSError):
        log.entry("INFO", "a dead connection was dropped")


def _as_problem(error: Exception, claim: Claim) -> Exception:
    """Credential and connection errors as answers; anything else stays what it is: a defect, answered 500."""
    code = sqlstate(error)
    if violates(error, NEXT_EVENT):
        log.security("CRITICAL", "an audit chain takes no event", organization_id=claim.tenant_id or None)
        return errors.Problem("unavailable", NO_EVENT, headers={"Retry-After": "60"})
    if code == CREDENTIAL_DEAD:
        return errors.unauthenticated("The login session has ended or the membership is gone.")
    if code == SUSPENDED:
        return errors.Problem("organization_suspended")
    if code in TAMPERED:  # met behind the checkout: who asks again is given another connection
        log.security("CRITICAL", "a pooled connection was tampered with")
        return errors.Problem("unavailable", headers={"Retry-After": "1"})
    if isinstance(error, InterfaceError) or code[:2] in {"08", "53", "57"} or code in {"55P03", "40P01", "25006"}:
        log.entry("ERROR", "database not available", error=type(error).__name__, code=code)
        return errors.Problem("unavailable", headers={"Retry-After": "1"})
    return error


@cache
def database() -> Database:
    """The process's pool."""
    return Database(settings().database_url, settings().database_pool)


__all__ = ["Database", "Reading", "Tx", "Written", "database"]
