"""One session's events in memory, and its readers.

A topic knows the last seq up to which it has seen every event (`tip`) and keeps the newest events for a few seconds,
once, for all its readers: a reader is a position, not a buffer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from sessions.outcomes import Opening, Place

KEPT_BYTES = 2 * 1024 * 1024  # of one topic: two of the largest requests
CHUNK_BYTES = 64 * 1024  # what a stream is given at once
EARLY = 16  # batches of a topic, of 1 MiB at most, that wait for the one before them
GONE = "gone"  # the client has left
FLUSHED = frozenset({"session_closed"})  # ends before which the events that are left are still delivered


class Behind(Exception):
    """The position lies before what the topic keeps: what follows it stands in the database."""


class Chunk:
    """Some events that follow one another, shared by all who read them."""

    __slots__ = ("_frames", "_messages", "events", "first_seq")

    def __init__(self, first_seq: int, events: Sequence[bytes]) -> None:
        self.first_seq = first_seq
        self.events = events
        self._frames: bytes | None = None
        self._messages: bytes | None = None

    @property
    def last_seq(self) -> int:
        """The seq of the last one."""
        return self.first_seq + len(self.events) - 1

    @property
    def frames(self) -> bytes:
        """As server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
        if self._frames is None:
            numbered = enumerate(self.events, self.first_seq)
            self._frames = b"".join(b"id: %d\ndata: %b\n\n" % each for each in numbered)
        return self._frames

    @property
    def messages(self) -> bytes:
        """As WebSocket messages: a server masks nothing, so the bytes are the same for everybody."""
        if self._messages is None:
            self._messages = b"".join(map(_message, self.events))
        return self._messages


def _message(text: bytes) -> bytes:
    """An unfragmented text frame (RFC 6455, section 5.2)."""
    size = len(text)
    if size < 126:
        return b"\x81%c%b" % (size, text)
    if size < 65_536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), text)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), text)


class Topic:
    """The events of one session as far as this replica has seen them, and who reads them."""

    __slots__ = (
        "_chunk",
        "_early",
        "_kept",
        "_kept_bytes",
        "code",
        "over",
        "place",
        "readers",
        "repair",
        "seen",
        "tip",
    )

    def __init__(self, place: Place, tip: int) -> None:
        self.place = place
        self.tip = tip  # every event up to here has been seen
        self.seen = tip  # there are events up to here
        self.over: str | None = None  # why they will end, once every event has been seen
        self.code: str | None = None  # why the session's streams end
        self.readers: set[Reader] = set()
        self._kept: deque[tuple[float, bytes]] = deque()  # the newest events, the last of them has the seq `tip`
        self._kept_bytes = 0
        self._early: dict[int, Sequence[bytes]] = {}
        self._chunk: tuple[int, Chunk] = (0, Chunk(0, ()))
        self.repair: asyncio.Task[None] | None = None

    def add(self, first_seq: int, events: Sequence[bytes]) -> bool:
        """Take events in; those that are known are ignored. False when some before them are missing."""
        last = first_seq + len(events) - 1
        self.seen = max(self.seen, last)
        if first_seq > self.tip + 1:
            if len(self._early) < EARLY:
                self._early[first_seq] = events
            return False
        if last > self.tip:
            self._append(events[self.tip + 1 - first_seq :])
        while self._early:
            first = min(self._early)
            if first > self.tip + 1:
                return False
            early = self._early.pop(first)
            self._append(early[self.tip + 1 - first :])
        return self.tip >= self.seen

    def _append(self, events: Sequence[bytes]) -> None:
        if not events:
            return
        now = asyncio.get_running_loop().time()
        for event in events:
            self._kept.append((now, event))
            self._kept_bytes += len(event)
        self.tip += len(events)
        self.shrink(KEPT_BYTES)
        for reader in self.readers:
            reader.wake()

    @property
    def kept_bytes(self) -> int:
        """How much it keeps."""
        return self._kept_bytes

    def shrink(self, most: int) -> None:
        """Keep no more than so many bytes, or the newest event."""
        while self._kept_bytes > most and len(self._kept) > 1:
            self._kept_bytes -= len(self._kept.popleft()[1])

    @property
    def first_kept(self) -> int:
        """The seq of the oldest event that is kept."""
        return self.tip - len(self._kept) + 1

    def skip_to(self, seq: int) -> None:
        """Everything up to there has gone for its age."""
        if seq > self.tip + 1:
            self.tip = seq - 1
            self._kept.clear()
            self._kept_bytes = 0

    def nothing_more(self) -> None:
        """The database has nothing behind the tip."""
        self.seen = self.tip
        self._early.clear()

    def forget(self, before: float) -> None:
        """Let go of what arrived before this moment of the loop's clock."""
        while self._kept and self._kept[0][0] < before:
            self._kept_bytes -= len(self._kept.popleft()[1])

    def after(self, position: int) -> Chunk | None:
        """The events behind a position, as many as go at once; None when there are none yet. Raises Behind."""
        if position >= self.tip:
            return None
        tip, chunk = self._chunk
        if tip == self.tip and chunk.first_seq == position + 1:
            return chunk
        start = len(self._kept) - (self.tip - position)
        if start < 0:
            raise Behind
        events: list[bytes] = []
        size = 0
        for place in range(start, len(self._kept)):
            event = self._kept[place][1]
            size += len(event)
            if events and size > CHUNK_BYTES:
                break
            events.append(event)
        chunk = Chunk(position + 1, events)
        self._chunk = (self.tip, chunk)
        return chunk

    def end(self, code: str) -> None:
        """The session is over for its readers here."""
        self.code = self.code or code
        for reader in self.readers:
            reader.cut(code)


class Reader:
    """One open stream: whose it is, how far it has come, and why it has to end."""

    __slots__ = (
        "_waiting",
        "abort",
        "beat",
        "beats",
        "claim",
        "code",
        "due",
        "expires_at",
        "fell",
        "live",
        "position",
        "sending",
        "topic",
    )

    def __init__(self, topic: Topic, opening: Opening, beats: "set[Reader]", abort: Callable[[], None]) -> None:
        self.topic = topic
        self.beats = beats  # whoever has a heartbeat in the same second
        self.claim = opening.claim
        self.expires_at = opening.expires_at
        self.due = 0.0  # when the watcher asks the database about it
        self.position = opening.after
        self.live = False  # it has come as far as the topic
        self.fell: float | None = None  # when it was last left behind
        self.code: str | None = topic.code
        self.beat = False  # a heartbeat is due
        self.sending: float | None = None  # since when it takes nothing
        self.abort = abort  # ends the connection without waiting for the other side
        self._waiting: asyncio.Future[None] | None = None

    @property
    def place(self) -> Place:
        """The session that it reads."""
        return self.topic.place

    def wake(self) -> None:
        """Something has changed for it."""
        waiting = self._waiting
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def changed(self) -> None:
        """Return when somebody has woken it."""
        self._waiting = asyncio.get_running_loop().create_future()
        await self._waiting

    def gone(self) -> None:
        """The client has left."""
        self.cut(GONE)

    def cut(self, code: str) -> None:
        """End the stream; the first reason counts."""
        if self.code is None or (self.code in FLUSHED and code not in FLUSHED):
            self.code = code
        self.wake()
