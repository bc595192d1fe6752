"""The way past the API Gateway, `edge = "run"`: the same Envoy as load balancer alone, in front of fake functions."""

import json
from collections.abc import Iterator

import pytest

from tests.local.gateway_stack import Stack, stack

TOKEN = [("Authorization", "Bearer the-callers")]


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with stack(tmp_path_factory.mktemp("fallback"), "--edge", "run", up=("auth", "projects", "organizations")) as made:
        yield made


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/v1/projects", "projects"),
        ("/v1/projects/1/tasks?limit=2", "projects"),
        ("/v1/auth/login", "auth"),
        ("/health/ready", "auth"),
        ("/v1/invitations", "organizations"),
        ("/v1/invitations/accept", "auth"),  # the longer path wins
    ],
)
def test_a_path_of_the_catalog_leads_to_its_service(edge: Stack, path: str, service: str) -> None:
    answer = edge.call("GET", path)
    assert (answer.json["service"], answer.json["path"]) == (service, path)


def test_the_callers_token_stays_where_she_put_it(edge: Stack) -> None:
    seen = edge.call("GET", "/v1/projects", [*TOKEN, ("X-Forwarded-Authorization", "Bearer forged")]).seen
    assert seen["authorization"] == "Bearer the-callers"
    assert "forged" not in json.dumps(seen)


def test_the_edge_key_and_the_address_are_the_load_balancers(edge: Stack) -> None:
    forged = [("X-Edge-Key", "forged"), ("X_Edge_Key", "forged"), ("X-Client-Ip", "forged"), ("X_Client_Ip", "forged")]
    seen = edge.call("GET", "/v1/projects", forged).seen
    assert (seen["x-edge-key"], seen["x-client-ip"]) == ("edge-one", "127.0.0.1")
    assert "forged" not in json.dumps(seen)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/v1/projectsx",
        "/internal/mails/1",
        "//internal/mails/1",
        "/internal/keys/rotate",
        "/v1/auth/../../internal/mails/1",
        "/v1/auth/%2e%2e/%2e%2e/internal/mails/1",
        "/nothing/../internal/mails/1",
    ],
)
def test_what_no_path_names_reaches_no_route(edge: Stack, path: str) -> None:
    answer = edge.call("POST", path)
    if answer.status == 200:
        assert answer.json["service"] == "auth"
        assert answer.json["path"].startswith(("/not-found/", "/v1/auth/"))
    else:
        assert (answer.status, answer.json["code"]) == (400, "malformed_request")


def test_a_service_without_public_paths_is_not_there(edge: Stack) -> None:
    """Nothing of the jobs', retention's or keys' leads anywhere: not even a refused connection."""
    for path in ("/internal/retention/run", "/internal/exports/claim", "/internal/deletions/claim"):
        assert edge.call("POST", path).json["path"] == f"/not-found{path}"
