"""Seats of streams: together over all replicas, given back, and nobody's when their replica has died."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sessions import seats
from sessions.seats import Seat, Seats
from tests.sessions.test_fanout import run, until
from tests.valkeys import OwnValkey, process_settings

MOST = 5


@pytest.fixture
def server(monkeypatch):
    running = OwnValkey()
    monkeypatch.setattr(seats, "TOGETHER_SECONDS", 0.01)
    with process_settings(monkeypatch, VALKEY_URL=running.url, STREAMS_PER_ORGANIZATION=str(MOST)):
        yield running
    running.stop()


@asynccontextmanager
async def replica() -> AsyncIterator[Seats]:
    made = Seats()
    task = asyncio.ensure_future(made.run())
    try:
        await until(lambda: made._link.answers)
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def take(from_: Seats, number: int, tenant: str = "tenant") -> list[Seat]:
    found = [await from_.take(tenant) for _ in range(number)]
    return [each for each in found if each is not None]


async def free_again(from_: Seats, tenant: str = "tenant") -> Seat:
    """A seat, as soon as there is one."""
    async with asyncio.timeout(20):
        while (seat := await from_.take(tenant)) is None:
            await asyncio.sleep(0.01)
    return seat


def test_together_over_all_replicas(server):
    async def story() -> None:
        async with replica() as here, replica() as there:
            taken = await take(here, 3)
            assert len(taken) == 3
            assert len(await take(there, 9)) == MOST - 3
            assert await here.take("tenant") is None
            assert len(await take(there, 9, "another organization")) == MOST
            here.give_back(taken[0])
            await free_again(there)
            assert await here.take("tenant") is None

    run(story)


def test_all_at_once_none_too_many(server):
    async def story() -> None:
        async with replica() as here, replica() as there:
            found = await asyncio.gather(*(each.take("tenant") for _ in range(20) for each in (here, there)))
            assert sum(seat is not None for seat in found) == MOST

    run(story)


def test_the_seats_of_a_dead_replica_come_back(server, monkeypatch):
    monkeypatch.setattr(seats, "KEPT_SECONDS", 1)
    monkeypatch.setattr(seats, "SAID_SECONDS", 0.2)

    async def story() -> None:
        async with replica() as living:
            async with replica() as dying:
                assert len(await take(dying, MOST - 1)) == MOST - 1
                assert len(await take(living, MOST)) == 1
                first = good_until(server)
                await until(lambda: moment(server) > first)  # a count that nobody repeats is over by now
                assert await living.take("tenant") is None, "whoever lives keeps theirs"
            await free_again(living)

    run(story)


def test_a_restart_or_a_flush_forgets_nobody(server, monkeypatch):
    monkeypatch.setattr(seats, "SAID_SECONDS", 0.1)

    async def story() -> None:
        async with replica() as here, replica() as there:
            await take(here, MOST)
            server.kill()
            await until(lambda: not there._link.answers)
            server.start()
            await until(lambda: here._link.answers and there._link.answers)
            await until(lambda: said(server) == 1)
            assert await there.take("tenant") is None
            with server.admin() as client:
                client.flushall()
            await until(lambda: said(server) == 1)
            assert await there.take("tenant") is None

    run(story)


def said(server: OwnValkey) -> int:
    """How many replicas have said their count."""
    with server.admin() as client:
        return int(client.hlen("SEATS:tenant"))


def good_until(server: OwnValkey) -> int:
    """How long all the counts are good, in ms of Valkey's clock."""
    with server.admin() as client:
        return max(int(each.split(b":")[1]) for each in client.hvals("SEATS:tenant"))


def moment(server: OwnValkey) -> int:
    with server.admin() as client:
        seconds, microseconds = client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000


def test_without_valkey_each_replica_counts_its_own(server):
    async def story() -> None:
        async with replica() as here, replica() as there:
            server.kill()
            await until(lambda: not here._link.answers and not there._link.answers)
            assert len(await take(here, 9)) == MOST
            assert len(await take(there, 9)) == MOST

    run(story)


def test_nothing_is_left_of_streams_that_ended(server):
    async def story() -> None:
        async with replica() as here:
            for seat in await take(here, MOST):
                here.give_back(seat)
            await until(lambda: said(server) == 0, seats.KEPT_SECONDS / 2)
            assert len(await take(here, 9)) == MOST

    run(story)
