"""Too much, too fast, or no WebSocket at all: refused or ended, bounded, and others go on."""

import asyncio
import json
import struct
import time
from contextlib import suppress
from typing import Any

import pytest

from sessions import socket as sockets_of_a_replica
from sessions.socket import LONGEST_PAUSE_SECONDS, Inbox
from tests.conftest import wait_until
from tests.sessions.clients import BINARY, CONTINUED, PING, PONG, TEXT
from tests.sessions.replicas import Replica
from tests.sessions.test_fanout import run
from tests.sessions.test_socket import event, problem_of, refused, socket

MIB = 1024 * 1024
SMALL = 4096


def test_the_limit_of_events(cache, room, dan):
    """Used up for the whole organization, by POST and by WebSocket alike; listening goes on."""
    with socket(room) as hers, socket(room, dan) as his:
        hers.send(event(1))
        assert hers.next() == his.next()
        (counter,) = [key for key in cache.scan_iter(f"*events*{room.owner.tenant_id}*") if b"/-1" not in key]
        cache.incrby(counter, 60_000)

        hers.send(event(2))
        answer = hers.next()
        assert problem_of(answer) == (429, "rate_limited", 2)
        assert answer["problem"]["retry_after"] >= 1
        his.send("nonsense counts too")
        assert problem_of(his.next()) == (429, "rate_limited", 1)
        assert room.post([event(2)]).status_code == 429

        cache.delete(counter)
        hers.send(event(3))
        assert hers.next() == his.next() == {"seq": 2, "type": "said", "data": 3}


def test_the_limit_of_open_streams(cache, room, dan):
    """Other replicas hold all but one of the organization's streams."""
    with room.stream(by=dan):
        (seats,) = wait_until(lambda: list(cache.scan_iter(f"SEATS:{room.owner.tenant_id}")), what="a seat")
        seconds, _ = cache.time()
        cache.hset(seats, "another replica", f"999:{(seconds + 60) * 1000}")
        answer = socket(room)
        assert refused(answer, 429, "rate_limited")
        assert int(answer.answer_headers["retry-after"]) >= 1
        assert room.stream().status == 429
        cache.hdel(seats, "another replica")
        with room.stream() as stream:
            assert stream.status == 200


def long(size: int) -> bytes:
    """The head of a masked text frame that announces so many bytes."""
    return struct.pack("!BBQ", 0x81, 0xFF, size) + b"mask"


def garbage(make: Any) -> dict[str, tuple[bytes, int]]:
    """Bytes that are no WebSocket, and the close code that they earn (RFC 6455, section 7.4.1)."""
    return {
        "not masked": (make(TEXT, b"{}", masked=False), 1002),
        "a reserved bit": (make(TEXT, b"{}", rsv=4), 1002),
        "an unknown opcode": (make(3, b"{}"), 1002),
        "a long ping": (make(PING, b"x" * 126), 1002),
        "a ping in pieces": (make(PING, b"", fin=False), 1002),
        "a piece of nothing": (make(CONTINUED, b"{}"), 1002),
        "a message within another": (make(TEXT, b"{", fin=False) + make(TEXT, b"}"), 1002),
        "a close of one byte": (make(8, b"\x03"), 1002),
        "a close code that is none": (make(8, struct.pack("!H", 999)), 1002),
        "HTTP": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002),
        "no UTF-8": (make(TEXT, b'"\xff"'), 1007),
        "half a character": (make(TEXT, b"\xc3", fin=False) + make(CONTINUED, b"("), 1007),
        "too long": (long(128 * 1024 + 1), 1009),
        "too long, and all of it": (long(MIB) + b"x" * MIB, 1009),
        "much too long": (long(2**62), 1009),
        "too many pieces": (make(TEXT, b"", fin=False) + make(CONTINUED, b"", fin=False) * 2000, 1009),
        "binary in pieces": (make(BINARY, b"", fin=False) + make(CONTINUED, b"x"), 1003),
        "nothing but pings": (make(PING) * 1000, 1008),
        "nothing but pongs": (make(PONG) * 1000, 1008),
    }


