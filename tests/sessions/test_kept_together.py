"""What all sessions of a replica keep together is bounded, whoever fills it."""

import asyncio

from common.tokens import Claim
from sessions import hub as hubs
from sessions.hub import Hub
from sessions.outcomes import Opening, Place
from tests.sessions.test_fanout import run, until


async def no_events(_claim: Claim, _place: Place, _after: int) -> tuple[int, list[bytes]]:
    return 0, []


def opening(place: Place) -> Opening:
    return Opening(place, Claim("u", "t", "p", "l"), after=0, tip=0, closed=False, expires_at=None)


def test_many_sessions_keep_no_more_than_their_share(monkeypatch):
    monkeypatch.setattr(hubs, "KEPT_BYTES", 1000)

    async def story() -> None:
        hub = Hub(no_events)
        ticking = asyncio.ensure_future(hub.tick())
        places = [Place("t", str(number)) for number in range(10)]
        for place in places:
            hub.join(opening(place), lambda: None)
        for place in places[:9]:
            hub.offer(place, 1, [b"x" * 10] * 50)
        hub.offer(places[9], 1, [b"x" * 10] * 3)
        await until(lambda: sum(each.kept_bytes for each in hub.topics()) <= 1000)
        assert [each.kept_bytes for each in hub.topics()] == [100] * 9 + [30]
        assert [each.first_kept for each in hub.topics()] == [41] * 9 + [1]
        ticking.cancel()

    run(story)
