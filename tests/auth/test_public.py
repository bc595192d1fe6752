"""What needs no account: keys, the OpenAPI document, error pages, the verification page."""

import base64
import hashlib
import re

import pytest

from common.errors import CODES
from tests.auth.support import refused


def test_a_shared_key_is_not_published(api):
    answer = api.get("/.well-known/jwks.json")

    assert (answer.status_code, answer.json) == (200, {"keys": []})


def test_the_openapi_document(api):
    answer = api.get("/v1/openapi.json")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json["openapi"] == "3.1.0"
    assert {"/v1/auth/login", "/v1/projects"} <= set(answer.json["paths"])
    assert not [path for path in answer.json["paths"] if path.startswith("/internal")]


@pytest.mark.parametrize("code", CODES)
def test_every_error_has_its_page(api, code):
    answer = api.get(f"/docs/errors/{code}")

    assert answer.status_code == 200
    assert f"<code>{code}</code>" in answer.text
    assert f"Status {CODES[code][0]}" in answer.text


def test_an_unknown_error_has_none(api):
    assert refused(api.get("/docs/errors/no_such_code"), 404, "not_found")


@pytest.mark.parametrize("path", ["/verify-email", "/docs/errors/not_found"])
def test_pages_run_nothing_but_their_own(api, path):
    answer = api.get(path)
    policy = answer.headers["Content-Security-Policy"]

    assert answer.status_code == 200
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind, text in re.findall(r"<(script|style)>(.*?)</", answer.text, re.DOTALL):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert re.search(rf"{kind}-src [^;]*'sha256-{re.escape(digest)}'", policy)
    assert not re.search(r"\bsrc=|\bhref=|\bon[a-z]+=|\bstyle=", answer.text)
