"""The way of a workload: past the API Gateway's filters to one of its replicas, streams and sockets included."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest

from local.layout import HOST, replicas
from tests.local.gateway_stack import Stack, function, stack, until

MIB = 1024 * 1024
PATH = "/v1/sessions"
STREAM = f"{PATH}/1/stream?lines=3"
HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n"
)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("gateway"), up=("projects", *replicas())) as running:
        until(lambda: {named(running) for _ in range(8)} == set(replicas()))
        yield running


def named(cloud: Stack) -> str:
    """Who answers a request."""
    answer = cloud.call("GET", PATH)
    return str(answer.json["service"]) if answer.status == 200 else str(answer.status)


def opened(cloud: Stack, stack: ExitStack, path: str = STREAM) -> HTTPResponse:
    """A stream: its headers have come."""
    connection = HTTPConnection(HOST, cloud.layout.ports["gateway"], timeout=10)
    stack.callback(connection.close)
    connection.request("GET", path)
    return connection.getresponse()


def upgraded(cloud: Stack, path: str) -> tuple[socket.socket, bytes]:
    """A connection whose upgrade was asked for, and the head of the answer."""
    connection = socket.create_connection((HOST, cloud.layout.ports["gateway"]), timeout=10)
    connection.sendall(HANDSHAKE.format(path=path).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(1)
    return connection, head


def test_the_credential_stays_and_the_gateway_adds_no_own(cloud: Stack) -> None:
    seen = cloud.call("GET", PATH, [("Authorization", "Bearer the-callers")]).seen
    assert seen["authorization"] == "Bearer the-callers"
    assert "x-forwarded-authorization" not in seen
    assert "authorization" not in cloud.call("GET", PATH).seen


def test_the_edge_says_who_it_is_and_where_the_client_is(cloud: Stack) -> None:
    forged = [("X-Edge-Key", "forged"), ("X-Client-Ip", "192.0.2.1"), ("X_Client_Ip", "192.0.2.1")]
    seen = cloud.call("GET", PATH, forged, source="127.0.0.7").seen
    assert seen["x-edge-key"] == "edge-one"
    assert seen["x-client-ip"] == "127.0.0.7"
    assert "192.0.2.1" not in json.dumps(seen)


@pytest.mark.parametrize(
    "name",
    ["X-Forwarded-Authorization", "X_Forwarded_Authorization", "X-Forwarded-For", "Forwarded", "X-Envoy-Max-Retries"],
)
def test_what_a_client_must_not_say_is_not_heard(cloud: Stack, name: str) -> None:
    answer = cloud.call("GET", PATH, [(name, "forged")])
    assert answer.status == 200
    assert "forged" not in json.dumps(answer.json["headers"])


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", [PATH, f"{PATH}/", f"{PATH}/1/events?after=2", f"{PATH}/not/a/route"])
def test_every_method_and_path_is_the_services_own(cloud: Stack, method: str, path: str) -> None:
    answer = cloud.call(method, path)
    assert (answer.json["method"], answer.json["path"]) == (method, path)
    assert answer.json["service"] in replicas()


@pytest.mark.parametrize("path", ["/v1/sessionsx", "/v1/Sessions", "/v1/sessions/../../internal/mails/1"])
def test_nothing_else_takes_this_way(cloud: Stack, path: str) -> None:
    answer = cloud.call("GET", path)
    assert answer.status == 503  # the service auth, which has the page for unknown paths, does not run here
    assert answer.json["code"] == "unavailable"


def test_the_way_of_the_functions_is_as_it_was(cloud: Stack) -> None:
    seen = cloud.call("GET", "/v1/projects", [("Authorization", "Bearer the-callers")]).seen
    assert seen["x-forwarded-authorization"] == "Bearer the-callers"
    assert seen["authorization"] != "Bearer the-callers"


def test_a_body_over_the_gateways_limit_is_for_the_service_to_judge(cloud: Stack) -> None:
    assert cloud.call("POST", PATH, body=b"x" * (33 * MIB)).status == 200


def test_a_stream_is_not_held_back(cloud: Stack) -> None:
    with ExitStack() as stack:
        stream = opened(cloud, stack)
        replica = cloud.functions[stream.headers["X-Replica"]]
        for number in range(3):
            assert stream.readline() == b"%d\n" % number
            replica.go.release()
        assert stream.read() == b""


def test_streams_are_spread_over_the_replicas(cloud: Stack) -> None:
    with ExitStack() as stack:
        streams = [opened(cloud, stack) for _ in range(4)]
        where = [stream.headers["X-Replica"] for stream in streams]
        for name in where:
            cloud.functions[name].go.release(2)
        assert sorted(where) == sorted([*replicas()] * 2)
        assert [stream.read() for stream in streams] == [b"0\n1\n2\n"] * 4


def test_an_upgrade_passes_and_bytes_go_both_ways(cloud: Stack) -> None:
    connection, head = upgraded(cloud, f"{PATH}/1/ws")
    with connection:
        assert head.startswith(b"HTTP/1.1 101 ")
        for text in (b"hello", b"world"):
            connection.sendall(text)
            assert connection.recv(5) == text


def test_no_other_way_can_be_upgraded(cloud: Stack) -> None:
    connection, head = upgraded(cloud, "/v1/projects")
    with connection:
        assert head.startswith(b"HTTP/1.1 403 ")


def test_a_client_that_does_not_read_makes_the_replica_wait(cloud: Stack) -> None:
    """What the gateway and the kernel hold of an answer of 64 MiB is little."""
    with ExitStack() as stack:
        stream = opened(cloud, stack, f"{PATH}/1/stream?lines=1024&size=65536")
        replica = cloud.functions[stream.headers["X-Replica"]]
        before = -1

        def stands_still() -> bool:
            nonlocal before
            before, last = replica.sent, before
            return before == last

        until(lambda: stands_still() and stands_still())
        assert replica.sent < 20 * MIB


def test_a_replica_that_drains_gets_nothing_new_and_keeps_what_it_has(cloud: Stack) -> None:
    """It has fewer streams than the other, so it would get the next one."""
    with ExitStack() as stack:
        streams = [opened(cloud, stack) for _ in range(3)]
        where = [stream.headers["X-Replica"] for stream in streams]
        stays, goes = sorted(replicas(), key=where.count, reverse=True)
        cloud.functions[goes].serving = False
        stack.callback(setattr, cloud.functions[goes], "serving", True)
        until(lambda: named(cloud) == stays)
        for name in where:
            cloud.functions[name].go.release(2)
        assert [stream.read() for stream in streams] == [b"0\n1\n2\n"] * 3
        assert {named(cloud) for _ in range(8)} == {stays}
        cloud.functions[goes].serving = True
        until(lambda: named(cloud) == goes)


def test_an_absent_replica_costs_no_request_and_one_that_comes_is_used(tmp_path: Path) -> None:
    first, second = replicas()
    with stack(tmp_path, up=(first,)) as running:
        assert {named(running) for _ in range(20)} == {first}
        with function(second, running.layout.ports[second]):
            until(lambda: named(running) == second)
        until(lambda: {named(running) for _ in range(8)} == {first})


def test_without_any_replica_it_is_a_503_of_ours(tmp_path: Path) -> None:
    with stack(tmp_path, up=()) as running:
        answer = running.call("GET", PATH)
        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert answer.json["request_id"] == answer.headers["x-request-id"]
