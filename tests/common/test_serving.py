"""The function is served directly: its answers are those of functions-framework's own application around it."""

import io
import sys
from collections.abc import Iterator

import pytest
from functions_framework import create_app
from werkzeug.test import Client

from common.server import MOST, serving

SOURCE = """
from werkzeug.wrappers import Response

def answers(request):
    if request.path == "/body":
        return Response(request.get_data(), content_type="application/octet-stream")
    if request.path == "/ignored":
        return Response("no", 403)
    if request.path == "/empty":
        return Response(status=204)
    if request.path == "/cached":
        return Response(status=304, headers={"ETag": '"1"'})
    if request.path == "/made":
        return Response("{}", 201, headers={"Location": "/v1/projects/\\u00e9"}, content_type="application/json")
    if request.path == "/streamed":
        return Response((piece for piece in ("a", "b")), content_type="text/plain")
    answer = Response(request.path + "?" + request.query_string.decode(), headers={"X-Method": request.method})
    answer.headers.add("Set-Cookie", "a=1")
    answer.headers.add("Set-Cookie", "b=2")
    return answer
"""
ASKED = [
    ("GET", "/"),
    ("GET", "/v1/projects?limit=5&q=%C3%A9"),
    ("GET", "/v1/%C3%A9/x"),
    ("GET", "//double//slash"),
    ("HEAD", "/v1/projects"),
    ("OPTIONS", "/v1/projects"),
    ("PROPFIND", "/v1/projects"),
    ("GET", "/empty"),
    ("DELETE", "/empty"),
    ("GET", "/cached"),
    ("POST", "/made"),
    ("GET", "/streamed"),
    ("HEAD", "/streamed"),
]


@pytest.fixture(scope="module")
def framework(tmp_path_factory):
    source = tmp_path_factory.mktemp("function") / "main.py"
    source.write_text(SOURCE)
    return create_app(target="answers", source=str(source))


@pytest.fixture
def served(framework):
    return serving(sys.modules["main"].answers)


@pytest.mark.parametrize(("method", "path"), ASKED)
def test_both_answer_alike(framework, served, method, path):
    ours, theirs = (Client(each).open(path, method=method) for each in (served, framework.wsgi_app))
    assert (ours.status, ours.data) == (theirs.status, theirs.data)
    assert sorted(ours.headers) == sorted(theirs.headers)


class Sent(io.RawIOBase):
    """A body that is made while it is read, and counts how much of it was."""

    def __init__(self, size: int) -> None:
        self.left = size

    def read(self, most: int = -1) -> bytes:
        """The next bytes."""
        given = b"x" * (self.left if most < 0 else min(most, self.left))
        self.left -= len(given)
        return given


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(("size", "left"), [(0, 0), (1, 0), (3_000_000, 0), (MOST + 5_000_000, 5_000_000)])
def test_what_nobody_wanted_of_a_body_is_read_and_not_kept(served, told, size, left):
    body = Sent(size)
    length = {"CONTENT_LENGTH": str(size)} if told else {"HTTP_TRANSFER_ENCODING": "chunked"}
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/ignored", "wsgi.input": body, **length}
    said: list[str] = []
    assert list(served(environ, lambda status, _headers: said.append(status))) == [b"no"]
    assert (said, body.left) == (["403 FORBIDDEN"], left)


def test_no_length_stands_where_no_body_may_be(served) -> None:
    assert "Content-Length" not in Client(served).delete("/empty").headers


def test_a_body_is_the_functions(served) -> None:
    assert Client(served).post("/body", data=b"\x00\xff" * 1000).data == b"\x00\xff" * 1000
    assert isinstance(served({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None), list)
    streamed = served({"REQUEST_METHOD": "GET", "PATH_INFO": "/streamed"}, lambda *_: None)
    assert not isinstance(streamed, list)
    assert isinstance(iter(streamed), Iterator)
