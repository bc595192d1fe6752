"""A script of Valkey's, run in one round trip: what the library does around each command costs more than the answer.

Source: https://valkey.io/topics/protocol/
"""

import select
from collections import deque
from collections.abc import Sequence
from typing import Any

from common import cache


class Script:
    """A Lua script over connections of the client's pool that are kept for it, at most one for each thread."""

    def __init__(self, seconds: float, source: str) -> None:
        self._seconds = seconds
        self._source = source
        self._digest = ""  # Valkey's name for it
        self._idle: deque[Any] = deque()

    def __call__(self, keys: Sequence[str], arguments: Sequence[int]) -> Any:
        """The script's answer. Raises what `cache.failures` names."""
        from valkey.exceptions import NoScriptError  # noqa: PLC0415 - the library is imported when Valkey is asked

        given = (str(len(keys)), *keys, *map(str, arguments))
        connection = self._connection()
        try:
            try:
                return _asked(connection, "EVALSHA", self._digest, *given)
            except NoScriptError:
                self._digest = _asked(connection, "SCRIPT", "LOAD", self._source).decode()
                return _asked(connection, "EVALSHA", self._digest, *given)
        finally:
            self._idle.append(connection)

    def _connection(self) -> Any:
        """One that is open: `connect` opens what is not, and shows a new token where one is needed."""
        connection = self._idle.pop() if self._idle else cache.client(self._seconds).connection_pool.make_connection()
        if connection._sock is not None and _spoken(connection._sock):
            connection.disconnect()
        connection.connect()
        return connection


def _asked(connection: Any, *words: str) -> Any:
    parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    connection.send_packed_command([f"*{len(parts)}\r\n{''.join(parts)}".encode()])
    return connection.read_response()


def _spoken(connected: Any) -> bool:
    """Whether the server has closed or spoken out of turn."""
    poll = select.poll()
    poll.register(connected, select.POLLIN)
    return bool(poll.poll(0))
