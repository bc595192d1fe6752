"""Idempotency-Key: a POST that is sent again is answered again, and done once.

The key's scope is organization, credential, method and path. It is taken with the first flight of the transaction and
the answer is kept with the last one, so that a change and its answer are one, and no round trip is added.
Source: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Response

from common import errors

if TYPE_CHECKING:
    from common.call import Call
    from common.db import Tx

HEADER, REPLAYED = "Idempotency-Key", "Idempotent-Replayed"
FORM = re.compile(r"[!-+\--~]{1,255}")
MEMBERSHIP = "idempotent_answers_of_member"  # violated when it ended while the request ran
RECALL = "SELECT app.recall_answer(:scope)"
KEPT_HEADERS = ("Content-Type", "ETag", "Link", "Location")


def scope(call: "Call") -> bytes | None:
    """What the request's key stands for, None without a usable key."""
    key = call.request.headers.get(HEADER)
    if key is None or not call.route.idempotent or not FORM.fullmatch(key):
        return None
    return _digest(call.caller.api_key or "", call.request.method, call.request.path, key)


def check(call: "Call") -> None:
    """400 for a key that is none."""
    key = call.request.headers.get(HEADER)
    if key is not None and call.route.idempotent and not FORM.fullmatch(key):
        detail = f"{HEADER} takes 1 to 255 visible ASCII characters without a comma, such as a UUID."
        raise errors.Problem("malformed_request", detail)


def replay(call: "Call", recalled: str | None) -> Response | None:
    """The stored answer, None when this is the first request of its key. Raises 409 and 422."""
    if recalled is None:
        return None
    stored: dict[str, Any] = json.loads(recalled)
    if stored.get("running"):
        raise errors.Problem("idempotency_in_progress", headers={"Retry-After": "1"})
    if stored["fingerprint"] != _fingerprint(call).hex():
        raise errors.Problem("idempotency_key_reused")
    return Response(stored["body"], stored["status"], headers={**stored["headers"], REPLAYED: "true"})


def keep(call: "Call", tx: "Tx", kept_scope: bytes, response: Response) -> None:
    """Store a success with the transaction's last flight."""
    if 200 <= response.status_code < 300:
        headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
        tx.last(
            "SELECT app.keep_answer(:scope, :fingerprint, CAST(:status AS integer), CAST(:headers AS jsonb), :body)",
            scope=kept_scope,
            fingerprint=_fingerprint(call),
            status=response.status_code,
            headers=json.dumps(headers),
            body=response.get_data(as_text=True),
        )


def _fingerprint(call: "Call") -> bytes:
    """What was asked, however it was written: the JSON of the body and the query."""
    body = json.dumps(call.parsed, sort_keys=True, separators=(",", ":"))
    return _digest(body, json.dumps(sorted(call.request.args.items(multi=True))))


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()
