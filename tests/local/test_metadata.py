"""The metadata server as google-auth uses it, and signBlob."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from local.identity import Issuer
from local.layout import PROJECT, Layout, service_account

GOOGLE = {"Metadata-Flavor": "Google"}
AUDIENCE = "http://127.0.0.1:9"
CLIENT = """
import json, sys
import google.auth, google.auth.transport.requests, google.oauth2.id_token
request = google.auth.transport.requests.Request()
credentials, project = google.auth.default()
credentials.refresh(request)
token = google.oauth2.id_token.fetch_id_token(request, sys.argv[1])
claims = google.oauth2.id_token.verify_token(token, request, sys.argv[1], certs_url=sys.argv[2])
print(json.dumps([project, credentials.service_account_email, credentials.universe_domain, credentials.token, claims]))
"""


@pytest.fixture
def stack(layout: Layout, start: Any) -> Iterator[Layout]:
    with start("local.metadata", layout, "metadata:gateway"):
        yield layout


def test_google_auth_finds_each_service_its_own_account(stack: Layout) -> None:
    issuer = Issuer(stack.root)
    for service in ("exports-jobs", "gateway"):
        host = f"127.0.0.1:{stack.ports[f'metadata:{service}']}"
        environment = {
            "PATH": os.environ["PATH"],
            "GCE_METADATA_HOST": host,
            "GCE_METADATA_IP": host,
            "HOME": stack.root,
        }
        certs = f"{stack.url('metadata:gateway')}/certs"
        command = [sys.executable, "-c", CLIENT, AUDIENCE, certs]

        answer = subprocess.run(command, env=environment, capture_output=True, check=True)

        project, email, universe, token, claims = json.loads(answer.stdout)
        assert (project, email, universe) == (PROJECT, service_account(service), "googleapis.com")
        assert issuer.verify_access_token(f"Bearer {token}") == service_account(service)
        assert (claims["email"], claims["iss"]) == (service_account(service), "https://accounts.google.com")


def test_values_as_text(stack: Layout) -> None:
    root = f"{stack.url('metadata:auth')}/computeMetadata/v1"

    assert requests.get(f"{root}/project/project-id", headers=GOOGLE, timeout=5).text == PROJECT
    email = requests.get(f"{root}/instance/service-accounts/default/email", headers=GOOGLE, timeout=5)
    assert email.text == service_account("auth")
    assert email.headers["Metadata-Flavor"] == "Google"
    assert requests.get(f"{root}/instance/service-accounts/other/email", headers=GOOGLE, timeout=5).status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Metadata-Flavor": "x"}, GOOGLE | {"X-Forwarded-For": "203.0.113.1"}])
def test_a_request_that_might_be_forged_is_refused(stack: Layout, headers: dict[str, str]) -> None:
    for path in ("/", "/computeMetadata/v1/instance/service-accounts/default/token"):
        assert requests.get(stack.url("metadata:auth") + path, headers=headers, timeout=5).status_code == 403


def test_an_identity_token_needs_an_audience(stack: Layout) -> None:
    url = f"{stack.url('metadata:auth')}/computeMetadata/v1/instance/service-accounts/default/identity"
    assert requests.get(url, headers=GOOGLE, timeout=5).status_code == 400


def test_an_account_signs_with_its_own_key(stack: Layout) -> None:
    answer = _sign(stack, "exports-jobs", "exports-jobs", base64.b64encode(b"blob").decode())

    assert answer.status_code == 200
    signature = base64.b64decode(answer.json()["signedBlob"])
    public = Issuer(stack.root).account_public_key(service_account("exports-jobs"))
    public.verify(signature, b"blob", padding.PKCS1v15(), SHA256())


def test_another_account_may_not_sign(stack: Layout) -> None:
    assert _sign(stack, "exports", "exports-jobs", "YQ==").status_code == 403
    assert _sign(stack, "auth", "auth", "YQ==").status_code == 403  # the catalog does not say that it signs
    assert not stack.path("identity", "accounts").exists()


def test_signing_needs_a_token(stack: Layout) -> None:
    url = f"{stack.url('metadata:gateway')}/v1/projects/-/serviceAccounts/{service_account('auth')}:signBlob"
    assert requests.post(url, json={"payload": "YQ=="}, timeout=5).status_code == 401


@pytest.mark.parametrize("payload", ["%%", 7, None])
def test_a_payload_that_is_not_base64_is_refused(stack: Layout, payload: object) -> None:
    assert _sign(stack, "exports", "exports", payload).status_code == 400


def _sign(stack: Layout, caller: str, account: str, payload: object) -> requests.Response:
    token = Issuer(stack.root).access_token(service_account(caller))
    url = f"{stack.url('metadata:gateway')}/v1/projects/-/serviceAccounts/{service_account(account)}:signBlob"
    return requests.post(url, json={"payload": payload}, headers={"Authorization": f"Bearer {token}"}, timeout=5)
