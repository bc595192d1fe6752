"""A connection to Valkey that a replica keeps: commands in their order, and what the other replicas say.

Whoever sends never waits and never fails: without Valkey, or when it takes nothing, what is sent is dropped. `up` says
whether what others say arrives: the watcher asks the database more often while it does not.
Source: https://github.com/redis/redis-specifications/blob/master/protocol/RESP3.md (pushes, and commands beside them)
"""

import asyncio
from collections import deque
from collections.abc import Callable
from secrets import SystemRandom
from typing import Any

from common import cache, cache_token, log
from common.settings import settings

CONNECT_SECONDS = 2.0
TICK_SECONDS = 0.5
OVERDUE_SECONDS = 1.0  # without an answer for so long it is away
DEAD_SECONDS = 5.0  # without one for so long it is connected anew
SETTLED_SECONDS = 1.0  # so long after it is back it counts as away: the watcher has looked into the database since
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 5.0  # between attempts to connect
MOST_BYTES = 8 * 1024 * 1024  # that wait to be sent
BATCH_BYTES = 256 * 1024
JITTER = SystemRandom()
SILENT = frozenset({"SUBSCRIBE", "UNSUBSCRIBE"})  # answered by pushes alone

Part = str | bytes | int


class Away(Exception):
    """Valkey cannot be asked."""


class Push(list[Any]):
    """What comes unasked: kind, channel, and a message or a number."""


class Link:
    """One connection, made anew whenever it is lost. `greet` is called each time, `hear` with each push."""

    def __init__(
        self, name: str, greet: Callable[[], None] = lambda: None, hear: Callable[[Push], None] = lambda _: None
    ) -> None:
        self._name, self._greet, self._hear = name, greet, hear
        self._connection: Any = None
        self._outgoing: deque[list[bytes]] = deque()
        self._outgoing_bytes = 0
        self._more = asyncio.Event()
        self._unanswered: deque[tuple[float, asyncio.Future[Any] | None]] = deque()
        self._steady_since: float | None = None
        self._lost = False  # said so in the log

    @property
    def up(self) -> bool:
        """Whether commands are answered and pushes arrive, and have for a moment."""
        since = self._steady_since
        return since is not None and not self._overdue and _now() - since >= SETTLED_SECONDS

    @property
    def answers(self) -> bool:
        """Whether a command will probably be answered."""
        return self._steady_since is not None and not self._overdue

    @property
    def _overdue(self) -> bool:
        return bool(self._unanswered) and _now() - self._unanswered[0][0] > OVERDUE_SECONDS

    def send(self, *command: Part) -> bool:
        """Send a command for whose answer nobody waits. False when it was dropped."""
        return self._send(command, None)

    async def ask(self, *command: Part, seconds: float) -> Any:
        """Send a command and wait so long for its answer. Raises Away."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self.answers or not self._send(command, answered):
            raise Away
        try:
            async with asyncio.timeout(seconds):
                answer = await answered
        except TimeoutError:
            raise Away from None
        if isinstance(answer, Exception):
            raise Away from answer
        return answer

    def _send(self, command: tuple[Part, ...], answered: asyncio.Future[Any] | None) -> bool:
        if self._connection is None or self._outgoing_bytes > MOST_BYTES:
            return False
        packed: list[bytes] = self._connection.pack_command(*command)
        self._outgoing.append(packed)
        self._outgoing_bytes += sum(map(len, packed))
        if command[0] not in SILENT:
            self._unanswered.append((_now(), answered))
        self._more.set()
        return True

    async def run(self) -> None:
        """Keep the connection, for ever. Where there is no cache there is none."""
        if not settings().valkey_url:
            await asyncio.Event().wait()
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._live()
            except cache.failures() as error:
                if self._steady_since is not None:
                    pause = FIRST_PAUSE_SECONDS
                self._say(type(error).__name__)
            finally:
                self._forget()
            await asyncio.sleep(pause * JITTER.uniform(0.5, 1))  # replicas do not come back as one
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    async def _live(self) -> None:
        """Connect, and work until the connection is lost. Raises what it was lost by."""
        connection = await cache.connection()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await connection.connect()
            connection._parser.set_pubsub_push_handler(Push)
            self._connection = connection
            self._greet()
            await _first_of(self._read(connection), self._write(connection), self._keep(connection))
        finally:
            self._connection = None
            await connection.disconnect(nowait=True)

    def _forget(self) -> None:
        self._steady_since = None
        self._outgoing.clear()
        self._outgoing_bytes = 0
        while self._unanswered:
            self._answer(Away())

    async def _read(self, connection: Any) -> None:
        import valkey  # noqa: PLC0415 - as in common/cache.py

        while True:
            try:
                told = await connection.read_response(
                    disable_decoding=True, push_request=True, disconnect_on_error=False
                )
            except (valkey.ResponseError, valkey.AuthenticationError, valkey.BusyLoadingError) as refusal:
                told = refusal  # an answer all the same
            if isinstance(told, Push):
                self._hear(told)
            else:
                self._answer(told)

    def _answer(self, told: Any) -> None:
        """The answer to the oldest command."""
        if not self._unanswered:
            return
        _, answered = self._unanswered.popleft()
        if answered is not None and not answered.done():
            answered.set_result(told)
        if self._overdue:
            self._steady_since = None
        elif self._steady_since is None and not isinstance(told, Exception):
            self._steady_since = _now()
            self._say(None)

    async def _write(self, connection: Any) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._outgoing:
                batch: list[bytes] = []
                size = 0
                while self._outgoing and size < BATCH_BYTES:
                    packed = self._outgoing.popleft()
                    batch += packed
                    size += sum(map(len, packed))
                self._outgoing_bytes -= size
                await connection.send_packed_command(batch, check_health=False)

    async def _keep(self, connection: Any) -> None:
        """See that it answers, and show it a new token. Raises TimeoutError when it has not for long."""
        while True:
            self.send("PING")
            token = cache.new_token(connection)
            if token is not None:
                await self._show(connection, token)
            await asyncio.sleep(TICK_SECONDS)
            if self._unanswered and _now() - self._unanswered[0][0] > DEAD_SECONDS:
                raise TimeoutError

    async def _show(self, connection: Any, token: str) -> None:
        """A token that is not taken leaves the connection as it is: another one is fetched and shown."""
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._send(("AUTH", "default", token), answered)
        connection.shown = token
        if isinstance(await answered, Exception):
            cache_token.token().refused(token)
            log.entry("WARNING", "the cache has not taken a new access token", link=self._name)

    def _say(self, reason: str | None) -> None:
        """Into the log, once: that Valkey is lost, or is back."""
        if reason is not None and not self._lost:
            log.entry("ERROR", "the cache cannot be reached", link=self._name, error=reason)
        elif reason is None and self._lost:
            log.entry("NOTICE", "the cache is reached again", link=self._name)
        self._lost = reason is not None


async def _first_of(*works: Any) -> None:
    """Run them until one ends, which it does by an error; end the others, and raise that."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if isinstance(error, Exception):
            raise error


def _now() -> float:
    return asyncio.get_running_loop().time()
