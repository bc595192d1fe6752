"""http.*: arguments to a request, and what came back to a response map or an error map, as documented."""

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from local.workflows.library import from_json, need, to_json
from local.workflows.values import Value, fault, is_number, kind

MAX_RESPONSE = 2 * 1024 * 1024
DEFAULT_TIMEOUT = 300.0
MAX_TIMEOUT = 1800.0

Outcome = dict[str, Any]
"""JSON: `{"code", "headers", "body": base64}` of a response, or `{"tag", "message"}` of a failure without one."""


@dataclass(frozen=True)
class Http:
    """One request as it goes out; `audience` is None without `auth`."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    audience: str | None
    timeout: float


def request(function: str, arguments: dict[str, Value]) -> Http:
    """The request of an http.* call. Raises TypeError or ValueError of the language."""
    headers = _texts("headers", arguments.get("headers"))
    body, content_type = _body(arguments.get("body"), headers)
    if content_type and not _header(headers, "content-type"):
        headers["Content-Type"] = content_type
    url = _url(need(arguments["url"], "string"), arguments.get("query"))
    return Http(
        method=function.removeprefix("http.").upper(),
        url=url,
        headers=headers,
        body=body,
        audience=_audience(arguments.get("auth"), url),
        timeout=_timeout(arguments.get("timeout")),
    )


def _texts(what: str, value: Value) -> dict[str, str]:
    if value is None:
        return {}
    texts: dict[str, str] = {}
    for key, each in need(value, "map").items():
        if kind(each) not in ("string", "integer", "double", "boolean"):
            raise fault("TypeError", f"{what} {key!r} is not text or a number")
        texts[key] = each if isinstance(each, str) else json.dumps(each)
    return texts


def _header(headers: dict[str, str], name: str) -> str:
    return next((value for key, value in headers.items() if key.lower() == name), "")


def _body(body: Value, headers: dict[str, str]) -> tuple[bytes | None, str]:
    if body is None:
        return None, ""
    if isinstance(body, str):
        return body.encode(), "text/plain; charset=utf-8"
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    given = _header(headers, "content-type")
    if given and "json" not in given:
        raise fault("TypeError", f"a body of type {kind(body)} cannot be sent as {given}")
    return to_json(body).encode(), "application/json; charset=utf-8"


def _url(url: str, query: Value) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise fault("ValueError", "url is not an HTTP or HTTPS address")
    more = urlencode(_texts("query", query))
    return urlunsplit(parts._replace(query="&".join(each for each in (parts.query, more) if each), fragment=""))


def _audience(auth: Value, url: str) -> str | None:
    """The audience defaults to the URL of the request, as documented; a Cloud Run service wants its root URL."""
    return None if auth is None else str(need(auth.get("audience", url), "string"))


def _timeout(timeout: Value) -> float:
    if timeout is None:
        return DEFAULT_TIMEOUT
    if not is_number(timeout):
        raise fault("TypeError", "timeout needs a number of seconds")
    if not 0 < timeout <= MAX_TIMEOUT:
        raise fault("ValueError", f"timeout is at most {MAX_TIMEOUT:.0f} seconds")
    return float(timeout)


def answer(outcome: Outcome) -> Value:
    """The response map `{code, headers, body}`. Raises HttpError from status 400 on, or the failure's error."""
    if "tag" in outcome:
        raise fault(outcome["tag"], outcome["message"])
    raw = base64.b64decode(outcome["body"])
    if len(raw) > MAX_RESPONSE:
        raise fault("ResourceLimitError", f"the response is larger than {MAX_RESPONSE // 1024 // 1024} MB")
    code, headers = outcome["code"], outcome["headers"]
    body = _decoded(raw, headers.get("Content-Type", ""))
    if code >= 400:
        message = f"HTTP server responded with error code {code}"
        raise fault("HttpError", message, code=code, headers=headers, body=body)
    return {"code": code, "headers": headers, "body": body}


def _decoded(raw: bytes, content_type: str) -> Value:
    """JSON becomes a value by its media type; other text a string, anything else bytes."""
    media_type = content_type.partition(";")[0].strip().lower()
    try:
        text = raw.decode()
        if media_type == "application/json" and text:
            return from_json(text)
    except ValueError:
        return raw if not raw.isascii() else raw.decode()
    return text
