"""The OpenAPI document, and GET /docs, which shows it in Swagger UI: one page that loads nothing but that document.

Swagger UI (Apache-2.0) comes in the Python package flask-swagger-ui, which is pinned by its hash.
"""

import base64
import gzip
import hashlib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from marshmallow import INCLUDE, Schema, fields
from werkzeug.wrappers import Request, Response

from common.access import PUBLIC
from common.http import Call, Table

HERE = Path(__file__).parent
HEADERS = {"Cache-Control": "public, max-age=300", "Vary": "Accept-Encoding"}
ENDS = re.compile(r"<(?=!--|/?script)", re.IGNORECASE)  # in a literal of JavaScript, \x3C is the same character

part = Table()


class Document(Schema):
    """An OpenAPI 3.1 document."""

    class Meta:
        """Only the frame is told here."""

        unknown = INCLUDE

    openapi = fields.String(required=True, metadata={"example": "3.1.0"})
    info = fields.Dict(required=True, metadata={"example": {"title": "Dev Context API", "version": "1"}})
    paths = fields.Dict(required=True, metadata={"example": {}})


@part.on("GET", "/v1/openapi.json", needs=PUBLIC, body=None, answers=Document)
def openapi(call: Call) -> Response:
    """Serve this document."""
    return _send(call.request, _document(), "application/json")


@part.on("GET", "/docs", needs=PUBLIC, body=None, answers=None)
def show(call: Call) -> Response:
    """Show this document to a person, who can try the operations out."""
    text, policy = page()
    response = _send(call.request, text, "text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    return response


class Text(NamedTuple):
    """A text as it is sent: its bytes as they are, the same compressed, and its tag."""

    plain: bytes
    packed: bytes
    tag: str


def _text(words: str) -> Text:
    plain = words.encode()
    return Text(plain, gzip.compress(plain, mtime=0), hashlib.sha256(plain).hexdigest()[:32])


def _send(request: Request, text: Text, content_type: str) -> Response:
    """Compressed for whoever takes that; 304 for whoever has it."""
    packed = request.accept_encodings["gzip"] > 0
    response = Response(text.packed if packed else text.plain, content_type=content_type, headers=HEADERS)
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(text.tag, weak=True)
    return response.make_conditional(request)


@cache
def _document() -> Text:
    return _text((HERE / "openapi.json").read_text())


@cache
def page() -> tuple[Text, str]:
    """The page and its policy: script and style stand in the page itself, allowed by their hashes (CSP level 3)."""
    style = _inline("style", _asset("swagger-ui.css"), _file("page.css"))
    scripts = [_inline("script", _asset("swagger-ui-bundle.js")), _inline("script", _file("page.js"))]
    html = _file("page.html").replace("<!-- style -->", f"<style>{style}</style>")
    html = html.replace("<!-- script -->", "".join(f"<script>{script}</script>" for script in scripts))
    policy = (
        f"default-src 'none'; script-src {' '.join(map(_source, scripts))}; style-src {_source(style)}; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return _text(html), policy


def _file(name: str) -> str:
    return (HERE / "docs_viewer" / name).read_text()


def _asset(name: str) -> str:
    """A file of Swagger UI. The package's own code is not imported: it is a blueprint for Flask."""
    spec = find_spec("flask_swagger_ui")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("flask-swagger-ui is not installed")
    return (Path(spec.origin).parent / "dist" / name).read_text()


def _inline(tag: str, *texts: str) -> str:
    """The texts as an element's content, so that nothing in them ends it (HTML, 13.2.5.17 ff.) or is changed in it."""
    text = "\n".join(texts).replace("\r\n", "\n")
    if tag == "script":
        return ENDS.sub(r"\\x3C", text)
    if f"</{tag}" in text.lower():
        raise ValueError(f"the text would end its {tag} element")
    return text


def _source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
