"""What PostgreSQL answers, read by the block: message by message, as pg8000 reads, costs ten times as much.

Source: https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import struct
from collections.abc import Callable, Sequence
from typing import Any

from pg8000.core import Context, CoreConnection
from pg8000.exceptions import InterfaceError

RECEIVED = 256 * 1024  # bytes that are read at once
HEADER = struct.Struct(">BI")  # of every message: its kind, its length without the kind
LENGTH = struct.Struct(">i")  # of a value; -1 is NULL
COPY_ROW, COPY_STARTS, ROW, COMPLETE, EMPTY, READY, BOUND, PARSED = b"dHDCIZ21"
FAILED = b"E"


class Answers:
    """The server's side of a connection."""

    def __init__(self, core: CoreConnection) -> None:
        self._core = core
        self.waiting = b""  # received and not read yet: nothing, once the server is ready for the next flight

    def read(self, contexts: Sequence[Context]) -> None:
        """The answers of the statements up to one Sync; a simple query is one, however many it holds.

        An error stays in its context; the server skips what came behind it. Raises InterfaceError.
        """
        waiting, start, place, ready = self.waiting, 0, 0, False
        context, last = contexts[0], len(contexts) - 1
        while not ready:
            if len(waiting) - start < HEADER.size or len(waiting) - start <= HEADER.unpack_from(waiting, start)[1]:
                waiting, start = waiting[start:] + self._received(waiting[start:]), 0
                continue
            code, length = HEADER.unpack_from(waiting, start)
            begin, start = start + HEADER.size, start + 1 + length
            if code == ROW:
                context.rows.append(_row(waiting, begin, context.input_funcs))
            elif code in {COMPLETE, EMPTY}:
                self._completed(waiting[begin:start], context)
                place = min(place + 1, last)
                context = contexts[place]
            elif code == PARSED:
                context.parsed = True
            elif code != BOUND:
                self._core.message_types[bytes((code,))](waiting[begin:start], context)
                ready = code == READY
        self.waiting = waiting[start:]

    def _completed(self, data: bytes, context: Context) -> None:
        """A COMMIT of a transaction that has failed is a ROLLBACK and no error: pg8000 makes it one."""
        if self._core._transaction_status == FAILED:
            self._core.handle_COMMAND_COMPLETE(data, context)

    def copy(self, context: Context, take: Callable[[list[bytes]], object]) -> None:
        """The rows of COPY … TO STDOUT into `take`, many at a time, each without its line end.

        Raises InterfaceError, and what `take` raises.
        """
        waiting, ready = self.waiting, False
        while not ready:
            waiting += self._received(waiting)
            rows: list[bytes] = []
            start, there = 0, len(waiting)
            while there - start >= HEADER.size:
                code, length = HEADER.unpack_from(waiting, start)
                end = start + 1 + length
                if end > there:
                    break
                if code == COPY_ROW:
                    rows.append(waiting[start + HEADER.size : end - 1])
                elif code != COPY_STARTS:
                    self._core.message_types[bytes((code,))](waiting[start + HEADER.size : end], context)
                    ready = code == READY
                start = end
            waiting = waiting[start:]
            if rows:
                take(rows)

    def _received(self, waiting: bytes) -> bytes:
        """What comes next: of a message that has begun and is long, all the rest. Raises InterfaceError."""
        missing = 1 + HEADER.unpack_from(waiting)[1] - len(waiting) if len(waiting) >= HEADER.size else 0
        try:
            stream = self._core._sock
            received: bytes = stream.read(missing) if missing > RECEIVED else stream.read1(RECEIVED)
        except OSError as error:
            raise InterfaceError("network error") from error
        if not received:
            raise InterfaceError("connection closed")
        return received


def _row(data: bytes, begin: int, read_as: Sequence[Callable[[str], Any]]) -> list[Any]:
    """The values of a row: behind their number, each behind its length."""
    row: list[Any] = []
    place = begin + 2
    for function in read_as:
        (length,) = LENGTH.unpack_from(data, place)
        place += LENGTH.size
        if length < 0:
            row.append(None)
            continue
        text = str(data[place : place + length], "utf-8")
        row.append(text if function is str else function(text))
        place += length
    return row
