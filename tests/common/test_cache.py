"""The one way to Valkey: tokens that change, authorities that are believed, and what one round trip says."""

import asyncio
import signal
import ssl
import threading
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest
import valkey

from common import cache, cache_token, denylist, errors, limits, local_counts
from local import tls
from tests.conftest import wait_until
from tests.valkeys import OwnValkey, metadata_server, process_settings


@pytest.fixture(scope="module")
def server():
    running = OwnValkey()
    yield running
    running.stop()


@pytest.fixture
def guarded(monkeypatch):
    """A Valkey that asks for a token, as Memorystore does, and who hands them out."""
    running = OwnValkey(guarded=True)
    with (
        metadata_server(monkeypatch) as metadata,
        process_settings(monkeypatch, VALKEY_URL=running.url, VALKEY_IAM="true"),
    ):
        running.takes(metadata.token)
        yield running, metadata
    running.stop()


@pytest.fixture
def client(guarded):
    with cache.client(5.0) as made:
        yield made


def test_a_token_is_the_password(guarded, client):
    _, metadata = guarded
    assert client.ping()
    assert client.acl_whoami() == "default"
    assert metadata.asked == 1


def test_a_new_token_is_shown_before_the_connection_is_used_again(guarded, client):
    server, metadata = guarded
    metadata.seconds = 226  # in a second it is near its end for Google's library
    first = client.client_id()
    server.takes("token-2")
    metadata.token, metadata.seconds = "token-2", 3600
    wait_until(lambda: cache_token.token().latest() == "token-2", what="a new token")
    assert client.client_id() == first, "the same connection"
    with server.admin() as admin:
        told = admin.execute_command("ACL", "LOG")
    assert told == [], "nothing was refused"
    assert client.connection_pool._available_connections[0].shown == "token-2"
    assert metadata.asked >= 2


def test_a_changed_password_is_one_failure(guarded, client):
    """A token that is taken no more: the call fails, and the next one comes with another token."""
    server, metadata = guarded
    assert client.ping()
    server.takes("token-2")
    metadata.token = "token-2"
    with server.admin() as admin:
        admin.execute_command("CLIENT", "KILL", "USER", "default")
    refused = 0
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            client.ping()
            break
        except valkey.ConnectionError:
            refused += 1
    assert client.ping()
    assert 1 <= refused < 100, "it does not give up, and does not hammer"


def test_no_token_no_waiting(guarded):
    """Requests pass while the metadata server gives no answer, and count when it does."""
    _, metadata = guarded
    subjects = [limits.Subject("ip", "192.0.2.1")]
    metadata.open.clear()
    assert [limits.counters().take(subjects) for _ in range(3)] == [None] * 3
    assert metadata.asked == 0
    metadata.open.set()
    wait_until(lambda: limits.counters().take(subjects), what="counting")
    cache.client(limits.TIMEOUT_SECONDS).close()


@pytest.fixture
def door(tmp_path, server):
    """TLS in front of Valkey, and the folder of its certificates."""
    tls.ensure(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "tls" / "server.pem", tmp_path / "tls" / "server.key")
    ready, found = threading.Event(), SimpleNamespace(port=0, loop=None, stop=None)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
        except (ssl.SSLError, OSError):
            pass
        finally:
            writer.close()

    async def through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async def serve() -> None:
        listening = await asyncio.start_server(through, "127.0.0.1", 0, ssl=context)
        found.port = listening.sockets[0].getsockname()[1]
        found.loop, found.stop = asyncio.get_running_loop(), asyncio.Event()
        ready.set()
        await found.stop.wait()
        listening.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    ready.wait(10)
    yield SimpleNamespace(url=f"rediss://127.0.0.1:{found.port}", ca=str(Path(tmp_path, "tls", "ca.pem")))
    found.loop.call_soon_threadsafe(found.stop.set)
    thread.join(10)


async def _greets() -> bool:
    connection = await cache.connection()
    try:
        await connection.connect()
        await connection.send_command("PING")
        return await connection.read_response() in {b"PONG", "PONG"}
    finally:
        await connection.disconnect()


def test_the_instance_s_own_authority(door, monkeypatch):
    with process_settings(monkeypatch, VALKEY_URL=door.url, VALKEY_CA=door.ca), cache.client(5.0) as client:
        assert client.ping()
        assert asyncio.run(_greets())


