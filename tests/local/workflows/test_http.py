"""http.*: what goes out, what comes back, and the error map of each kind of failure."""

import base64
import json
import threading
from socket import create_server
from typing import Any

import pytest

from local.identity import Issuer
from local.layout import HOST, service_account
from local.workflows.calls import answer as answered

CATCH = """
    main:
      params: [url]
      steps:
        - t:
            try:
              call: http.get
              args: {url: "${url}", timeout: 1}
            except:
              as: e
              steps: [{r: {return: "${e}"}}]
"""


def test_a_post_as_it_goes_out(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/jobs/a"] = [answer(201, b'{"id": 7}', {"content-type": "application/json; charset=utf-8"})]
    source = """
    main:
      params: [args]
      steps:
        - c:
            call: http.post
            args:
              url: ${args.url + "/jobs/a?x=1"}
              headers: {X-Number: 5, X-Text: "${\\"a\\" + \\"b\\"}"}
              query: {y: "a b", z: true}
              body: {list: "${args.list}", text: é}
              auth: {type: OIDC, audience: "${args.url}"}
            result: answer
        - r: {return: "${answer}"}
    """
    result = cloud.run(source, {"url": target.url, "list": [1, None]})
    assert (result["code"], result["body"]) == (201, {"id": 7})
    assert result["headers"]["Content-Type"] == "application/json; charset=utf-8"
    (seen,) = target.seen
    assert (seen.method, seen.path) == ("POST", "/jobs/a?x=1&y=a+b&z=true")
    assert json.loads(seen.body) == {"list": [1, None], "text": "é"}
    assert seen.headers["Content-Type"] == "application/json; charset=utf-8"
    assert (seen.headers["X-Number"], seen.headers["X-Text"]) == ("5", "ab")
    assert seen.headers["User-Agent"].startswith("GoogleCloudWorkflows")
    token = seen.headers["Authorization"].removeprefix("Bearer ")
    assert Issuer(cloud.layout.root).verify_identity_token(token, target.url) == service_account("workflows")


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete"])
def test_methods(cloud: Any, target: Any, method: str) -> None:
    source = "main: {params: [url], steps: [{c: {call: http.METHOD, args: {url: '${url}'}, result: answer}}]}"
    cloud.run(source.replace("METHOD", method), target.url + "/")
    (seen,) = target.seen
    assert (seen.method, seen.body) == (method.upper(), b"")


def test_the_default_audience_is_the_url(cloud: Any, target: Any) -> None:
    source = """
    main:
      params: [url]
      steps:
        - c: {call: http.get, args: {url: "${url}", auth: {type: OIDC}}}
        - d: {call: http.get, args: {url: "${url}"}}
    """
    cloud.run(source, target.url + "/a/b")
    issuer = Issuer(cloud.layout.root)
    token = target.seen[0].headers["Authorization"].removeprefix("Bearer ")
    assert issuer.verify_identity_token(token, target.url + "/a/b")
    assert "Authorization" not in target.seen[1].headers


@pytest.mark.parametrize(
    ("content_type", "body", "value"),
    [
        ("application/json", b"[1, 2]", [1, 2]),
        ("application/json", b"not json", "not json"),
        ("text/plain", b'{"a": 1}', '{"a": 1}'),
        ("application/problem+json", b"{}", "{}"),
        ("application/json", b"", ""),
        ("application/json", b"[12345678901234567890, 1e400]", "[12345678901234567890, 1e400]"),
        ("application/json", b"[12345678901234567890]", [12345678901234567890.0]),
    ],
)
def test_a_body_is_read_by_its_media_type(content_type: str, body: bytes, value: Any) -> None:
    outcome = {"code": 200, "headers": {"Content-Type": content_type}, "body": base64.b64encode(body).decode()}
    assert answered(outcome)["body"] == value


def test_an_http_error(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(409, b'{"error": {"code": "conflict"}}')]
    error = cloud.run(CATCH, target.url + "/")
    assert (error["code"], error["tags"]) == (409, ["HttpError"])
    assert error["body"] == {"error": {"code": "conflict"}}
    assert error["headers"]["Content-Type"] == "application/json"
    assert "409" in error["message"]


def test_status_399_is_no_error(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(399)]
    assert cloud.run(CATCH, target.url + "/") is None


def test_nobody_listens(cloud: Any) -> None:
    with create_server((HOST, 0)) as free:
        port = free.getsockname()[1]
    error = cloud.run(CATCH, f"http://{HOST}:{port}/")
    assert error["tags"] == ["ConnectionFailedError"]
    assert "code" not in error


def test_the_connection_breaks(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(drop=True)]
    assert cloud.run(CATCH, target.url + "/")["tags"] == ["ConnectionError"]


def test_a_timeout(cloud: Any, target: Any, answer: Any) -> None:
    gate = threading.Event()
    target.answers["/"] = [answer(gate=gate)]
    try:
        assert cloud.run(CATCH, target.url + "/")["tags"] == ["TimeoutError"]
    finally:
        gate.set()


def test_a_response_that_is_too_large(cloud: Any, target: Any, answer: Any) -> None:
    target.answers["/"] = [answer(200, b" " * (2 * 1024 * 1024 + 1))]
    assert cloud.run(CATCH, target.url + "/")["tags"] == ["ResourceLimitError"]


def test_an_address_that_is_none(cloud: Any) -> None:
    cloud.deploy("catch", CATCH)
    cloud.up()
    for url in ("ftp://example.test/", "example.test", "", "http://[", "http://example.test:x/"):
        shown = cloud.wait(cloud.create("catch", url))
        assert json.loads(shown["result"])["tags"] == ["ValueError"]
