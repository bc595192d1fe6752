"""A connection that stays open behind a stream: what comes next on it is a request like any other."""

import socket
import time
from urllib.parse import urlsplit

from sessions.server import LAST_WORDS_SECONDS
from tests.sessions.conftest import Room, new_room
from tests.sessions.replicas import Replica

SMALL = 32 * 1024  # bytes that the kernel keeps for a client that does not read
EVENTS, LENGTH, BATCHES = 15, 60_000, 9


def ask(on: socket.socket, replica: Replica, room: Room, query: str) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in replica.headers(room.owner).items())
    on.sendall(f"GET {room.path}/stream{query} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())


def read_until(on: socket.socket, end: bytes) -> bytes:
    found = b""
    while end not in found[-65_536:]:
        part = on.recv(65_536)
        assert part, "it was broken off"
        found += part
    return found


def test_a_second_stream_may_be_slow_when_the_first_one_has_long_ended(stack, api, room):
    replica, first = Replica(stack), new_room(api, room.owner, title="Over")
    first.say("last words")
    first.close()
    part = urlsplit(replica.url)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        connection.settimeout(20)
        connection.connect((part.hostname, part.port))
        ask(connection, replica, first, "?after=0")
        assert b"session_closed" in read_until(connection, b"0\r\n\r\n")
        ended = time.monotonic()
        ask(connection, replica, room, "")
        read_until(connection, b": open\n\n")
        time.sleep(max(0.0, ended + LAST_WORDS_SECONDS - 4 - time.monotonic()))
        for _ in range(BATCHES):
            room.say(*["x" * LENGTH] * EVENTS)  # more than the kernel takes for her
        time.sleep(max(0.0, ended + LAST_WORDS_SECONDS + 1 - time.monotonic()))
        room.say("still there")
        read_until(connection, b'"still there"}\n\n')
