"""A reader that stops reading: it is cut and told behind which event to go on, and nobody else notices."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from tests.sessions.clients import Over, Sse, WebSocket
from tests.sessions.conftest import Room
from tests.sessions.replicas import Replica

MIB = 1024 * 1024
SMALL = 4096  # bytes that the kernel keeps for a client that does not read
EVENTS, LENGTH = 15, 65_000  # of a batch, which may have 1 MiB
BATCHES = 24  # more than all buffers on the way hold together

Open = Callable[[str], Any]  # a stream, by `stream` or `ws` and its query


@pytest.fixture(params=["gateway", "replica"])
def opener(request: pytest.FixtureRequest, stack: dict[str, Any], room: Room) -> Open:
    """Opens streams of Alice's through the gateway, or at one replica."""
    replica = Replica(stack)

    def opened(kind: str, **options: Any) -> Any:
        make = Sse if kind.startswith("stream") else WebSocket
        if request.param == "gateway":
            return make(f"{room.api.base}{room.path}/{kind}", room.owner, **options)
        return make(f"{replica.url}{room.path}/{kind}", replica.headers(room.owner), **options)

    return opened


def batch(number: int) -> list[str]:
    """Texts that name themselves."""
    return [f"{number}/{place}/".ljust(LENGTH, "x") for place in range(EVENTS)]


def rest(stream: Any) -> tuple[list[int], str]:
    """The seqs that a stream still brings, and why it ends."""
    if isinstance(stream, Sse):
        *events, end = stream.rest()
        assert end.name == "end"
        seqs = [each.json["seq"] for each in events]
        assert end.json["resume_after"] == (seqs or [0])[-1]
        assert stream.retry is not None, "an EventSource comes back by itself"
        return seqs, end.json["code"]
    seqs = []
    over = None
    while over is None:
        try:
            seqs.append(stream.next()["seq"])
        except Over as found:
            over = found
    assert over.code == 1013
    return seqs, over.reason


def resumed(opener: Open, kind: str, after: int, count: int) -> list[int]:
    with opener(f"{kind}?after={after}") as stream:
        return [each["seq"] for each in stream.take(count)]


def test_whoever_stops_is_cut_and_resumes_and_nobody_else_notices(opener, room):
    total = EVENTS * BATCHES
    with ExitStack() as opened:
        stopped = {kind: opened.enter_context(opener(kind, receive_buffer=SMALL)) for kind in ("stream", "ws")}
        others = [opened.enter_context(opener(kind)) for kind in ("stream", "ws")]
        for number in range(BATCHES):
            said = batch(number)
            room.say(*said)
            for other in others:
                assert [each["data"] for each in other.take(EVENTS)] == said

        for kind, stream in stopped.items():
            seqs, why = rest(stream)
            assert why == "slow_reader"
            assert seqs == list(range(1, len(seqs) + 1)), "no gap and nothing twice until it was cut"
            assert len(seqs) < total
            left = total - len(seqs)
            assert resumed(opener, kind, len(seqs), left) == list(range(len(seqs) + 1, total + 1))


def test_the_memory_of_a_replica_does_not_grow_with_what_is_not_read(stack, room):
    replica = Replica(stack)
    with ExitStack() as opened:
        watcher = opened.enter_context(replica.sse(f"{room.path}/stream", room.owner))
        room.say(*batch(0))
        watcher.take(EVENTS)
        before = replica.resident
        for place in range(40):
            open_one = replica.sse if place % 2 else replica.socket
            kind = "stream" if place % 2 else "ws"
            opened.enter_context(open_one(f"{room.path}/{kind}", room.owner, receive_buffer=SMALL))
        for number in range(BATCHES):
            room.say(*batch(number))
            watcher.take(EVENTS)
        assert replica.resident - before < 32 * MIB, "40 readers have left 890 MiB unread"


def test_who_only_speaks_and_never_listens_is_not_waited_for(stack, room, dan):
    """What comes back to her fills her buffers; then nothing more is read of her, and nobody else waits."""
    replica = Replica(stack)
    with replica.socket(f"{room.path}/ws", room.owner, receive_buffer=SMALL) as speaker, room.stream(dan) as listener:
        said = [f"{number}".ljust(LENGTH, "x") for number in range(100)]
        for each in said:
            speaker.send({"type": "said", "data": each})
        assert [each["data"] for each in listener.take(100)] == said


def test_another_session_is_not_delayed(stack, room, people, project):
    """Readers of a flooded session that do not read cost the readers of a quiet one nothing."""
    from tests.sessions.conftest import new_room

    replica, quiet = Replica(stack), new_room(room.api, room.owner, project)
    with ExitStack() as opened:
        for _ in range(20):
            opened.enter_context(replica.sse(f"{room.path}/stream", room.owner, receive_buffer=SMALL))
        calm = opened.enter_context(replica.sse(f"{quiet.path}/stream", room.owner))
        for number in range(8):
            room.say(*batch(number))
            quiet.say(number)
            assert calm.take(1, seconds=2)[0]["data"] == number
