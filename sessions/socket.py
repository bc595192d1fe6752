"""A WebSocket: the events of a session one way, events to append to it the other.

Reading and writing wait for nobody but themselves: a client that only listens or only speaks is one. What it says is
appended in order; what arrives meanwhile goes into the next transaction, and no more is read than fits there.
Source: https://www.rfc-editor.org/rfc/rfc6455
"""

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.utils import ClientDisconnected

from common import errors, log, reporting, tracing
from common.settings import settings
from sessions.appending import Sender, event_of
from sessions.frames import Frames
from sessions.hub import Hub
from sessions.outcomes import Appended, Opening
from sessions.stream import is_over, next_chunk
from sessions.topic import GONE, Chunk, Reader

if TYPE_CHECKING:
    from sessions.app import Application

PROTOCOL, BEARER = "dev-context.v1", "bearer."
MESSAGES, BYTES = 100, 256 * 1024  # of a client that wait to be appended
MOST_BYTES = 64 * 1024 * 1024  # of all clients together: beyond it each has one message waiting
FINISH_SECONDS = 5.0  # for what was said before the end
LONGEST_PAUSE_SECONDS = 2.0  # in which nothing is read of a client over its limit
SHOWN = frozenset({"x-request-id", "ratelimit", "ratelimit-policy"})  # headers of the answer to the handshake
POLICY_VIOLATION = 1008
CODES: Final[dict[str, int]] = {
    "session_closed": 1000,
    "not_found": 1000,
    "draining": 1001,
    "unsupported_media_type": 1003,
    "internal_error": 1011,
    "slow_reader": 1013,
    "unavailable": 1013,
}
ENDS = frozenset({"invalid_token", "organization_suspended", "not_found", "session_closed"})


class Refused(NamedTuple):
    """Why a message was not appended: what is said of it, and how long nothing is read. It holds no message."""

    code: str
    answer: bytes
    pause: float


class Inbox:
    """Messages that wait to be appended, as bytes: text of many scripts takes four times as much."""

    held = 0  # by all of the replica together

    def __init__(self) -> None:
        self._texts: list[bytes] = []
        self._bytes = 0
        self._filled, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._over = False

    async def put(self, text: bytes) -> None:
        """Add a message; return when there is room for another one. None is added behind the end."""
        if self._over:
            return
        self._texts.append(text)
        self._bytes += len(text)
        Inbox.held += len(text)
        most = BYTES if Inbox.held < MOST_BYTES else 0
        if len(self._texts) >= MESSAGES or self._bytes >= most:
            self._room.clear()
        self._filled.set()
        await self._room.wait()

    async def take(self) -> list[bytes]:
        """Everything that waits, once there is something; nothing at the end."""
        await self._filled.wait()
        return self._taken()

    def end(self) -> None:
        """Nothing more comes."""
        self._over = True
        self._filled.set()
        self._room.set()

    def close(self) -> None:
        """Nobody takes anything any more."""
        self.end()
        self._taken()

    def _taken(self) -> list[bytes]:
        texts, self._texts = self._texts, []
        Inbox.held -= self._bytes
        self._bytes = 0
        self._room.set()
        if not self._over:
            self._filled.clear()
        return texts


async def serve(replica: "Application", opening: Opening, scope: Scope, receive: Receive, send: Send) -> None:
    """Accept the handshake and serve the connection until one side ends it."""
    connection: Frames = scope["extensions"]["connection"]
    reader = replica.hub.join(opening, connection.abort)
    connection.when_lost = reader.gone
    try:
        await receive()
        headers = [(name.lower().encode(), value.encode()) for name, value in opening.headers if name.lower() in SHOWN]
        await send({"type": "websocket.accept", "subprotocol": _selected(scope["subprotocols"]), "headers": headers})
        inbox = Inbox()
        listening = asyncio.create_task(_listen(receive, inbox, reader))
        speaking = asyncio.create_task(_speak(replica, opening, inbox, reader, connection))
        for task in (listening, speaking):
            task.add_done_callback(lambda ended: _look(ended, reader))
        try:
            await _tell(replica.hub, reader, connection)
        finally:
            if reader.code != GONE:
                listening.cancel()
            await asyncio.wait({listening}, timeout=FINISH_SECONDS)
            inbox.end()
            await asyncio.wait({speaking}, timeout=FINISH_SECONDS)
        if reader.code != GONE:
            connection.end(CODES.get(reader.code or "", POLICY_VIOLATION), reader.code or "")
    except ClientDisconnected:
        reader.cut(GONE)
    finally:
        replica.hub.part(reader)
        connection.part()


