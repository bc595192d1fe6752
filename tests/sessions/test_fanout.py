"""The way between replicas: two of them, each with its hub, and a Valkey that is killed, held and flushed."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from common import log
from sessions import link
from sessions.fanout import Fanout, channel_of
from sessions.hub import Hub
from sessions.outcomes import Place
from sessions.topic import GONE
from tests.sessions.test_hub import PLACE, Client, Database
from tests.valkeys import Metadata, OwnValkey, metadata_server, process_settings

CHANNEL = channel_of(PLACE)


@pytest.fixture
def server(monkeypatch):
    running = OwnValkey()
    monkeypatch.setattr(link, "SETTLED_SECONDS", 0.05)
    with process_settings(monkeypatch, VALKEY_URL=running.url):
        yield running
    running.stop()


class Replica:
    """A hub with its way to the others."""

    def __init__(self, database: Database) -> None:
        self.hub = Hub(database.read)
        self.fan = Fanout(self.hub)
        self.hub.fan = self.fan


@asynccontextmanager
async def replicas(database: Database, number: int = 2) -> AsyncIterator[list[Replica]]:
    made = [Replica(database) for _ in range(number)]
    tasks = [asyncio.ensure_future(each.fan.run()) for each in made]
    try:
        await until(lambda: all(each.fan.up for each in made))
        yield made
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def leave(client: Client) -> None:
    client.reader.cut(GONE)
    await client.task


def run(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(story())  # type: ignore[arg-type]


def followers(server: OwnValkey) -> int:
    with server.admin() as client:
        return int(client.pubsub_numsub(CHANNEL)[0][1])


def test_what_is_appended_at_one_replica_is_streamed_by_the_other(server):
    async def story() -> None:
        database = Database(3)
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            topic = there.hub.topics()[0]  # it looks for what may have come before the channel was followed
            await until(lambda: database.reads and topic.seen == topic.tip)
            database.reads.clear()
            for size in (1, 5, 2):
                here.hub.tell(PLACE, *database.append(size))
            await until(lambda: client.reader.position == 11)
            assert client.seen == list(range(4, 12))
            assert database.reads == []
            await leave(client)
            await until(lambda: followers(server) == 0)

    run(story)


def test_events_of_every_size_and_shape(server):
    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            texts = [b'{"seq":1,"data":"' + b"x" * 65_536 + b'"}'] * 100
            first, _ = database.append(100)
            database.events[first - 1 :] = texts
            here.hub.tell(PLACE, first, texts)
            await until(lambda: client.reader.position == 100)
            assert b"".join(client.sent).count(b"x" * 65_536) == 100
            await leave(client)

    run(story)


def test_a_lost_message_is_read_from_the_database(server):
    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            database.append(4)  # told to nobody
            here.hub.tell(PLACE, *database.append(1))
            await until(lambda: client.reader.position == 5)
            assert client.seen == [1, 2, 3, 4, 5]
            await leave(client)

    run(story)


def test_the_end_comes_behind_the_last_event(server):
    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            here.hub.tell(PLACE, *database.append(3))
            here.hub.tell_end(PLACE, "session_closed")
            await asyncio.wait_for(client.task, 10)
            assert client.seen == [1, 2, 3]
            assert b'"code":"session_closed","resume_after":3' in client.farewell

    run(story)


def test_nonsense_is_not_believed(server):
    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            nonsense = [
                b"",
                b"\n",
                b"E",
                b"E1",
                b"Ex\n{}",
                b"E-1\n{}",
                b"E" + b"9" * 99 + b"\n{}",
                b"Cwhatever",
                b"C\xff",
            ]
            with server.admin() as speaker:
                for each in (*nonsense, b"E7\n{}"):  # the last one is of events that are not there
                    speaker.publish(CHANNEL, each)
            here.hub.tell(PLACE, *database.append(2))
            await until(lambda: client.reader.position == 2)
            assert client.seen == [1, 2]
            assert client.reader.code is None
            await leave(client)

    run(story)


@pytest.mark.parametrize("how", ["killed", "closed by it"])
def test_a_lost_connection_is_made_anew(server, how):
    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            if how == "killed":
                server.kill()
                await until(lambda: not here.fan.up and not there.fan.up)
                here.hub.tell(PLACE, *database.append(3))  # says nothing, and reaches nobody
                there.hub.seen(PLACE, 3)  # as the watcher does while it is away
                await until(lambda: client.reader.position == 3)
                server.start()
            else:
                with server.admin() as speaker:
                    speaker.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                    speaker.execute_command("CLIENT", "KILL", "TYPE", "normal")
                await until(lambda: not there.fan.up)
                there.hub.seen(PLACE, len(database.append(3)[1]))
            await until(lambda: here.fan.up and there.fan.up)
            assert followers(server) == 1
            reads = len(database.reads)
            here.hub.tell(PLACE, *database.append(2))
            await until(lambda: client.reader.position == 5)
            assert client.seen == [1, 2, 3, 4, 5]
            assert len(database.reads) == reads, "it is told again, not looked up"
            await leave(client)

    run(story)


def test_thousands_of_sessions_are_followed_again(server):
    async def story() -> None:
        async with replicas(Database(), 1) as (here,):
            for number in range(1_200):
                here.fan.follow(Place("tenant", str(number)))
            here.fan.leave(Place("tenant", "7"))
            server.kill()
            await until(lambda: not here.fan.up)
            here.fan.follow(Place("tenant", "new"))
            here.fan.leave(Place("tenant", "8"))
            server.start()
            await until(lambda: here.fan.up)
            with server.admin() as client:
                found = {each.decode().rpartition(":")[2] for each in client.pubsub_channels()}
            assert found == {*map(str, range(1_200)), "new"} - {"7", "8"}

    run(story)


def test_flushing_it_changes_nothing(server):
    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            with server.admin() as speaker:
                speaker.flushall()
                speaker.script_flush()
            here.hub.tell(PLACE, *database.append(2))
            await until(lambda: client.reader.position == 2)
            assert here.fan.up
            assert there.fan.up
            await leave(client)

    run(story)


def test_held_it_holds_up_nobody(server, monkeypatch):
    monkeypatch.setattr(link, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(link, "OVERDUE_SECONDS", 0.2)
    monkeypatch.setattr(link, "DEAD_SECONDS", 60.0)

    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client, own = Client(there.hub, database), Client(here.hub, database)
            await until(lambda: followers(server) == 1 + 1)
            server.send(signal.SIGSTOP)
            for _ in range(200):
                first, _ = database.append(1)
                database.events[first - 1] = b"%d" % first + b" " * 100_000
                here.hub.tell(PLACE, first, [database.events[first - 1]])
                await asyncio.sleep(0)
            await until(lambda: own.reader.position == 200)  # here nobody waits for Valkey
            assert here.fan._link._outgoing_bytes < 2_000_000, "what nobody takes is dropped"
            await until(lambda: not here.fan.up and not there.fan.up)
            there.hub.seen(PLACE, 200)
            await until(lambda: client.reader.position == 200)
            server.send(signal.SIGCONT)
            await until(lambda: here.fan.up and there.fan.up)
            here.hub.tell(PLACE, *database.append(1))
            await until(lambda: client.reader.position == 201)
            assert client.seen == list(range(1, 202))
            await leave(client)
            await leave(own)

    run(story)


def test_held_for_long_it_is_connected_anew(server, monkeypatch):
    monkeypatch.setattr(link, "OVERDUE_SECONDS", 0.1)
    monkeypatch.setattr(link, "DEAD_SECONDS", 0.2)
    monkeypatch.setattr(link, "CONNECT_SECONDS", 0.2)
    said = []
    monkeypatch.setattr(log, "entry", lambda _severity, message, **_: said.append(message))

    async def story() -> None:
        async with replicas(Database(), 1) as (here,):
            first = here.fan._link._connection
            server.send(signal.SIGSTOP)
            await until(lambda: here.fan._link._connection is None)
            server.send(signal.SIGCONT)
            await until(lambda: here.fan.up)
            assert here.fan._link._connection is not first

    run(story)
    assert said == ["the cache cannot be reached", "the cache is reached again"], "each once"


@pytest.fixture
def guarded(monkeypatch):
    """A Valkey that asks for a token, as Memorystore does, and who hands them out."""
    running = OwnValkey(guarded=True)
    monkeypatch.setattr(link, "SETTLED_SECONDS", 0.05)
    monkeypatch.setattr(link, "TICK_SECONDS", 0.05)
    with (
        metadata_server(monkeypatch) as metadata,
        process_settings(monkeypatch, VALKEY_URL=running.url, VALKEY_IAM="true"),
    ):
        running.takes(metadata.token)
        yield running, metadata
    running.stop()


def logged_in(server: OwnValkey) -> list[str]:
    with server.admin() as client:
        return sorted(each["id"] for each in client.client_list() if each["user"] == "default")


def test_a_new_token_is_shown_on_the_open_connection(guarded: tuple[OwnValkey, Metadata]):
    server, metadata = guarded
    metadata.seconds = 226  # in a second it is near its end for Google's library

    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            before = logged_in(server)
            server.takes("token-1", "token-2")
            metadata.token, metadata.seconds = "token-2", 3600
            shown = [each.fan._link._connection for each in (here, there)]
            while any(each.shown != "token-2" for each in shown):
                here.hub.tell(PLACE, *database.append(1))
                await asyncio.sleep(0.02)
            here.hub.tell(PLACE, *database.append(1))
            await until(lambda: client.reader.position == len(database.events))
            assert client.seen == list(range(1, len(database.events) + 1))
            assert logged_in(server) == before, "the same connections"
            await leave(client)

    run(story)


def test_a_new_token_that_is_not_taken_costs_no_connection(guarded: tuple[OwnValkey, Metadata]):
    server, metadata = guarded
    metadata.seconds = 226

    async def story() -> None:
        database = Database()
        async with replicas(database) as (here, there):
            client = Client(there.hub, database)
            await until(lambda: followers(server) == 1)
            before = logged_in(server)
            metadata.token, metadata.seconds = "bad", 3600
            connection = there.fan._link._connection
            await until(lambda: connection.shown == "bad")
            server.takes("token-3")
            metadata.token = "token-3"
            await until(lambda: connection.shown == "token-3")
            here.hub.tell(PLACE, *database.append(1))
            await until(lambda: client.reader.position == 1)
            assert logged_in(server) == before
            await leave(client)

    run(story)


def test_a_changed_password_is_no_way_in(guarded: tuple[OwnValkey, Metadata]):
    """A token that stopped being taken: the next connection is made with another one."""
    server, metadata = guarded

    async def story() -> None:
        async with replicas(Database(), 1) as (here,):
            server.takes("token-2")
            metadata.token = "token-2"
            with server.admin() as speaker:
                speaker.execute_command("CLIENT", "KILL", "USER", "default")
            await until(lambda: not here.fan.up)
            await until(lambda: here.fan.up)
            assert here.fan._link._connection.shown == "token-2"

    run(story)
