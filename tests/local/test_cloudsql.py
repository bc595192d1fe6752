"""The Cloud SQL stand-in, through Google's own connector and a real PostgreSQL."""

import os
import socket
import ssl
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pg8000.dbapi
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import credentials as auth
from google.cloud.sql.connector import Connector

from local import postgres
from local.cloudsql_ca import Authority
from local.identity import Issuer
from local.layout import HOST, PROJECT, REGION, Layout, login_role, service_account

INSTANCE = f"{PROJECT}:{REGION}:main"
ADMIN = f"/sql/v1beta4/projects/{PROJECT}/instances/main"
EMAIL = service_account("projects")
USER = login_role("projects")
MEBIBYTE = 1 << 20
PIECE = 1 << 16


class Account(auth.Credentials, auth.Scoped):
    """Credentials of a service account whose token needs no network."""

    requires_scopes = False

    def __init__(self, issuer: Issuer, email: str) -> None:
        super().__init__()
        self.issuer, self.email = issuer, email

    def with_scopes(self, scopes: Any, default_scopes: Any = None) -> "Account":
        return Account(self.issuer, self.email)

    def refresh(self, request: Any) -> None:
        self.token = self.issuer.access_token(self.email)
        self.expiry = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)


@contextmanager
def as_admin(root: Path, port: int) -> Iterator[pg8000.dbapi.Connection]:
    password = postgres.admin_password(root)
    with closing(pg8000.dbapi.connect("admin", host=HOST, port=port, database="postgres", password=password)) as admin:
        yield admin


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    root = tmp_path_factory.mktemp("cluster")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    process = postgres.start(root, port, fast=True)
    try:
        with as_admin(root, port) as admin:
            for role in (USER, login_role("tasks")):
                admin.cursor().execute(f'CREATE ROLE "{role}" LOGIN')
            admin.commit()
        yield root, port
    finally:
        postgres.stop(process)


@pytest.fixture
def stack(layout: Layout, database: tuple[Path, int]) -> Layout:
    """The layout with the module's PostgreSQL and a door address of its own (port 3307 is fixed)."""
    root, port = database
    layout.path("postgres").symlink_to(root / "postgres")
    address = ".".join(["127", *(str(1 + byte % 254) for byte in os.urandom(3))])
    stack = replace(layout, door=address, ports=layout.ports | {"postgres": port})
    stack.save()
    return stack


@pytest.fixture
def server(stack: Layout, start: Any) -> Iterator[Any]:
    with start("local.cloudsql", stack, "cloudsql") as process:
        yield process


@contextmanager
def connector(stack: Layout, email: str = EMAIL, *, iam: bool = True) -> Iterator[Connector]:
    through = Connector(
        ip_type="PRIVATE",
        refresh_strategy="LAZY",
        enable_iam_auth=iam,
        credentials=Account(Issuer(stack.root), email),
        sqladmin_api_endpoint=stack.url("cloudsql"),
    )
    with through:
        yield through
    through._loop.close()  # the connector only stops it


def connect(through: Connector, user: str = EMAIL) -> pg8000.dbapi.Connection:
    return through.connect(INSTANCE, "pg8000", user=user, db="postgres", ssl_context=False)


