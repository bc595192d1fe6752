"""Bodies that arrive slowly: together bounded, and the slowest makes room for who is honest."""

import asyncio

import pytest

from common.errors import Problem
from sessions import bodies
from sessions.bodies import Bodies
from tests.sessions.test_fanout import run

MIB = 1024 * 1024


class Sending:
    """A client: what it sends, and what has become of it."""

    def __init__(self, held: Bodies) -> None:
        self._messages: asyncio.Queue[dict] = asyncio.Queue()
        self.taking = asyncio.ensure_future(held.take(self._messages.get))

    async def send(self, size: int, *, more: bool = True) -> None:
        self._messages.put_nowait({"type": "http.request", "body": b"x" * size, "more_body": more})
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    def leave(self) -> None:
        self._messages.put_nowait({"type": "http.disconnect"})


async def refused(sending: Sending) -> tuple[int, str]:
    with pytest.raises(Problem) as raised:
        await asyncio.wait_for(sending.taking, 5)
    assert raised.value.headers["Connection"] == "close"
    return raised.value.status, raised.value.code


async def whole(sending: Sending) -> bytes:
    """Its body, which has arrived."""
    body = await sending.taking
    assert body is not None
    return body


def test_who_sends_slowly_makes_room(monkeypatch):
    monkeypatch.setattr(bodies, "MOST_BYTES", 4 * MIB)

    async def story() -> None:
        held = Bodies()
        slow = [Sending(held) for _ in range(20)]
        for each in slow:
            await each.send(MIB - 1)
            assert held.held <= 4 * MIB
        honest = Sending(held)
        await honest.send(MIB, more=False)
        body = await whole(honest)
        assert len(body) == MIB
        for each in slow[:-3]:
            assert await refused(each) == (503, "unavailable")
        for each in slow[-3:]:
            await each.send(1, more=False)
            assert len(await whole(each)) == MIB
        held.give_back(body)
        for _ in range(3):
            held.give_back(b"x" * MIB)
        assert held.held == 0

    run(story)


def test_what_waits_for_its_answer_counts_too(monkeypatch):
    monkeypatch.setattr(bodies, "MOST_BYTES", MIB + 10)

    async def story() -> None:
        held = Bodies()
        first = Sending(held)
        await first.send(MIB, more=False)
        second = Sending(held)
        await second.send(11, more=False)
        assert await refused(second) == (503, "unavailable")
        assert held.held == len(await whole(first)) == MIB
        held.give_back(await whole(first))
        third = Sending(held)
        await third.send(11, more=False)
        assert await third.taking == b"x" * 11

    run(story)


def test_too_slow_altogether_or_gone(monkeypatch):
    monkeypatch.setattr(bodies, "SECONDS", 0.05)

    async def story() -> None:
        held = Bodies()
        slow = Sending(held)
        await slow.send(10)
        assert await refused(slow) == (400, "malformed_request")
        gone = Sending(held)
        await gone.send(10)
        gone.leave()
        assert await gone.taking is None
        assert held.held == 0

    run(story)
