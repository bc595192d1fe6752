"""A reader that stops reading: it is cut and told behind which event to go on, and nobody else notices."""

from contextlib import ExitStack
from typing import Any

from tests.conftest import wait_until
from tests.sessions.clients import Over, Sse, WebSocket
from tests.sessions.conftest import Room
from tests.sessions.replicas import Replica

MIB = 1024 * 1024
SMALL = 32 * 1024  # bytes that the kernel keeps for a client that does not read
EVENTS, LENGTH = 15, 65_000  # of a batch, which may have 1 MiB
BATCHES = 8  # more than all buffers on the way and the replica keep


def batch(number: int) -> list[str]:
    """Texts that name themselves."""
    return [f"{number}/{place}/".ljust(LENGTH, "x") for place in range(EVENTS)]


def left(stream: Any) -> tuple[list[int], str]:
    """The seqs that a stream still brings, and why it ends; no reason when it just breaks off."""
    if isinstance(stream, Sse):
        events = stream.rest()
        end = events.pop() if events and events[-1].name == "end" else None
        seqs = [each.json["seq"] for each in events]
        if end is None:
            return seqs, ""
        assert end.json["resume_after"] == seqs[-1]
        assert stream.retry is not None, "an EventSource comes back by itself"
        return seqs, end.json["code"]
    seqs, over = [], None
    while over is None:
        try:
            seqs.append(stream.next()["seq"])
        except Over as found:
            over = found
    assert over.code in (1013, None)
    return seqs, over.reason


def flood(room: Room, *others: Any) -> None:
    """More than fits on the way to who does not read. The others read along, and miss nothing."""
    for number in range(BATCHES):
        said = batch(number)
        room.say(*said)
        for other in others:
            assert [each["data"] for each in other.take(EVENTS)] == said


def test_whoever_is_left_behind_twice_is_cut_and_resumes_and_nobody_else_notices(stack, room):
    replica, many = Replica(stack), EVENTS * BATCHES
    makers = {"stream": replica.sse, "ws": replica.socket}
    with ExitStack() as opened:
        stopped = {
            kind: opened.enter_context(make(f"{room.path}/{kind}", room.owner, receive_buffer=SMALL))
            for kind, make in makers.items()
        }
        others = [opened.enter_context(make(f"{room.path}/{kind}", room.owner)) for kind, make in makers.items()]
        flood(room, *others)
        for stream in stopped.values():
            assert [each["seq"] for each in stream.take(many)] == list(range(1, many + 1)), "once is pardoned"

        flood(room, *others)
        for kind, stream in stopped.items():
            seqs, why = left(stream)
            assert why == "slow_reader"
            assert seqs == list(range(many + 1, many + 1 + len(seqs))), "no gap and nothing twice until it was cut"
            assert len(seqs) < many
            with makers[kind](f"{room.path}/{kind}?after={seqs[-1]}", room.owner) as resumed:
                rest = [each["seq"] for each in resumed.take(many - len(seqs))]
            assert seqs + rest == list(range(many + 1, 2 * many + 1))


def test_through_the_gateway_nothing_is_lost_or_repeated_either(room):
    """What the gateway and the kernel hold for who does not read is not ours to say: cut or not, it adds up."""
    many, url = EVENTS * BATCHES, f"{room.api.base}{room.path}"
    with (
        Sse(f"{url}/stream", room.owner, receive_buffer=SMALL) as stream,
        WebSocket(f"{url}/ws", room.owner, receive_buffer=SMALL) as socket,
        room.stream() as other,
    ):
        flood(room, other)
        assert [each["seq"] for each in stream.take(many)] == list(range(1, many + 1))
        assert [each["seq"] for each in socket.take(many)] == list(range(1, many + 1))


def test_whoever_takes_nothing_costs_little_and_not_for_long(stack, cache, room):
    """A broken-off stream has no last words: nobody reads them. It resumes behind the last event that came whole."""
    replica, many = Replica(stack), EVENTS * BATCHES
    seats = f"SEATS:{room.owner.tenant_id}"
    with ExitStack() as opened:
        watcher = opened.enter_context(room.stream())
        before = replica.resident
        stopped = [
            opened.enter_context(make(f"{room.path}/{kind}", room.owner, receive_buffer=SMALL))
            for make, kind in ((replica.sse, "stream"), (replica.socket, "ws"))
            for _ in range(20)
        ]
        flood(room, watcher)
        assert replica.resident - before < 32 * MIB, "40 readers have left 300 MiB unread"

        watcher.close()
        wait_until(lambda: not cache.exists(seats), what="the end of who takes nothing")
        for kind, stream in (("stream", stopped[0]), ("ws", stopped[-1])):
            seqs, why = left(stream)
            assert (seqs, why) == (list(range(1, len(seqs) + 1)), "")
            make = replica.sse if kind == "stream" else replica.socket
            with make(f"{room.path}/{kind}?after={len(seqs)}", room.owner) as resumed:
                assert resumed.take(many - len(seqs))[-1]["seq"] == many


def test_who_only_speaks_and_never_listens_is_not_waited_for(stack, room, dan):
    """What comes back to her fills her buffers; then nothing more is read of her, and nobody else waits."""
    replica = Replica(stack)
    with (
        replica.socket(f"{room.path}/ws", room.owner, receive_buffer=SMALL) as speaker,
        room.stream(by=dan) as listener,
    ):
        said = [f"{number}".ljust(LENGTH, "x") for number in range(100)]
        for each in said:
            speaker.send({"type": "said", "data": each})
        assert [each["data"] for each in listener.take(100)] == said