def ask(connection: pg8000.dbapi.Connection, sql: str, *values: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute(sql, values)
    return cursor.fetchone()[0]


def test_the_connector_gets_in_as_its_service_account(stack: Layout, server: Any) -> None:
    with connector(stack) as through:
        connection = connect(through)
        assert ask(connection, "SELECT session_user::text") == USER
        assert ask(connection, "SELECT count(*) FROM pg_stat_activity WHERE usename = session_user") == 1
        connection.close()


def test_nobody_gets_in_as_another(stack: Layout, server: Any) -> None:
    with connector(stack) as through:
        for user in (service_account("tasks"), login_role("tasks"), "admin", "postgres"):
            with pytest.raises(pg8000.dbapi.DatabaseError) as refused:
                connect(through, user)
            assert refused.value.args[0]["C"] == "28000"


def test_a_certificate_without_iam_log_in_opens_nothing(stack: Layout, server: Any) -> None:
    with connector(stack, iam=False) as through, pytest.raises(pg8000.dbapi.DatabaseError) as refused:
        connect(through, USER)
    assert refused.value.args[0]["C"] == "28000"


def test_a_role_that_does_not_exist_is_postgresqls_answer(stack: Layout, server: Any) -> None:
    with connector(stack, service_account("nobody")) as through, pytest.raises(pg8000.dbapi.DatabaseError) as refused:
        connect(through, service_account("nobody"))
    assert "does not exist" in refused.value.args[0]["M"]


def test_large_values_pass_in_both_directions_at_once(stack: Layout, server: Any) -> None:
    value = "x" * (20 * MEBIBYTE)
    with connector(stack) as through:
        connection = connect(through)
        assert ask(connection, "SELECT %s || 'y'", value) == value + "y"
        connection.close()


def test_many_connections_at_once(stack: Layout, server: Any) -> None:
    answers: list[int] = []
    with connector(stack) as through:
        connections = [connect(through) for _ in range(20)]

        def work(connection: pg8000.dbapi.Connection) -> None:
            answers.extend(ask(connection, "SELECT length(repeat('z', 300000))") for _ in range(20))

        threads = [threading.Thread(target=work, args=(connection,)) for connection in connections]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for connection in connections:
            connection.close()
    assert answers == [300_000] * 400


def test_a_closed_connection_ends_the_backend(stack: Layout, server: Any, eventually: Any) -> None:
    with connector(stack) as through:
        first, second = connect(through), connect(through)
        second.autocommit = True  # a transaction sees the activity as it was at its first look
        count = "SELECT count(*) FROM pg_stat_activity WHERE usename = session_user"
        assert ask(second, count) == 2
        first._usock.shutdown(socket.SHUT_RDWR)
        first._usock.close()
        eventually(lambda: ask(second, count) == 1)
        second.close()


def test_the_round_trip_stays_short(stack: Layout, server: Any) -> None:
    with connector(stack) as through:
        connection = connect(through)
        connection.autocommit = True
        times = []
        for _ in range(300):
            begin = time.perf_counter()
            ask(connection, "SELECT 1")
            times.append(time.perf_counter() - begin)
        connection.close()
    assert statistics.median(times) < 0.02, "no segment waits for an acknowledgement"


def post(stack: Layout, body: Any, token: str | None) -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.post(
        stack.url("cloudsql") + ADMIN + ":generateEphemeralCert", json=body, headers=headers, timeout=5
    )


def test_the_admin_api_refuses(stack: Layout, server: Any) -> None:
    token = Issuer(stack.root).access_token(EMAIL)
    bearer = {"Authorization": f"Bearer {token}"}
    other = stack.url("cloudsql") + ADMIN.replace("main", "other") + "/connectSettings"

    assert requests.get(stack.url("cloudsql") + ADMIN + "/connectSettings", timeout=5).status_code == 401
    assert requests.get(other, headers=bearer, timeout=5).json()["error"]["errors"][0]["reason"] == (
        "instanceDoesNotExist"
    )
    assert post(stack, {"public_key": "x"}, token).status_code == 400
    assert post(stack, ["x"], token).status_code == 400
    assert post(stack, {}, None).status_code == 401
    gateway = Issuer(stack.root).access_token(service_account("gateway"))
    assert post(stack, {"public_key": "x"}, gateway).status_code == 403
    assert post(stack, {"public_key": "x", "access_token": "forged"}, token).status_code == 401


class Raw:
    """A client that speaks TLS and startup messages by hand."""

    def __init__(self, stack: Layout, folder: Path) -> None:
        self.stack = stack
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        token = Issuer(stack.root).access_token(EMAIL)
        answer = post(stack, {"public_key": public.decode(), "access_token": token}, token)
        self.own = folder / "own.pem"
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self.own.write_bytes(private + answer.json()["ephemeralCert"]["cert"].encode())
        headers = {"Authorization": f"Bearer {token}"}
        settings = requests.get(stack.url("cloudsql") + ADMIN + "/connectSettings", headers=headers, timeout=5).json()
        self.authority = settings["serverCaCert"]["cert"]

    def tls(self, *, certificate: bool = True) -> ssl.SSLSocket:
        context = ssl.create_default_context(cadata=self.authority)
        if certificate:
            context.load_cert_chain(self.own)
        raw = socket.create_connection((self.stack.door, 3307), timeout=5)
        return context.wrap_socket(raw, server_hostname=self.stack.door)


@pytest.fixture
def raw(stack: Layout, server: Any, tmp_path: Path) -> Raw:
    return Raw(stack, tmp_path)


def startup(*words: str, code: int = 196608) -> bytes:
    body = struct.pack("!i", code) + b"".join(word.encode() + b"\0" for word in words) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def heard(raw: Raw, *, certificate: bool) -> bytes:
    """The answer to a startup message; nothing when the door hangs up, in whichever way the kernel tells it."""
    try:
        with raw.tls(certificate=certificate) as client:
            client.sendall(startup("user", USER, "database", "postgres"))
            return client.recv(4096)
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return b""


def test_the_servers_name_is_verifiable_and_tls_is_1_3(raw: Raw) -> None:
    with raw.tls() as client:
        assert client.version() == "TLSv1.3"


def test_without_a_client_certificate_nothing_passes(raw: Raw) -> None:
    assert heard(raw, certificate=False) == b""
    assert heard(raw, certificate=True)[:1] == b"R"


def test_a_certificate_of_another_authority_is_refused(raw: Raw, tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    raw.own.write_bytes(private + Authority.open(tmp_path / "other").ephemeral(public, EMAIL))
    assert heard(raw, certificate=True) == b""


@pytest.mark.parametrize(
    "message",
    [
        startup("user", USER, "user", "admin", "database", "postgres"),
        startup("user", "admin", "user", USER, "database", "postgres"),
        startup("database", "postgres"),
        startup("user", USER, "database"),
        startup("user", USER, "", "", "user", "admin"),
        startup("user", USER, "database", "postgres", code=2 << 16),
        struct.pack("!ii", 20_000, 196608),
        struct.pack("!ii", -4, 196608),
    ],
)
def test_crooked_startup_messages_end_at_the_door(raw: Raw, message: bytes) -> None:
    with raw.tls() as client:
        client.sendall(message)
        answer = client.recv(4096)
        assert answer[:1] == b"E"
        assert b"C08P01" in answer or b"C0A000" in answer
        assert client.recv(1) == b""


def test_a_startup_message_may_come_in_pieces_after_an_ssl_request(raw: Raw) -> None:
    message = startup("user", USER, "database", "postgres")
    with raw.tls() as client:
        client.sendall(struct.pack("!ii", 8, 80877103))
        assert client.recv(1) == b"N"
        for start in range(0, len(message), 7):
            client.sendall(message[start : start + 7])
        answer = client.recv(9)
        assert answer == b"R" + struct.pack("!ii", 8, 0)


def test_the_last_words_of_a_backend_arrive(raw: Raw) -> None:
    with raw.tls() as client:
        client.sendall(startup("user", USER, "database", "postgres"))
        sql = b"SELECT pg_terminate_backend(pg_backend_pid())\0"
        client.sendall(b"Q" + struct.pack("!i", len(sql) + 4) + sql)
        heard = b"".join(iter(lambda: client.recv(4096), b""))
        assert b"C57P01" in heard


def test_a_client_that_does_not_read_holds_its_backend_up_not_the_door(
    raw: Raw, server: Any, database: tuple[Path, int], eventually: Any
) -> None:
    rows, width = 200_000, 1000
    sql = f"SELECT repeat('x', {width}) FROM generate_series(1, {rows})\0".encode()
    with raw.tls() as client:
        client.sendall(startup("user", USER, "database", "postgres"))
        client.sendall(b"Q" + struct.pack("!i", len(sql) + 4) + sql)
        client.sendall(b"X" + struct.pack("!i", 4))
        with as_admin(*database) as admin:
            admin.autocommit = True
            waits = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}' AND wait_event = 'ClientWrite'"
            eventually(lambda: ask(admin, waits) == 1)
        received = 0
        while data := client.recv(PIECE):
            received += len(data)
    peak = next(line for line in Path(f"/proc/{server.pid}/status").read_text().splitlines() if "VmHWM" in line)

    assert received > rows * width
    assert int(peak.split()[1]) < 100 * 1024


def test_postgresql_away(raw: Raw, stack: Layout) -> None:
    stack.path("postgres").unlink()
    with raw.tls() as client:
        client.sendall(startup("user", USER, "database", "postgres"))
        assert b"C57P03" in client.recv(4096)


def test_certificates_outlive_a_kill(stack: Layout, start: Any, tmp_path: Path) -> None:
    with start("local.cloudsql", stack, "cloudsql") as process:
        raw = Raw(stack, tmp_path)
        process.kill()
        process.wait()
    with start("local.cloudsql", stack, "cloudsql"), raw.tls() as client:
        client.sendall(startup("user", USER, "database", "postgres"))
        assert client.recv(1) == b"R"