def test_what_is_no_websocket_ends_and_nobody_else_notices(room):
    with socket(room) as good:
        for name, (data, code) in garbage(good.frame).items():
            with socket(room) as bad:
                bad.raw(data)
                assert bad.over().code == code, name
            good.send(event(name))
            assert good.next()["data"] == name


def test_thousands_of_tiny_messages_are_answered_one_by_one(room):
    count = 1500
    with socket(room) as hers, socket(room) as other:
        hers.raw(hers.frame(TEXT, b"") * count)
        other.send(event("between"))
        assert other.next()["data"] == "between"
        numbers = [each["problem"]["message"] for each in hers.take(count + 1) if "problem" in each]
        assert numbers == list(range(1, count + 1))
    assert room.get("/events").json["last_seq"] == 1


@pytest.mark.parametrize("kind", ["pings", "empty pieces", "refused messages"])
def test_a_flood_from_who_takes_nothing_is_bounded(stack, room, kind):
    """20 MB of it: it is ended, or nothing more is read."""
    replica = Replica(stack)
    with replica.socket(f"{room.path}/ws", room.owner, receive_buffer=SMALL) as flood, socket(room) as other:
        frames = {
            "pings": flood.frame(PING, b"x" * 125) * 8,
            "empty pieces": flood.frame(CONTINUED, b"", fin=False) * 150,
            "refused messages": flood.frame(TEXT, b'"' + b"x" * 1000 + b'"'),
        }
        before = replica.resident
        flood.timeout(1)
        flood.raw(flood.frame(TEXT, b"", fin=False) if kind == "empty pieces" else b"")
        with suppress(OSError):
            for _ in range(200):
                flood.raw(frames[kind] * 100)
        assert replica.resident - before < 16 * MIB
        other.send(event("meanwhile"))
        assert other.next()["data"] == "meanwhile"


def test_a_socket_that_never_finishes_what_it_says_holds_little(stack, room):
    """The beginning of a message, from many."""
    replica = Replica(stack)
    sockets = [replica.socket(f"{room.path}/ws", room.owner) for _ in range(50)]
    before = replica.resident
    for each in sockets:
        each.raw(long(128 * 1024) + b"x" * (128 * 1024 - 1))
    with socket(room) as other:
        other.send(event("meanwhile"))
        assert other.next()["data"] == "meanwhile"
    assert replica.resident - before < 50 * MIB
    for each in sockets:
        each.close()


def test_who_is_over_the_limit_holds_little(stack, cache, room):
    """Each says in a script of four bytes a character as much as is taken of her, and is refused."""
    replica = Replica(stack)
    room.say("The counter is there")
    (counter,) = cache.scan_iter(f"*events*{room.owner.tenant_id}*")
    cache.incrby(counter, 60_000)
    sockets = [replica.socket(f"{room.path}/ws", room.owner) for _ in range(50)]
    data = json.dumps(event("\U0001f600" * 15_000), ensure_ascii=False).encode()
    frame = sockets[0].frame(TEXT, data)
    before = replica.resident
    most = [before]
    for each in sockets:
        each.timeout(0.2)
        with suppress(OSError):
            for _ in range(100):
                each.raw(frame)
        most.append(replica.resident)
    end = time.monotonic() + LONGEST_PAUSE_SECONDS
    wait_until(lambda: most.append(replica.resident) or time.monotonic() > end, what="the end of a pause")
    assert max(most) - before < 60 * MIB
    cache.delete(counter)
    with socket(room) as other:
        other.send(event("meanwhile"))
        assert "seq" in other.next()
    for each in sockets:
        each.close()


def test_together_they_hold_no_more_than_that(monkeypatch):
    monkeypatch.setattr(sockets_of_a_replica, "MOST_BYTES", 1000)

    async def story() -> None:
        hers, his = Inbox(), Inbox()
        await hers.put(b"x" * 999)
        waiting = asyncio.ensure_future(his.put(b"x"))
        await asyncio.sleep(0.01)
        assert not waiting.done(), "beyond it each has one message waiting"
        assert await hers.take() == [b"x" * 999]
        assert await his.take() == [b"x"]
        await waiting
        await his.put(b"y")
        await his.put(b"z")
        his.close()
        await his.put(b"behind the end")
        assert Inbox.held == 0
        assert await his.take() == []

    run(story)
