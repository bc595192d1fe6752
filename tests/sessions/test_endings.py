"""The end of a session comes behind its last event, for everybody: who comes late, and while the database is away."""

import asyncio

import pytest

from sessions import hub as hubs
from sessions.hub import Hub
from tests.sessions.test_hub import ALICE, DAN, PLACE, Client, Database, run, settled
from tests.valkeys import process_settings


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(hubs, "PATIENCE_SECONDS", 0.0)


def ended_behind(client: Client, seq: int) -> bool:
    return f'"session_closed","resume_after":{seq}'.encode() in client.farewell


@pytest.mark.parametrize("after", [2, 3, 4, 5])
def test_who_comes_to_a_closed_session_that_the_replica_has_not_heard_of(after):
    async def story() -> None:
        database = Database(2)
        hub = Hub(database.read)
        early = Client(hub, database)
        await settled(lambda: early.reader.live)
        database.append(3)  # at another replica, which then closes it; its messages are lost
        late = Client(hub, database, after=after, closed=True)
        await asyncio.wait_for(asyncio.gather(early.task, late.task), 5)
        assert early.seen == [3, 4, 5]
        assert late.seen == list(range(after + 1, 6))
        assert ended_behind(early, 5)
        assert ended_behind(late, 5)

    run(story)


def test_while_the_database_is_away_nobody_is_told_that_it_is_over(monkeypatch):
    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        client = Client(hub, database)
        database.append(3)  # and its message is lost
        database.refused[ALICE] = "unavailable"
        hub.end(PLACE, "session_closed")
        await settled(lambda: len(database.reads) > 0)
        await asyncio.sleep(0.01)
        assert not client.task.done()
        database.refused.clear()
        hub.end(PLACE, "session_closed")  # the watcher says it again
        await asyncio.wait_for(client.task, 5)
        assert client.seen == [1, 2, 3]
        assert ended_behind(client, 3)

    with process_settings(monkeypatch):  # it is said in the log
        run(story)


def test_a_page_that_was_read_before_the_end_is_not_the_last():
    async def story() -> None:
        database, asking, answer = Database(), asyncio.Event(), asyncio.Event()

        async def slow(claim, place, after):
            page = await database.read(claim, place, after)
            asking.set()
            await answer.wait()
            return page

        hub = Hub(slow)
        client = Client(hub, database)
        hub.followed(PLACE)
        await asking.wait()
        database.append(2)  # and its message is lost
        hub.end(PLACE, "session_closed")
        answer.set()
        await asyncio.wait_for(client.task, 5)
        assert client.seen == [1, 2]

    run(story)


def test_what_comes_while_a_hole_is_looked_at_is_not_passed_over(monkeypatch):
    """Her events have gone with their author; before the database says so, more is said than is kept."""
    monkeypatch.setattr("sessions.topic.KEPT_BYTES", 2)

    async def story() -> None:
        database, asking, answer = Database(3), asyncio.Event(), asyncio.Event()
        database.oldest = 4

        async def slow(claim, place, after):
            page = await database.read(claim, place, after)
            asking.set()
            await answer.wait()
            return page

        hub = Hub(slow)
        client = Client(hub, database, after=0)
        await asking.wait()
        for _ in range(4):
            hub.offer(PLACE, *database.append(1))
        answer.set()
        await settled(lambda: client.reader.position == 7)
        assert client.seen == [4, 5, 6, 7]
        client.reader.cut("gone")
        await client.task

    run(story)


def test_what_is_kept_behind_a_hole_comes_at_once():
    async def story() -> None:
        database = Database(2)
        hub = Hub(database.read)
        ahead = Client(hub, database)
        hub.offer(PLACE, *database.append(2))
        await settled(lambda: ahead.reader.position == 4)
        database.oldest = 5  # everything has gone since
        late = Client(hub, database, after=0)
        await settled(lambda: late.reader.position == 4)  # no heartbeat wakes it here
        for client in (ahead, late):
            client.reader.cut("gone")
            await client.task

    run(story)


def test_who_may_not_read_any_more_and_takes_nothing_is_broken_off(monkeypatch):
    monkeypatch.setattr(hubs, "STALLED_SECONDS", 0.5)

    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        alice, dan = Client(hub, database), Client(hub, database, claim=DAN)
        await settled(lambda: alice.reader.live and dan.reader.live)
        alice.open.clear()
        hub.offer(PLACE, *database.append(1))
        database.refused = {ALICE: "invalid_token", DAN: "invalid_token"}
        hub.seen(PLACE, 9)
        await asyncio.wait_for(dan.task, 5)
        ticking = asyncio.ensure_future(hub.tick())
        await asyncio.wait_for(alice.task, 5)
        assert alice.aborted
        ticking.cancel()

    run(story)


def test_nobody_is_asked_for_twice():
    """A claim that the database refuses is not asked again and again while its stream ends."""

    async def story() -> None:
        database = Database()
        hub = Hub(database.read)
        alice = Client(hub, database)
        await settled(lambda: alice.reader.live)
        alice.open.clear()
        database.refused = {ALICE: "not_found"}
        hub.offer(PLACE, 5, [b"5"])
        hub.end(PLACE, "session_closed")
        await asyncio.sleep(0.02)
        assert len(database.reads) == 1
        alice.open.set()
        await asyncio.wait_for(alice.task, 5)
        assert b'"not_found"' in alice.farewell

    run(story)
