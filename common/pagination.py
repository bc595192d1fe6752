"""Cursors: opaque, signed, bound to the organization, the path and the filter."""

import base64
import binascii
import hmac
import json
from typing import Any
from urllib.parse import urlencode

from common import errors, tokens

START = ["infinity", "ffffffff-ffff-ffff-ffff-ffffffffffff"]  # where a list that is ordered by time and id begins


def page(lines: str | None, limit: int) -> tuple[str, list[str] | None]:
    """The items of a page as JSON, and the ordering values of its last one where more follow.

    `lines` has an object of JSON a line, which holds no other line end: one more than the page where there are more.
    """
    items = lines.split("\n") if lines else []
    shown = items[:limit]
    last = json.loads(shown[-1]) if len(items) > limit else None
    return f"[{','.join(shown)}]", [last["created_at"], last["id"]] if last else None


def _scope(tenant_id: str, path: str, filters: dict[str, Any]) -> str:
    return json.dumps([tenant_id, path, sorted((name, str(value)) for name, value in filters.items())])


def encode(last: list[str], tenant_id: str, path: str, filters: dict[str, Any]) -> str:
    """The cursor behind the last item, given the values that the list is ordered by."""
    payload = json.dumps(last, separators=(",", ":"))
    mac = tokens.mac("cursor-key", "cursor", payload, _scope(tenant_id, path, filters))
    return base64.urlsafe_b64encode(f"{mac}{payload}".encode()).rstrip(b"=").decode()


def decode(cursor: str | None, tenant_id: str, path: str, filters: dict[str, Any]) -> list[str] | None:
    """The ordering values in a cursor, None without one. Raises 400 `invalid_cursor`."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, ValueError) as error:
        raise errors.Problem("invalid_cursor") from error
    mac, payload = text[:43], text[43:]
    expected = tokens.macs("cursor-key", "cursor", payload, _scope(tenant_id, path, filters))
    if not any(hmac.compare_digest(mac.encode(), each.encode()) for each in expected):
        raise errors.Problem("invalid_cursor")
    values: list[str] = json.loads(payload)
    return values


def next_link(url: str, query: dict[str, Any], cursor: str) -> str:
    """The Link header of RFC 8288 to the next page."""
    kept = {name: value for name, value in query.items() if value is not None and name != "cursor"}
    return f'<{url}?{urlencode({**kept, "cursor": cursor})}>; rel="next"'
