"""The hub by itself: whatever is lost, doubled or turned round, each reader gets each event once and in order."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common import errors
from common.tokens import Claim
from sessions import hub as hubs
from sessions import stream
from sessions import topic as topics
from sessions.hub import Hub
from sessions.outcomes import Opening, Place
from sessions.topic import Reader

PLACE = Place("tenant", "session")
ALICE, DAN = Claim("u", "tenant", "alice", "login-1"), Claim("u", "tenant", "dan", "login-2")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(hubs, "PATIENCE_SECONDS", 0.0)


class Database:
    """The truth: every event of the session, those that went for their age, whose claims are refused."""

    def __init__(self, events: int = 0) -> None:
        self.events = [b"%d" % seq for seq in range(1, events + 1)]
        self.oldest = 1
        self.refused: dict[Claim, str] = {}
        self.reads: list[tuple[Claim, int]] = []
        self.page = 3

    async def read(self, claim: Claim, _place: Place, after: int) -> tuple[int, list[bytes]]:
        self.reads.append((claim, after))
        await asyncio.sleep(0)
        if claim in self.refused:
            raise errors.Problem(self.refused[claim])
        first = max(after + 1, self.oldest)
        return first, self.events[first - 1 : first - 1 + self.page]

    def append(self, count: int) -> tuple[int, list[bytes]]:
        first = len(self.events) + 1
        new = [b"%d" % seq for seq in range(first, first + count)]
        self.events += new
        return first, new


class Client:
    """A stream that is served into a list; `open` is cleared while it takes nothing."""

    def __init__(
        self, hub: Hub, database: Database, *, after: int | None = None, claim: Claim = ALICE, closed: bool = False
    ) -> None:
        tip = len(database.events)
        opening = Opening(PLACE, claim, after=tip if after is None else after, tip=tip, closed=closed, expires_at=None)
        self.aborted = False
        self.reader: Reader = hub.join(opening, self.abort)
        self.after = opening.after
        self.sent: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()
        self.task = asyncio.ensure_future(self._serve(hub))

    def abort(self) -> None:
        self.aborted = True
        self.open.set()

    async def _serve(self, hub: Hub) -> None:
        try:
            await stream.serve(hub, self.reader, self._put)
        finally:
            hub.part(self.reader)

    async def _put(self, data: bytes) -> None:
        await self.open.wait()
        self.sent.append(data)

    @property
    def seen(self) -> list[int]:
        """The ids in the order in which they came."""
        lines = b"".join(self.sent).split(b"\n")
        return [int(line.removeprefix(b"id: ")) for line in lines if line.startswith(b"id: ")]

    @property
    def farewell(self) -> bytes:
        return self.sent[-1] if b"event: end" in self.sent[-1] else b""


async def settled(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    pytest.fail("it did not come to rest")


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))  # type: ignore[arg-type]


FATES = st.sampled_from(["told", "lost", "twice", "late"])


@settings(max_examples=80, deadline=None)
@given(
    before=st.integers(0, 8),
    batches=st.lists(st.tuples(st.integers(1, 4), FATES), max_size=12),
    resumed=st.lists(st.integers(0, 8), min_size=1, max_size=4),
)
def test_each_event_once_and_in_order(before, batches, resumed):
    async def story() -> None:
        database = Database(before)
        hub = Hub(database.read)
        clients = [Client(hub, database, after=min(after, before)) for after in resumed]
        late = []
        for count, fate in batches:
            first, events = database.append(count)
            if fate == "late":
                late.append((first, events))
            elif fate != "lost":
                hub.offer(PLACE, first, events)
            if fate == "twice":
                hub.offer(PLACE, first, events)
            await asyncio.sleep(0)
        for first, events in late:
            hub.offer(PLACE, first, events)
        hub.seen(PLACE, len(database.events))  # what the watcher says
        everything = len(database.events)
        await settled(lambda: all(client.reader.position == everything for client in clients))
        for client in clients:
            assert client.seen == list(range(client.after + 1, everything + 1))
            client.reader.cut(topics.GONE)
            await client.task
        assert hub.topics() == ()

    run(story)


def test_what_arrives_in_order_is_not_read_from_the_database():
    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        client = Client(hub, database)
        for _ in range(20):
            hub.offer(PLACE, *database.append(2))
        await settled(lambda: client.reader.position == 40)
        assert database.reads == []
        client.reader.cut(topics.GONE)
        await client.task

    run(story)


def test_batches_that_overtake_each_other_wait_for_each_other(monkeypatch):
    monkeypatch.setattr(hubs, "PATIENCE_SECONDS", 5.0)

    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        client = Client(hub, database)
        first, second, third = (database.append(2) for _ in range(3))
        for batch in (third, second, first):
            hub.offer(PLACE, *batch)
        await settled(lambda: client.reader.position == 6)
        assert client.seen == [1, 2, 3, 4, 5, 6]
        assert database.reads == []
        client.reader.cut(topics.GONE)
        await client.task

    run(story)


def test_closing_delivers_what_was_said_before():
    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        client = Client(hub, database)
        database.append(5)  # and its message is lost
        hub.end(PLACE, "session_closed")
        await asyncio.wait_for(client.task, 5)
        assert client.seen == [1, 2, 3, 4, 5]
        assert b'"session_closed","resume_after":5' in client.farewell
        assert b"retry" not in client.farewell

    run(story)


@pytest.mark.parametrize("code", ["invalid_token", "organization_suspended", "not_found"])
def test_whose_access_ends_gets_nothing_more(code):
    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        client, other = Client(hub, database), Client(hub, database, claim=DAN)
        hub.offer(PLACE, *database.append(1))
        await settled(lambda: client.reader.position == 1)
        client.reader.cut(code)
        hub.offer(PLACE, *database.append(3))
        await asyncio.wait_for(client.task, 5)
        await settled(lambda: other.reader.position == 4)
        assert client.seen == [1]
        assert f'"code":"{code}"'.encode() in client.farewell
        other.reader.cut(topics.GONE)
        await other.task

    run(story)


def test_a_hole_is_mended_by_the_claim_of_somebody_who_may():
    async def story() -> None:
        database = Database()
        database.refused[ALICE] = "invalid_token"
        hub = Hub(database.read)
        alice, dan = Client(hub, database), Client(hub, database, claim=DAN)
        database.append(2)
        hub.offer(PLACE, *database.append(1))
        await settled(lambda: dan.reader.position == 3)
        assert dan.seen == [1, 2, 3]
        if alice.task.done():  # she was asked first
            assert alice.seen == []
        for client in (alice, dan):
            client.reader.cut(topics.GONE)
            await client.task

    run(story)


async def fallen(slow: Client, quick: Client, hub: Hub, database: Database) -> None:
    """`slow` takes nothing while more is said than is kept."""
    await settled(lambda: slow.reader.live and slow.reader.position == quick.reader.position)
    slow.open.clear()
    for _ in range(30):
        hub.offer(PLACE, *database.append(1))
        await settled(lambda: quick.reader.position == len(database.events))
    slow.open.set()


def test_a_slow_reader_is_cut_and_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(topics, "KEPT_BYTES", 10)

    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        slow, quick = Client(hub, database), Client(hub, database)
        hub.offer(PLACE, *database.append(1))
        await fallen(slow, quick, hub, database)
        await settled(lambda: slow.reader.position == 31)  # once anybody may
        await fallen(slow, quick, hub, database)
        await asyncio.wait_for(slow.task, 5)
        assert b'"slow_reader","resume_after":32' in slow.farewell
        assert b"retry: " in slow.farewell
        resumed = Client(hub, database, after=32)
        await settled(lambda: resumed.reader.position == 61)
        assert slow.seen + resumed.seen == list(range(1, 62))
        for client in (quick, resumed):
            client.reader.cut(topics.GONE)
            await client.task

    run(story)


def test_a_burst_larger_than_what_is_kept_reaches_everybody(monkeypatch):
    monkeypatch.setattr(topics, "KEPT_BYTES", 10)

    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        clients = [Client(hub, database) for _ in range(3)]
        await settled(lambda: all(client.reader.live for client in clients))
        hub.offer(PLACE, *database.append(100))
        await settled(lambda: all(client.reader.position == 100 for client in clients))
        for client in clients:
            assert client.seen == list(range(1, 101))
            client.reader.cut(topics.GONE)
            await client.task

    run(story)


def test_who_does_not_catch_up_is_cut(monkeypatch):
    monkeypatch.setattr(topics, "KEPT_BYTES", 10)
    monkeypatch.setattr(stream, "PARDON_SECONDS", 0.05)

    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        slow, quick = Client(hub, database), Client(hub, database)
        await fallen(slow, quick, hub, database)
        while not slow.task.done():
            hub.offer(PLACE, *database.append(10))
            await asyncio.sleep(0.001)
        assert b'"slow_reader"' in slow.farewell
        quick.reader.cut(topics.GONE)
        await quick.task

    run(story)


def test_a_reader_that_takes_nothing_is_broken_off(monkeypatch):
    monkeypatch.setattr(hubs, "STALLED_SECONDS", 0)

    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        ticking = asyncio.ensure_future(hub.tick())
        client = Client(hub, database)
        await settled(lambda: len(client.sent) > 0)
        client.open.clear()
        hub.offer(PLACE, *database.append(1))
        await settled(lambda: client.aborted)
        await asyncio.wait_for(client.task, 5)
        ticking.cancel()

    run(story)


def test_events_that_went_for_their_age_are_passed_over():
    async def story() -> None:
        database = Database(10)
        database.oldest = 7
        hub = Hub(database.read)
        client = Client(hub, database, after=2)
        await settled(lambda: client.reader.position == 10)
        assert client.seen == [7, 8, 9, 10]
        client.reader.cut(topics.GONE)
        await client.task

    run(story)


def test_a_message_about_events_that_are_not_there_changes_nothing():
    async def story() -> None:
        database = Database(2)
        hub = Hub(database.read)
        client = Client(hub, database)
        hub.offer(PLACE, 1_000_000, [b"forged"])
        await settled(lambda: len(database.reads) > 0)
        hub.offer(PLACE, *database.append(2))
        await settled(lambda: client.reader.position == 4)
        assert client.seen == [3, 4]
        client.reader.cut(topics.GONE)
        await client.task

    run(story)


def test_a_replica_that_goes_tells_everybody_to_come_back():
    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        clients = [Client(hub, database) for _ in range(120)]
        hub.offer(PLACE, *database.append(1))
        await hub.drain(0.01)
        late = Client(hub, database)
        await asyncio.wait_for(asyncio.gather(*(client.task for client in [*clients, late])), 5)
        waits = set()
        for client in [*clients, late]:
            assert b'"code":"draining"' in client.farewell
            waits.add(client.farewell.split(b"\n")[0])
        assert len(waits) > 20  # they do not all come back in the same moment
        assert hub.topics() == ()

    run(story)


def test_a_batch_of_which_the_beginning_is_known_adds_only_the_rest():
    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        client = Client(hub, database)
        _, events = database.append(5)
        hub.offer(PLACE, 1, events[:3])
        hub.offer(PLACE, 1, events)
        await settled(lambda: client.reader.position == 5)
        assert client.seen == [1, 2, 3, 4, 5]
        client.reader.cut(topics.GONE)
        await client.task

    run(story)


def test_closing_waits_for_who_has_not_taken_everything_yet():
    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        client = Client(hub, database)
        await settled(lambda: client.reader.live)
        client.open.clear()
        hub.offer(PLACE, *database.append(1))
        await settled(lambda: client.reader.sending is not None)
        hub.offer(PLACE, *database.append(4))
        hub.end(PLACE, "session_closed")
        await settled(lambda: client.reader.code == "session_closed")
        client.open.set()
        await asyncio.wait_for(client.task, 5)
        assert client.seen == [1, 2, 3, 4, 5]
        assert b'"session_closed","resume_after":5' in client.farewell

    run(story)
