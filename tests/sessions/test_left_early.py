"""Who leaves before the stream begins leaves nothing behind."""

import socket
import struct
from contextlib import closing
from urllib.parse import urlsplit

from tests.conftest import database, wait_until
from tests.sessions.replicas import Replica

HANDSHAKE = {
    "stream": {},
    "ws": {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
}
AT_ONCE = struct.pack("ii", 1, 0)


def knock(replica: Replica, path: str, headers: dict[str, str]) -> socket.socket:
    """Ask for a stream and wait for no answer."""
    part = urlsplit(replica.url)
    knocking = socket.create_connection((part.hostname, part.port))
    knocking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    knocking.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    return knocking


def test_a_client_that_leaves_before_the_answer_keeps_no_seat(stack, admin, cache, room):
    """The database is slow, and nobody waits for it: one stream that is open afterwards has the only seat."""
    replica = Replica(stack)
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'app.sessions'::regclass AND NOT granted"
    for kind, more in HANDSHAKE.items():
        with closing(database(stack["postgres"]["admin"])) as holding:
            holding.run("BEGIN")
            holding.run("LOCK TABLE app.sessions IN ACCESS EXCLUSIVE MODE")
            headers = {**replica.headers(room.owner), **more}
            knocking = [knock(replica, f"{room.path}/{kind}", headers) for _ in range(3)]
            wait_until(lambda: admin.run(waiting)[0][0] >= 3, what="waiting for the database")
            for each in knocking:
                each.close()
            holding.run("ROLLBACK")
        wait_until(lambda: admin.run(waiting)[0][0] == 0, what="an answer of the database")
        with replica.sse(f"{room.path}/stream", room.owner) as stream:
            assert stream.status == 200
            wait_until(lambda: taken(cache, room.owner.tenant_id) == 1, 10, f"one seat after {kind}")


def taken(cache, tenant_id: str) -> int:
    return sum(int(each.split(b":")[0]) for each in cache.hvals(f"SEATS:{tenant_id}"))
