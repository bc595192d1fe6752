"""The load balancer refuses what stands in Cloud Armor's slot, and logs from which address each request came."""

import json
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from local.durable import replace
from local.envoy_armor import NOBODY, discovery
from tests.local.gateway_stack import Stack, stack, until

CLIENT, NEIGHBOUR, OTHERS = "198.51.100.7", "198.51.100.8", "2001:db8:1:2::9"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("armor")) as running:
        yield running


class Client(HTTPConnection):
    """Comes from an address: its connection begins with the line of the PROXY protocol."""

    def __init__(self, gateway: Stack, address: str) -> None:
        super().__init__("127.0.0.1", gateway.layout.ports["gateway"], timeout=10)
        self.address = address

    def connect(self) -> None:
        super().connect()
        family, here = ("TCP6", "::1") if ":" in self.address else ("TCP4", "127.0.0.1")
        assert isinstance(self.sock, socket.socket)
        self.sock.sendall(f"PROXY {family} {self.address} {here} 4711 80\r\n".encode())


def ask(gateway: Stack, address: str, **headers: str) -> tuple[int, Any]:
    client = Client(gateway, address)
    try:
        client.request("GET", "/v1/projects", headers=headers)
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        client.close()


def block(gateway: Stack, *ranges: str) -> None:
    replace(gateway.layout.path("gateway", "armor.json"), json.dumps(discovery(ranges)).encode())


def seen(document: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in document["headers"]}


@pytest.mark.parametrize("address", [CLIENT, OTHERS])
def test_the_function_hears_where_a_client_comes_from(gateway: Stack, address: str) -> None:
    status, document = ask(gateway, address)
    assert (status, seen(document)["x-client-ip"]) == (200, address)


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Client-Ip", "Forwarded"])
def test_no_header_says_where_a_client_comes_from(gateway: Stack, name: str) -> None:
    document = ask(gateway, CLIENT, **{name: NEIGHBOUR})[1]
    assert seen(document)["x-client-ip"] == CLIENT
    assert gateway.call("GET", "/v1/projects", headers=[(name, NEIGHBOUR)]).seen["x-client-ip"] == "127.0.0.1"


def test_who_stands_in_the_slot_is_refused_and_nobody_else(gateway: Stack) -> None:
    block(gateway, f"{CLIENT}/32", "2001:db8:1:2::/64")
    try:
        until(lambda: ask(gateway, CLIENT)[0] == 403)
        until(lambda: ask(gateway, OTHERS)[0] == 403)
        assert ask(gateway, CLIENT)[1]["code"] == "forbidden"
        assert ask(gateway, CLIENT, **{"X-Forwarded-For": NEIGHBOUR})[0] == 403
        assert ask(gateway, NEIGHBOUR, **{"X-Forwarded-For": CLIENT})[0] == 200
        assert ask(gateway, "2001:db8:1:3::9")[0] == 200
        assert gateway.call("GET", "/v1/projects").status == 200
    finally:
        block(gateway, NOBODY)
    until(lambda: ask(gateway, CLIENT)[0] == 200)


def test_the_log_has_googles_fields(gateway: Stack) -> None:
    log = Path(gateway.layout.path("log", "load-balancer.log"))
    address = "203.0.113.99"
    ask(gateway, address)

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(line) for line in log.read_text().splitlines()]
        return [line for line in found if line["httpRequest"]["remoteIp"] == address]

    until(lines)
    (line,) = lines()
    assert line["httpRequest"]["status"] == 200
    assert line["httpRequest"]["requestMethod"] == "GET"
    assert line["httpRequest"]["requestUrl"].endswith("/v1/projects")
    assert line["statusDetails"] == "via_upstream"
