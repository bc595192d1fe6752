"""Events on their way to the streams of this replica: one topic per session that somebody watches here.

The database is the truth: a hole before an event that arrives is read from it. Everything here runs on the event loop's
thread.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Protocol

from common import errors, log, metrics, tracing
from common.tokens import Claim
from sessions.outcomes import Opening, Place
from sessions.topic import FLUSHED, GONE, Reader, Topic

KEPT_SECONDS = 10
KEPT_BYTES = 128 * 1024 * 1024  # of all topics together, looked after once a second
PATIENCE_SECONDS = 0.05  # how long a hole may stay one before it is read from the database
HEARTBEAT_SECONDS = 15
UNKNOWN = 2**63  # how many events there are, until the database has said it
PARDON_SECONDS = 60  # who is left behind once has so long to catch up, and may not be left behind again meanwhile
STALLED_SECONDS = 15  # a reader that takes nothing for so long is cut
LAST_WORDS_SECONDS, LOOK_SECONDS = 5.0, 0.05  # for readers that are still there when a replica has drained
CUTS = frozenset({"invalid_token", "organization_suspended", "permission_denied", "not_found"})  # refusals that end one

Read = Callable[[Claim, Place, int], Awaitable[tuple[int, list[bytes]]]]  # the first one's seq, and the events


class Fan(Protocol):
    """The way to the other replicas: nothing in it blocks or raises. `up`: it works for now."""

    @property
    def up(self) -> bool: ...
    def follow(self, place: Place) -> None: ...
    def leave(self, place: Place) -> None: ...
    def tell(self, place: Place, first_seq: int, events: Sequence[bytes]) -> None: ...
    def tell_end(self, place: Place, code: str) -> None: ...


class Hub:
    """All topics of this replica. `read(claim, place, after)` reads a page from the database by that claim."""

    def __init__(self, read: Read) -> None:
        self.read = read
        self.fan: Fan | None = None
        self.draining = False
        self._topics: dict[Place, Topic] = {}
        self._beats: list[set[Reader]] = [set() for _ in range(HEARTBEAT_SECONDS)]
        self._joined = 0
        self._open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def topics(self) -> Sequence[Topic]:
        """Whatever is watched here."""
        return tuple(self._topics.values())

    def readers(self) -> Iterator[Reader]:
        """Every open stream."""
        for topic in self.topics():
            yield from tuple(topic.readers)

    def join(self, opening: Opening, abort: Callable[[], None]) -> Reader:
        """A reader for a stream that has just been opened."""
        topic = self._topics.get(opening.place)
        if topic is None:
            topic = self._topics[opening.place] = Topic(opening.place, opening.tip)
            if self.fan is not None:
                self.fan.follow(opening.place)
        self._joined += 1
        self._open += 1
        metrics.STREAMS.set(self._open)
        reader = Reader(topic, opening, self._beats[self._joined % HEARTBEAT_SECONDS], abort)
        topic.readers.add(reader)
        reader.beats.add(reader)
        self.seen(opening.place, opening.tip)
        if opening.closed:
            self.end(opening.place, "session_closed")
        if self.draining:
            reader.cut("draining")
        return reader

    def part(self, reader: Reader) -> None:
        """The stream has ended."""
        self._open -= 1
        metrics.STREAMS.set(self._open)
        metrics.STREAMS_ENDED.add(1, reader.code or GONE)
        topic = reader.topic
        topic.readers.discard(reader)
        reader.beats.discard(reader)
        if not topic.readers and self._topics.get(topic.place) is topic:
            del self._topics[topic.place]
            if self.fan is not None:
                self.fan.leave(topic.place)

    def offer(self, place: Place, first_seq: int, events: Sequence[bytes]) -> None:
        """Events of a session: appended here, or told by another replica."""
        topic = self._topics.get(place)
        if topic is not None and not topic.add(first_seq, events):
            self._mend(topic)

    def end(self, place: Place, code: str) -> None:
        """The session is over: closed, or deleted."""
        topic = self._topics.get(place)
        if topic is None:
            return
        if code not in FLUSHED:
            topic.end(code)
        elif topic.code is None:  # what was said until then is still delivered
            topic.over, topic.seen = code, UNKNOWN
            self._mend(topic)

    def seen(self, place: Place, last_seq: int) -> None:
        """The database says that the session has events up to there."""
        topic = self._topics.get(place)
        if topic is not None and last_seq > topic.tip:
            topic.seen = max(topic.seen, last_seq)
            self._mend(topic)

    def followed(self, place: Place) -> None:
        """From now on the session's events are told here: what was said until then may have been missed."""
        topic = self._topics.get(place)
        if topic is not None:
            self.seen(place, UNKNOWN)

    def tell(self, place: Place, first_seq: int, events: Sequence[bytes], traceparent: str | None = None) -> None:
        """Events that a request appended here: to the streams of this replica and of the others."""
        with tracing.following(traceparent, "tell streams", {"context.events": len(events)}):
            self.offer(place, first_seq, events)
            if self.fan is not None:
                self.fan.tell(place, first_seq, events)

    def tell_end(self, place: Place, code: str) -> None:
        """A session that was ended here, likewise."""
        self.end(place, code)
        if self.fan is not None:
            self.fan.tell_end(place, code)

    def _mend(self, topic: Topic) -> None:
        if topic.repair is not None and not topic.repair.done():
            return
        task = topic.repair = asyncio.get_running_loop().create_task(self._repaired(topic))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _repaired(self, topic: Topic) -> None:
        """Read what is missing, unless it arrives in time, by the claim of one of the readers.

        A session that is over ends for them when the database, asked since, has nothing more: not when it is away.
        """
        await asyncio.sleep(0 if topic.over else PATIENCE_SECONDS)
        while topic.tip < topic.seen:
            reader = next((each for each in topic.readers if each.code is None or each.code in FLUSHED), None)
            if reader is None:
                return
            asked = topic.seen, topic.over
            try:
                first, events = await self.read(reader.claim, topic.place, topic.tip)
            except errors.Problem as problem:
                if problem.code in CUTS:
                    reader.cut(problem.code)  # the next one's claim is asked
                    continue
                log.entry("WARNING", "missing events could not be read yet", code=problem.code)
                return  # the watcher will say again that they are there
            if events:
                topic.skip_to(first)
                topic.add(first, events)
            elif asked == (topic.seen, topic.over):
                topic.nothing_more()
                if topic.over:
                    topic.end(topic.over)
            else:
                await asyncio.sleep(PATIENCE_SECONDS)

    def _forget(self, before: float) -> None:
        """Let go of what arrived before; and of more when it is too much, so that each topic keeps its share."""
        topics = self.topics()
        kept = 0
        for topic in topics:
            topic.forget(before)
            kept += topic.kept_bytes
        if kept > KEPT_BYTES:
            for topic in topics:
                topic.shrink(KEPT_BYTES // len(topics))

    async def tick(self) -> None:
        """Once a second, for ever: heartbeats, readers that take nothing, events that are kept no longer."""
        loop = asyncio.get_running_loop()
        second = 0
        while True:
            await asyncio.sleep(1)
            second += 1
            now = loop.time()
            self._forget(now - KEPT_SECONDS)
            for reader in tuple(self._beats[second % HEARTBEAT_SECONDS]):
                reader.beat = True
                reader.wake()
            for reader in self.readers():
                if reader.sending is not None and now - reader.sending > STALLED_SECONDS:
                    reader.cut("slow_reader")
                    reader.abort()

    async def drain(self, seconds: float) -> None:
        """End every stream with a hint to come back, spread over so many seconds; new ones end at once.

        It takes that long even without a stream: meanwhile the load balancer learns to send nobody here. Whoever does
        not take the last words is waited for a little.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        readers = list(self.readers())
        for place, reader in enumerate(readers):
            reader.cut("draining")
            if place % 50 == 49:
                await asyncio.sleep(seconds * 50 / len(readers))
        await asyncio.sleep(end - loop.time())
        while next(self.readers(), None) is not None and loop.time() < end + LAST_WORDS_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
