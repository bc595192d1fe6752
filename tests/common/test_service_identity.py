"""Internal routes accept only Google-signed identity tokens of the caller that they are meant for."""

import base64
import hmac
import http.client
import json
import time
import uuid
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from local.identity import Issuer
from local.layout import Layout, service_account
from tests.conftest import Api, Inbox, running_stack

MARKER = "SIGNATURE_REMOVED_BY_GOOGLE"


@pytest.fixture
def layout(stack):
    return Layout.load(Path(stack["path"]).parent / "layout.json")


def post(port, token):
    """The status of an internal step of auth, asked on a port with a token: 404 means that the guard was passed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    connection.request("POST", f"/internal/mails/{uuid.uuid4()}", body="{}", headers=headers)
    answer = connection.getresponse()
    status, body = answer.status, answer.read()
    connection.close()
    return status, json.loads(body)["code"] if body.startswith(b"{") and b'"code"' in body else None


def symmetric(claims, kid, secret):
    """HS256 by hand: the library will not take a public key for a secret."""
    parts = [json.dumps({"alg": "HS256", "typ": "JWT", "kid": kid}), json.dumps(claims)]
    signed = ".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=").decode() for part in parts)
    mac = hmac.digest(secret.encode(), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def forged(**changed):
    now = int(time.time())
    claims = {"iss": "https://accounts.google.com", "email_verified": True, "iat": now, "exp": now + 600, **changed}
    return claims


def test_the_right_caller_passes(layout):
    token = Issuer(layout.path()).identity_token(service_account("tasks"), layout.run_url("auth"))
    assert post(layout.ports["function:auth"], token)[0] in {200, 204, 404}
    assert post(layout.ports["run:auth"], token)[0] in {200, 204, 404}


def test_every_other_caller_is_refused(layout):
    issuer, mine = Issuer(layout.path()), layout.run_url("auth")
    tasks = service_account("tasks")
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    kid = issuer.jwks()["keys"][0]["kid"]
    good = issuer.identity_token(tasks, mine)
    head, body, _ = good.split(".")
    claims = forged(email=tasks, aud=mine)
    refused = {
        "none": None,
        "another service": issuer.identity_token(service_account("workflows"), mine),
        "the gateway": issuer.identity_token(service_account("gateway"), mine),
        "a person": issuer.identity_token("tasks@evil.example", mine),
        "another audience": issuer.identity_token(tasks, layout.run_url("exports-jobs")),
        "expired": issuer.identity_token(tasks, mine, seconds=-60),
        "an access token": issuer.access_token(tasks),
        "another key": jwt.encode(claims, stranger, "RS256", headers={"kid": kid}),
        "no signature": jwt.encode(claims, None, "none", headers={"kid": kid}),
        "the public key as a secret": symmetric(claims, kid, json.dumps(issuer.jwks())),
        "the platform's marker, which it does not set here": f"{head}.{body}.{MARKER}",
    }
    for what, token in refused.items():
        status, _ = post(layout.ports["function:auth"], token)
        assert status in {401, 403}, what
        assert post(layout.ports["run:auth"], token)[0] in {401, 403}, what


def test_the_gateway_leads_nowhere_internal(api, alice):
    for path in (f"/internal/mails/{alice.user_id}", "/internal/outbox/drain", "//internal/outbox/drain"):
        assert api.post(path, json={}, headers=alice).status_code == 404


def test_where_the_platform_checks_identity(tmp_path):
    """With the setting the front verifies and removes signatures; functions accept nothing but its marker."""
    with running_stack(tmp_path, only=["auth"], PLATFORM_CHECKS_IDENTITY="true") as stack:
        layout = Layout.load(Path(stack["path"]).parent / "layout.json")
        token = Issuer(layout.path()).identity_token(service_account("tasks"), layout.run_url("auth"))
        head, body, _ = token.split(".")
        assert post(layout.ports["run:auth"], token)[0] in {200, 204, 404}
        assert post(layout.ports["run:auth"], f"{head}.{body}.{MARKER}")[0] in {401, 403}
        assert post(layout.ports["function:auth"], token)[0] == 401
        assert post(layout.ports["function:auth"], f"{head}.{body}.{MARKER}")[0] in {200, 204, 404}
        other = Issuer(layout.path()).identity_token(service_account("workflows"), layout.run_url("auth"))
        head, body, _ = other.split(".")
        assert post(layout.ports["function:auth"], f"{head}.{body}.{MARKER}")[0] == 403

        api = Api(stack["api"])
        person = {"email": "anna@example.org", "display_name": "Anna", "organization_name": "Annas"}
        registered = api.post("/v1/auth/register", json={**person, "password": "a good long passphrase"})
        assert registered.status_code == 202, registered.text
        assert Inbox(api, stack["mail"]).wait_for("anna@example.org")
        api._session.close()
