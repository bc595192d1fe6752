"""pg8000 with pipelining: several statements in one flight, each prepared once per connection, JSON left as text.

Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY
"""

import select
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

from pg8000.converters import make_params
from pg8000.core import (
    BIND,
    DESCRIBE,
    EXECUTE_MSG,
    NULL_BYTE,
    PARSE,
    QUERY,
    SYNC_MSG,
    Context,
    CoreConnection,
    H_pack,
    _create_message,
    i_pack,
)
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import to_statement

from common import metrics, tracing
from common.wire_answers import Answers

UUID, TEXT, JSON, JSONB, TIMESTAMPTZ, INET = 2950, 25, 114, 3802, 1184, 869
ROUTINE = frozenset({"BEGIN", "COMMIT", "RESET", "SELECT authorize_afresh", "SELECT authorize", "SELECT set_config"})


class Step(NamedTuple):
    """One statement of a flight. Without parameters it is a simple query. An unnamed one is parsed each time: SQL can
    prepare a statement under any name, but not under none, so that what runs is surely what was sent.
    """

    sql: str
    parameters: dict[str, Any] | None = None
    unnamed: bool = False


@lru_cache(maxsize=1024)
def _compiled(sql: str) -> tuple[str, Any]:
    """pg8000's own translation of `:name` to `$1`, once per statement."""
    text, arrange = to_statement(sql)
    return text, arrange


def sqlstate(error: BaseException) -> str:
    """The five characters of a DatabaseError, or an empty string."""
    first = error.args[0] if isinstance(error, DatabaseError) and error.args else None
    return str(first.get("C", "")) if isinstance(first, dict) else ""


def violates(error: BaseException, constraint: str) -> bool:
    """Whether the error is a violation of the constraint of that name: constraint names are API, texts are not."""
    first = error.args[0] if isinstance(error, DatabaseError) and error.args else None
    return isinstance(first, dict) and first.get("n") == constraint


def refused_by_policy(error: BaseException) -> bool:
    """Whether a row-level security policy refused what was to be written, by the routine of PostgreSQL that says so."""
    first = error.args[0] if isinstance(error, DatabaseError) and error.args else None
    return isinstance(first, dict) and (first.get("C"), first.get("R")) == ("42501", "ExecWithCheckOptions")