def _selected(offered: Sequence[str]) -> str | None:
    """The subprotocol of the answer: a browser that offers some insists on one of them."""
    if PROTOCOL in offered:
        return PROTOCOL
    return next((each for each in offered if each.startswith(BEARER)), None)


async def _tell(hub: Hub, reader: Reader, connection: Frames) -> None:
    """Send events until the stream ends."""
    loop = asyncio.get_running_loop()
    while not is_over(reader):
        chunk = await next_chunk(hub, reader)
        if chunk is not None:
            reader.sending = loop.time()
            await connection.put(chunk.messages)
            reader.sending = None
            reader.position = chunk.last_seq
        elif not is_over(reader):
            await reader.changed()


async def _listen(receive: Receive, inbox: Inbox, reader: Reader) -> None:
    """Take in what the client says until it has gone."""
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return reader.cut(GONE)
        if message.get("text") is None:
            return reader.cut("unsupported_media_type")
        await inbox.put(message["text"].encode())


async def _speak(replica: "Application", opening: Opening, inbox: Inbox, reader: Reader, connection: Frames) -> None:
    """Append what the client has said, and say what was refused."""
    if opening.sender is None:
        raise AssertionError("the handshake names who speaks")
    first = 1
    try:
        while said := await _said(replica, opening.sender, first, inbox, reader):
            count, refused = said
            for each in refused:
                if each.code in ENDS:
                    return reader.cut(each.code)
                await connection.put(each.answer)
            first += count
            await asyncio.sleep(max((each.pause for each in refused), default=0))
    except ClientDisconnected:
        reader.cut(GONE)
    finally:
        inbox.close()


async def _said(
    replica: "Application", sender: Sender, first: int, inbox: Inbox, reader: Reader
) -> tuple[int, list[Refused]] | None:
    """Append what waits; how many messages it was, and what was refused. None at the end.

    The end of her access is one even while nothing can be sent to a client that does not read.
    """
    texts = await inbox.take()
    if not texts or reader.code in ENDS:
        return None
    appended: Appended | None = None
    try:
        appended, refused = await replica.run(_append, sender, first, texts)
    except errors.Problem as problem:  # no thread is free
        refused = [_refused(sender, number, problem) for number in range(first, first + len(texts))]
    if appended is not None:
        replica.hub.tell(appended.place, appended.first_seq, appended.events, appended.traceparent)
    return len(texts), refused


def _append(sender: Sender, first: int, texts: list[bytes]) -> tuple[Appended | None, list[Refused]]:
    """Append messages in one transaction, but those that are no events; they count for the limit all the same."""
    kept = tracing.begin(None, log.begin(sender.request_id, None))
    status = 500  # of a defect, which ends the connection
    try:
        appended, refused = _appended(sender, first, texts)
        status = 201 if appended else 400
    finally:
        if kept:
            kept.note("context.events", len(texts))
            tracing.end(kept, f"MESSAGE {sender.route.partition(' ')[2]}", status, None)
    return appended, refused


def _appended(sender: Sender, first: int, texts: list[bytes]) -> tuple[Appended | None, list[Refused]]:
    refused: dict[int, Refused] = {}
    events: dict[int, str] = {}
    for number, text in enumerate(texts, first):
        try:
            events[number] = event_of(text)
        except errors.Problem as problem:
            refused[number] = _refused(sender, number, problem)
    appended = None
    try:
        if refused:
            sender.count(len(refused))
        if events:
            appended = sender.send(list(events.values()))
    except errors.Problem as problem:
        refused |= {number: _refused(sender, number, problem) for number in events or refused}
    return appended, [refused[number] for number in sorted(refused)]


def _refused(sender: Sender, number: int, problem: errors.Problem) -> Refused:
    """What is said of a refused message: the problem, and which message of this connection it was, counted from 1."""
    body = problem.body(sender.request_id, settings().public_url) | {"message": number}
    seconds = int(problem.headers.get("Retry-After", 0))
    if seconds:
        body["retry_after"] = seconds
    answer = Chunk(0, [json.dumps({"problem": body}).encode()]).messages
    return Refused(problem.code, answer, min(float(seconds), LONGEST_PAUSE_SECONDS))


def _look(task: "asyncio.Task[None]", reader: Reader) -> None:
    """A defect ends the connection, not in silence."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        reporting.failure(error, "MESSAGE /v1/sessions/<session_id>/socket")
        reader.cut("internal_error")
