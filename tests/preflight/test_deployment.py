"""The checklist against a deployment that runs: the local stack, through its gateway and its Secret Manager."""

import re
import shutil
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud import secretmanager_v1 as api
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceGrpcTransport

from local import tls
from local.identity import Issuer
from local.layout import HOST, PROJECT, Layout, service_account
from local.secrets_store import SecretStore
from tests.conftest import Api, Person
from tests.preflight.apis import CATALOG
from tests.preflight.test_project import item
from tools.preflight import behaviour
from tools.preflight.google import Google
from tools.preflight.items import Context, Status
from tools.terraform.plan import CHECKOUT


@pytest.fixture
def context(stack: dict[str, Any], alice: Person, mallory: Person) -> Context:
    return Context(
        CHECKOUT,
        "staging",
        CATALOG,
        url=stack["api"],
        token=alice.token,
        other=mallory.token,
        database=stack["postgres"]["admin"],
    )


@pytest.mark.parametrize("text", ["Health checks", "The schema", "API endpoints", "Authentication"])
def test_what_runs_passes(context: Context, text: str) -> None:
    finding = item(text)(context)
    assert finding.status is Status.PASS, finding.seen


def test_nobody_sees_the_other_organizations_projects(context: Context, api: Api, alice: Person, dan: Person) -> None:
    assert item("Multi-tenant")(context).status is Status.UNKNOWN  # there is nothing to look for
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)

    assert item("Multi-tenant")(context).status is Status.PASS
    assert item("Multi-tenant")(replace(context, other=dan.token)).status is Status.FAIL  # he is in hers


def test_another_schema_fails(context: Context, tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "migrations", tmp_path / "migrations")
    (tmp_path / "migrations" / "9999_newer.sql").touch()
    assert item("The schema")(replace(context, root=tmp_path)).status is Status.FAIL


def test_a_deployment_that_does_not_answer_is_not_known(context: Context) -> None:
    away = replace(context, url="http://127.0.0.1:9", database="postgresql://nobody:no@127.0.0.1:9/none")
    for text in ("Health checks", "The schema", "API endpoints", "Authentication", "Multi-tenant", "TLS certificate"):
        status = item(text)(away).status
        assert status is (Status.FAIL if text.startswith("TLS") else Status.UNKNOWN), text


def test_somebody_who_gets_in_without_a_token_is_noticed(context: Context, stack: dict[str, Any]) -> None:
    """An address that answers 200 to everything is no API of ours."""
    inbox = replace(context, url=stack["mail"])
    assert item("Authentication")(inbox).status is Status.FAIL
    assert item("API endpoints")(inbox).status is Status.FAIL


def test_a_short_load_is_carried(context: Context, stack: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast a busy machine is says nothing here: the objective is moved out of the way, and then into it."""
    promised = re.search(r"latency_seconds += (\d+)", (CHECKOUT / "terraform" / "slo.tf").read_text())
    assert promised
    assert float(promised[1]) == behaviour.WITHIN
    monkeypatch.setattr(behaviour, "REQUESTS", 100)
    monkeypatch.setattr(behaviour, "WITHIN", 60.0)
    passed = item("Load testing")(context)
    assert passed.status is Status.PASS, passed.seen
    assert item("Load testing")(replace(context, token="")).status is Status.UNKNOWN
    refused = item("Load testing")(replace(context, token="x.y.z"))
    assert (refused.status, refused.seen) == (Status.FAIL, "100 of 100 answered 401")

    monkeypatch.setattr(behaviour, "WITHIN", 0.0)
    assert item("Load testing")(context).seen.startswith("99 of 100 within ")
    assert item("Load testing")(context).status is Status.FAIL


def test_the_algorithm_of_the_local_stack_is_not_productions(context: Context) -> None:
    assert item("Access tokens")(context).status is Status.FAIL


def test_every_secret_has_a_version(context: Context, stack: dict[str, Any]) -> None:
    layout = Layout.load(Path(stack["path"]).parent / "layout.json")
    trusted = grpc.ssl_channel_credentials(layout.path("tls", "ca.pem").read_bytes())
    token = grpc.access_token_call_credentials(Issuer(layout.root).access_token(service_account("checker")))
    together = grpc.composite_channel_credentials(trusted, token)
    with grpc.secure_channel(f"{HOST}:{layout.ports['secrets']}", together) as channel:
        client = api.SecretManagerServiceClient(transport=SecretManagerServiceGrpcTransport(channel=channel))
        asked = replace(context, google=Google(PROJECT, "europe-west1", None, client))  # type: ignore[arg-type]

        missing = item("Secrets configured")(asked)
        assert missing.status is Status.FAIL
        assert missing.seen == "pagerduty-key: MISSING; slack-token: MISSING; valkey-ca: MISSING"
        store = SecretStore(layout.root)
        for id in ("pagerduty-key", "slack-token", "valkey-ca"):
            store.add(id, b"given")
        assert item("Secrets configured")(asked).status is Status.PASS


@pytest.fixture
def https(tmp_path: Path) -> Iterator[str]:
    """A server with a certificate of the local authority."""
    tls.ensure(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "tls" / "server.pem", tmp_path / "tls" / "server.key")
    with HTTPServer((HOST, 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"https://{HOST}:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_certificate_is_judged_by_a_handshake(https: str, tmp_path: Path) -> None:
    context = Context(CHECKOUT, "staging", CATALOG, url=https)
    assert item("TLS certificate")(context).status is Status.FAIL  # this machine does not know the authority
    known = replace(context, authorities=tmp_path / "tls" / "ca.pem")
    finding = item("TLS certificate")(known)
    assert finding.status is Status.PASS, finding.seen
