"""The gateway as a client meets it: routes, header rules, limits, errors; real Envoy, real metadata server."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import jwt
import pytest

from local.layout import service_account
from local.secrets_store import SecretStore
from tests.local.gateway_stack import Answer, Stack, function, stack, until

PROJECT = "3f0c8f3e-8a3b-4a3e-9d3e-0d8f1c2b3a4d"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def hasty(tmp_path: Path) -> Iterator[Stack]:
    with stack(tmp_path, deadline=0.3) as running:
        yield running


def problem(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json["status"], answer.json["code"]) == (status, code)
    assert answer.json["type"].endswith(code)
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert uuid.UUID(answer.json["request_id"])


def test_a_route_leads_to_its_service_with_path_and_query(gateway: Stack) -> None:
    answer = gateway.call("GET", f"/v1/projects/{PROJECT}/tasks?status=open&q=a%20b")
    assert answer.json["service"] == "projects"
    assert answer.json["path"] == f"/v1/projects/{PROJECT}/tasks?status=open&q=a%20b"
    assert gateway.call("GET", "/health/ready").json["service"] == "auth"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_every_method_of_a_known_path_reaches_the_service(gateway: Stack, method: str) -> None:
    answer = gateway.call(method, "/v1/projects")
    assert (answer.json["service"], answer.json["method"]) == ("projects", method)


def test_head_reaches_the_service(gateway: Stack) -> None:
    before = gateway.functions["projects"].count
    assert gateway.call("HEAD", "/v1/projects").status == 200
    assert gateway.functions["projects"].count == before + 1


@pytest.mark.parametrize("path", ["/", "/nothing", "/v1/projects/a/b/c", "/v1/Projects", "/not-found"])
def test_an_unknown_path_gets_the_products_404(gateway: Stack, path: str) -> None:
    answer = gateway.call("GET", path)
    assert (answer.json["service"], answer.json["path"]) == ("auth", "/not-found")


def test_a_method_beyond_the_document_ends_at_the_gateway(gateway: Stack) -> None:
    problem(gateway.call("TRACE", "/v1/projects"), 404, "not_found")


@pytest.mark.parametrize(
    "path",
    [
        "/internal/mails/1",
        "//internal/mails/1",
        "/./internal/mails/1",
        "/%69nternal/mails/1",
        "/INTERNAL/mails/1",
        "/internal%2fmails%2f1",
        "/%2finternal/mails/1",
        "/;/internal/mails/1",
        "/internal;a=b/mails/1",
        "/v1/../internal/mails/1",
        "/v1/%2e%2e/internal/mails/1",
        "/v1/auth/login/../../../internal/mails/1",
        "/v1/auth/login/..;/..;/..;/internal/mails/1",
        "/v1\\..\\internal\\mails\\1",
        "/v1/projects/..%2f..%2f..%2finternal%2fmails%2f1",
        "/v1/projects/%2e%2e%2f%2e%2e%2f%2e%2e%2finternal",
        "http://gateway.example/internal/mails/1",
        "http://gateway.example//internal/mails/1",
        "/internal/mails/1?a=/v1/auth/login",
        "/internal/mails/1#/v1/auth/login",
    ],
)
def test_internal_routes_cannot_be_reached(gateway: Stack, path: str) -> None:
    answer = gateway.call("POST", path)
    if answer.status == 200:
        reached = unquote(answer.json["path"]).partition("?")[0]
        assert reached == "/not-found" or reached.startswith("/v1/projects/")
    else:
        problem(answer, 400, "malformed_request")


def test_authorization_moves_and_the_gateway_brings_its_own(gateway: Stack) -> None:
    seen = gateway.call("GET", "/v1/projects", [("Authorization", "Bearer the-callers")]).seen
    assert seen["x-forwarded-authorization"] == "Bearer the-callers"
    scheme, _, token = seen["authorization"].partition(" ")
    assert scheme == "Bearer"
    assert gateway.issuer.verify_identity_token(token, gateway.layout.run_url("projects")) == service_account("gateway")


def test_without_authorization_none_is_forwarded(gateway: Stack) -> None:
    assert "x-forwarded-authorization" not in gateway.call("GET", "/v1/projects").seen


def test_two_authorization_headers_arrive_as_one_with_a_comma(gateway: Stack) -> None:
    both = [("Authorization", "Bearer one"), ("authorization", "Bearer two")]
    assert gateway.call("GET", "/v1/projects", both).seen["x-forwarded-authorization"] == "Bearer one,Bearer two"


@pytest.mark.parametrize(
    "name",
    [
        "X-Edge-Key",
        "x-eDgE-kEy",
        "X_Edge_Key",
        "X-Client-Ip",
        "X_Client_Ip",
        "x-CLIENT-ip",
        "X-Forwarded-Authorization",
        "x-forwarded-AUTHORIZATION",
        "X_Forwarded_Authorization",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Anything",
        "Forwarded",
        "X-Serverless-Authorization",
        "X-CloudTasks-QueueName",
        "X-Envoy-Max-Retries",
        "X-Envoy-Original-Path",
        "X-Apigateway-Api-Userinfo",
    ],
)
def test_what_a_client_must_not_say_is_not_heard(gateway: Stack, name: str) -> None:
    answer = gateway.call("GET", "/v1/projects", [(name, "forged"), (name, "forged")])
    assert answer.status == 200
    assert "forged" not in json.dumps(answer.json["headers"])


def test_ordinary_headers_pass(gateway: Stack) -> None:
    sent = {"X-Request-Id": "mine-1", "Idempotency-Key": "k", "If-Match": '"3"', "Origin": "https://a.example"}
    sent |= {"Cookie": "__Host-access=t; b=c", "X-CSRF-Token": "c", "Sec-GPC": "1", "Traceparent": "00-a-b-01"}
    seen = gateway.call("GET", "/v1/projects", list(sent.items())).seen
    assert {name.lower(): value for name, value in sent.items()}.items() <= seen.items()


def test_no_request_id_is_made_for_the_function(gateway: Stack) -> None:
    assert "x-request-id" not in gateway.call("GET", "/v1/projects").seen


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.7"])
def test_the_client_address_is_the_tcp_peer(gateway: Stack, address: str) -> None:
    lie = [("X-Client-Ip", "203.0.113.9"), ("X-Forwarded-For", "203.0.113.9")]
    assert gateway.call("GET", "/v1/projects", lie, source=address).seen["x-client-ip"] == address


def test_the_edge_key_is_the_secret_and_follows_its_rotation(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        assert running.call("GET", "/v1/projects").seen["x-edge-key"] == "edge-one"
        SecretStore(tmp_path).add("edge-key", b"edge-two")
        until(lambda: running.call("GET", "/v1/projects").seen["x-edge-key"] == "edge-two")
        assert "edge-two" not in (tmp_path / "gateway" / "envoy.json").read_text()


def test_a_slow_service_is_a_504_of_ours(hasty: Stack) -> None:
    problem(hasty.call("GET", "/v1/projects?hang=1"), 504, "gateway_timeout")
    assert hasty.call("GET", "/v1/projects").status == 200


def test_an_absent_service_is_a_503_of_ours(gateway: Stack) -> None:
    problem(gateway.call("GET", "/v1/exports"), 503, "unavailable")


def test_a_starting_service_is_waited_for(gateway: Stack) -> None:
    with function("exports", gateway.layout.ports["function:exports"]):
        assert gateway.call("GET", "/v1/exports").json["service"] == "exports"


def test_what_may_have_been_processed_is_not_sent_again(gateway: Stack) -> None:
    before = gateway.functions["projects"].count
    problem(gateway.call("POST", "/v1/projects?break=1"), 503, "unavailable")
    assert gateway.functions["projects"].count == before + 1


def test_without_the_metadata_server_it_is_503_and_not_401(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        running.metadata.kill()
        running.metadata.wait()
        problem(running.call("GET", "/v1/projects"), 503, "unavailable")


def test_a_good_request_id_of_the_client_comes_back_in_our_errors(gateway: Stack) -> None:
    answer = gateway.call("TRACE", "/v1/projects", [("X-Request-Id", "abc.DEF-1_2")])
    assert answer.headers["x-request-id"] == answer.json["request_id"] == "abc.DEF-1_2"
    problem(gateway.call("TRACE", "/v1/projects", [("X-Request-Id", 'x"} <b>')]), 404, "not_found")


@pytest.mark.parametrize("how", ["", "&chunked=1"])
def test_an_answer_over_32_mib_is_an_error_and_one_below_passes(gateway: Stack, how: str) -> None:
    problem(gateway.call("GET", f"/v1/projects?bytes={33 * MIB}{how}"), 500, "internal_error")
    assert len(gateway.call("GET", f"/v1/projects?bytes={31 * MIB}{how}").body) == 31 * MIB


def test_a_request_over_32_mib_is_stopped(gateway: Stack) -> None:
    said = gateway.raw(f"POST /v1/projects HTTP/1.1\r\nHost: a\r\nContent-Length: {33 * MIB}\r\n\r\n")
    assert said.startswith("HTTP/1.1 413 ")
    assert '"code":"body_too_large"' in said


def test_a_body_between_1_and_32_mib_is_left_to_the_service(gateway: Stack) -> None:
    assert gateway.call("POST", "/v1/projects", body=b"x" * 2 * MIB).status == 200


@pytest.mark.parametrize(
    "text", ["GET  HTTP/1.1\r\n\r\n", "GET /v1/projects HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHo st: a\r\n\r\n"]
)
def test_what_is_not_http_gets_our_400(gateway: Stack, text: str) -> None:
    said = gateway.raw(text)
    assert said.startswith("HTTP/1.1 400 ")
    assert "content-type: application/problem+json" in said


def test_the_most_exact_path_wins(gateway: Stack) -> None:
    gateway.call("GET", "/v1/projects/first")
    until(lambda: '"route":"/v1/projects/first"' in gateway.log.read_text())


def test_the_access_log_is_json_and_tells_no_secret(gateway: Stack) -> None:
    hidden = "a5d7c0de"
    headers = [("Authorization", f"Bearer {hidden}"), ("Cookie", hidden), ("User-Agent", hidden), ("Referer", hidden)]
    gateway.call("PATCH", f"/v1/projects/{hidden}?token={hidden}", headers)
    gateway.call("PATCH", f"/{hidden}@example.com", headers)
    until(lambda: gateway.log.read_text().count('"method":"PATCH"') >= 4)
    log = gateway.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert {"/{unknown}", "/v1/projects/{project_id}"} <= {line["route"] for line in lines}
    assert hidden not in log
    assert "127.0.0.1" not in log
    assert "eyJ" not in log


def test_the_gateways_token_is_asked_once_per_audience(gateway: Stack) -> None:
    first, second = (gateway.call("GET", "/v1/projects").seen["authorization"] for _ in range(2))
    assert first == second
    assert jwt.decode(first.partition(" ")[2], options={"verify_signature": False})["aud"] == gateway.layout.run_url(
        "projects"
    )


def test_sigterm_ends_it_at_once(tmp_path: Path) -> None:
    with stack(tmp_path) as running:
        running.process.terminate()
        running.process.wait(timeout=2)