def test_nobody_else_is_believed(door, monkeypatch):
    with process_settings(monkeypatch, VALKEY_URL=door.url), cache.client(5.0) as client:
        with pytest.raises(valkey.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            client.ping()
        with pytest.raises(valkey.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
            asyncio.run(_greets())


def test_the_machine_s_authorities_are_not_believed_beside_it(door, monkeypatch):
    with process_settings(monkeypatch, VALKEY_URL=door.url, VALKEY_CA=door.ca):
        from common.cache_connections import trust

        assert [each["subject"] for each in trust().get_ca_certs()] == [((("commonName", "context local CA"),),)]


def test_a_token_crosses_no_network_in_the_clear(monkeypatch):
    with (
        process_settings(monkeypatch, VALKEY_URL="redis://10.0.0.9:6379", VALKEY_IAM="true"),
        pytest.raises(ValueError, match="rediss"),
    ):
        cache.check()


@pytest.fixture
def counting(server, monkeypatch):
    with process_settings(monkeypatch, VALKEY_URL=server.url, RATE_EVENTS="5/hour", RATE_USER="3/hour"):
        yield server
        if limits.counters() is not None:
            cache.client(limits.TIMEOUT_SECONDS).close()


def left(tenant: str) -> int:
    """How many events are left."""
    return limits._ask([limits.Subject("events", tenant, counts=0)])[1]


def test_events_count_together(counting):
    tenant = str(uuid.uuid4())
    for rest in (3, 1):
        limits.count_events(tenant, number=2)
        assert left(tenant) == rest
    limits.count_events(tenant, number=2)  # one more than there are: the next one is refused
    with pytest.raises(errors.Problem) as refused:
        limits.count_events(tenant)
    assert refused.value.code == "rate_limited"
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 7200
    limits.count_events(str(uuid.uuid4()))


def test_events_are_counted_without_valkey_too(counting, monkeypatch):
    with process_settings(monkeypatch, VALKEY_URL="", RATE_EVENTS="5/hour"):
        tenant = str(uuid.uuid4())
        limits.count_events(tenant, number=5)
        with pytest.raises(errors.Problem, match="rate_limited"):
            limits.count_events(tenant)
        limits._ask([limits.Subject("user", tenant, counts=2)])
        assert limits._ask([limits.Subject("user", tenant)])[:2] == [0, 3], "and nothing else is"


def test_a_count_of_one_process_slides(monkeypatch):
    now = 0
    monkeypatch.setattr(local_counts, "_milliseconds", lambda: now)
    local_counts.count("slides", 1000, 8)
    assert local_counts.look("slides", 10, 1000) == (2, 1000)
    now = 1500
    assert local_counts.look("slides", 10, 1000) == (6, 500), "half of the window before"
    local_counts.count("slides", 1000, 3)
    assert local_counts.look("slides", 10, 1000) == (3, 500)
    now = 3100
    assert local_counts.look("slides", 10, 1000) == (10, 900)


def test_a_listed_log_in(counting):
    revoked, other, user = (str(uuid.uuid4()) for _ in range(3))
    assert denylist.add([revoked, str(uuid.uuid4())])
    ask = [limits.Subject("user", user)]
    assert limits._ask(ask, revoked)[-1] == 1
    assert limits._ask(ask, other)[-1] == 0
    assert limits._ask(ask)[-1] == 0
    assert limits._ask(ask, revoked)[0] == 1, "the limit comes first: what is refused without end is not recorded so"
    with pytest.raises(errors.Problem) as refused:
        limits.count_events(str(uuid.uuid4()), revoked)
    assert (refused.value.status, refused.value.code) == (401, "invalid_token")
    with counting.admin() as admin:
        assert 3600 <= admin.ttl(denylist.key(revoked)) <= 3610


def test_the_list_is_lost_with_valkey_and_says_so(counting):
    revoked = str(uuid.uuid4())
    assert denylist.add([revoked])
    with counting.admin() as admin:
        admin.flushall()
    assert limits._ask([limits.Subject("user", revoked)], revoked)[-1] == 0
    counting.send(signal.SIGSTOP)
    try:
        assert not denylist.add([revoked])
        assert limits._ask([limits.Subject("user", revoked)], revoked)[-1] == 0, "the database decides"
    finally:
        counting.send(signal.SIGCONT)