class Connection:
    """A pg8000 connection, opened directly or by the Cloud SQL connector; a `flight` is one round trip."""

    def __init__(self, core: CoreConnection) -> None:
        self._core = core
        self._answers = Answers(core)
        self._prepared: dict[str, tuple[bytes, Any, Any]] = {}
        self._described: dict[str, tuple[Any, Any]] = {}  # what unnamed statements answer
        self._names = 0
        for oid in (UUID, TEXT, JSON, JSONB, TIMESTAMPTZ, INET):
            core.register_in_adapter(oid, str)

    def close(self) -> None:
        """End the session."""
        self._core.close()

    @property
    def pid(self) -> int:
        """The backend's process id."""
        return int.from_bytes(self._core._backend_key_data[:4], "big")

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return bool(self._core._transaction_status == b"I")

    @property
    def dead(self) -> bool:
        """Whether the server has closed or spoken out of turn: an idle connection has nothing to read."""
        if self._answers.waiting:
            return True
        poll = select.poll()  # select() knows no descriptor beyond 1023, and a replica of sessions has thousands
        poll.register(self._core._usock, select.POLLIN)
        return bool(poll.poll(0))

    def flight(self, steps: Sequence[Step]) -> list[list[list[Any]]]:
        """Run statements in one round trip; the rows of each.

        The first error is raised after all answers are read; what came after it in the same transaction failed too.
        """
        began, outcome = time.perf_counter(), "error"
        try:
            with _traced(steps) as kept:
                try:
                    found = self._fly(steps)
                except DatabaseError as error:
                    if kept is not None:
                        kept.note("db.response.status_code", sqlstate(error))
                    raise
            outcome = "ok"
            return found
        finally:
            metrics.FLIGHTS.record(time.perf_counter() - began, outcome)

    def _fly(self, steps: Sequence[Step]) -> list[list[list[Any]]]:
        """One Sync behind all prepared statements that follow each other: after an error the server skips to it, as it
        would refuse them in a transaction that has failed.
        """
        message = bytearray()
        synced: list[list[Context]] = []
        new: list[tuple[Step, bytes, Context]] = []
        for simple, together in groupby(steps, key=lambda step: step.parameters is None):
            if simple:
                synced += [[self._simple(step, message)] for step in together]
            else:
                synced.append([self._queue(step, step.parameters or {}, message, new) for step in together])
                message += SYNC_MSG
        self._send(message)
        self._read(synced)
        for step, name, context in new:
            self._remember(step, name, context)
        found = [context for contexts in synced for context in contexts]
        for context in found:
            if context.error is not None:
                raise context.error
        return [context.rows or [] for context in found]

    def _read(self, synced: list[list[Context]]) -> None:
        try:
            for contexts in synced:
                self._answers.read(contexts)
        except InterfaceError as error:  # the server's last words say why
            said = [context.error for contexts in synced for context in contexts if context.error is not None]
            raise (said or [error])[0] from None
        except BaseException:  # in the middle of an answer: the connection is of no use any more
            self._drop()
            raise

    def _drop(self) -> None:
        with suppress(InterfaceError, OSError):
            self.close()

    @staticmethod
    def _simple(step: Step, message: bytearray) -> Context:
        message += _create_message(QUERY, step.sql.encode() + NULL_BYTE)
        return Context(step.sql)

    def _remember(self, step: Step, name: bytes, context: Context) -> None:
        """A statement stays prepared even when running it fails."""
        if not getattr(context, "parsed", False):
            return
        if not step.unnamed:
            self._prepared[step.sql] = (name, context.columns, context.input_funcs)
        else:
            self._described[step.sql] = (context.columns or [], context.input_funcs)

    def _queue(
        self, step: Step, parameters: dict[str, Any], message: bytearray, new: list[tuple[Step, bytes, Context]]
    ) -> Context:
        sql = step.sql
        known = self._prepared.get(sql)
        if known:
            name, columns, input_funcs = known
            context = Context(sql, columns=columns, input_funcs=input_funcs)
        else:
            name = NULL_BYTE
            columns, input_funcs = self._described.get(sql, (None, None)) if step.unnamed else (None, None)
            context = Context(sql, columns=columns, input_funcs=input_funcs)
            if not step.unnamed:
                self._names += 1
                name = f"s{self._names}".encode() + NULL_BYTE
            message += _create_message(PARSE, name + _compiled(sql)[0].encode() + NULL_BYTE + H_pack(0))
            if columns is None:
                new.append((step, name, context))
                message += _create_message(DESCRIBE, b"S" + name)
        context.rows = []  # also of a statement that should answer none, and was planted
        message += self._bound(name, sql, parameters) if parameters else _bound_to_nothing(name)
        return context

    def _bound(self, name: bytes, sql: str, parameters: dict[str, Any]) -> bytes:
        values = make_params(self._core.py_types, _compiled(sql)[1](parameters))
        return bytes(_create_message(BIND, _bind(name, values)) + EXECUTE_MSG)

    def copy_out(self, sql: str, take: Callable[[list[bytes]], object]) -> int:
        """Stream the rows of COPY … TO STDOUT into `take`, many at a time, each without its line end; their number.

        A row is one message, whatever line ends its values hold. What `take` raises ends the connection.
        """
        context = Context(sql)
        with _traced([Step(sql)]) as kept:
            self._send(_create_message(QUERY, sql.encode() + NULL_BYTE))
            try:
                self._answers.copy(context, take)
            except BaseException:  # in the middle of an answer: the connection is of no use any more
                self._drop()
                raise
            if context.error is not None:
                raise context.error
            if kept is not None:
                kept.note("context.rows", int(context.row_count))
        return int(context.row_count)

    def _send(self, message: bytes | bytearray) -> None:
        if self._core._usock is None:
            raise InterfaceError("connection is closed")
        try:
            self._core._usock.sendall(message)
        except OSError as error:
            raise InterfaceError("network error") from error


def _traced(steps: Sequence[Step]) -> AbstractContextManager[tracing.Span | None]:
    """The span of a round trip, named by the first statement that is about something."""
    if tracing.here() is None:
        return tracing.NOTHING
    summaries = [tracing.summary(step.sql) for step in steps]
    told = next((each for each in summaries if each not in ROUTINE), summaries[0])
    return tracing.span(
        told,
        tracing.CLIENT,
        {
            "db.system.name": "postgresql",
            "db.query.summary": "; ".join(summaries),
            "db.operation.batch.size": len(steps),
        },
    )


@lru_cache(maxsize=1024)
def _bound_to_nothing(name: bytes) -> bytes:
    return bytes(_create_message(BIND, _bind(name, ())) + EXECUTE_MSG)


def _bind(name: bytes, values: Sequence[str | None]) -> bytes:
    data = bytearray(NULL_BYTE + name + H_pack(0) + H_pack(len(values)))
    for value in values:
        if value is None:
            data += i_pack(-1)
        else:
            encoded = value.encode()
            data += i_pack(len(encoded)) + encoded
    data += H_pack(0)
    return bytes(data)


__all__ = ["Connection", "DatabaseError", "InterfaceError", "Step", "sqlstate", "violates"]
