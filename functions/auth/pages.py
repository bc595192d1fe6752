"""What is read without an account: the verification page, error pages, public keys."""

import base64
import hashlib
import json
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from werkzeug.wrappers import Response

from common import errors, secrets, tokens

HERE = Path(__file__).parent
PUBLIC_CACHE = {"Cache-Control": "public, max-age=300"}
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)
ADVICE = {
    400: "The request itself has to change: see the detail for what could not be read.",
    401: "Send a valid credential: log in again, or refresh the access token.",
    403: "The credential is valid, and what was asked for is not allowed with it as it is.",
    404: "Check the address and the id. What belongs to another organization answers the same.",
    405: "The header Allow lists the methods of this address.",
    409: "Read the object again: what was asked for does not fit its present state.",
    412: "Read the object again and repeat the change with its new ETag in If-Match.",
    413: "Send less at once: a body may be 1 MiB at most.",
    415: "Send JSON, with the header Content-Type: application/json.",
    422: "The member errors names the fields and what is wrong with each.",
    429: "Wait for as many seconds as the header Retry-After says.",
    500: "Tell us the request_id: the fault is ours.",
    503: "Try again after as many seconds as the header Retry-After says.",
    504: "Try again: the service did not answer in time.",
}
ERROR_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{code}</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 10vh auto; padding: 0 1rem }}</style>
</head>
<body><main><h1><code>{code}</code></h1><p>Status {status}: {title}.</p><p>{advice}</p></main></body>
</html>
"""


def page(html: str) -> Response:
    """A page whose inline script and style are allowed by their hashes, and nothing else (CSP level 3)."""
    found: dict[str, list[str]] = {"script": [], "style": []}
    for kind, text in INLINE.findall(html):
        hashed = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        found[kind].append(f"'sha256-{hashed}'")
    allowed = {kind: " ".join(hashes) or "'none'" for kind, hashes in found.items()}
    policy = (
        f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = {"Content-Security-Policy": policy, **PUBLIC_CACHE}
    return Response(html, content_type="text/html; charset=utf-8", headers=headers)


def verify_email() -> Response:
    """The page behind the link in the verification mail."""
    return page(_file("verify_email.html"))


def reset_password() -> Response:
    """The page behind the link in the mail to who has forgotten her password."""
    return page(_file("reset_password.html"))


def error(code: str) -> Response:
    """What a code means. Raises 404 for one that is not in the list."""
    if code not in errors.CODES:
        raise errors.not_found()
    status, title = errors.CODES[code]
    return page(ERROR_PAGE.format(code=escape(code), status=status, title=escape(title), advice=ADVICE[status]))


def key_set() -> dict[str, Any]:
    """The public keys of the ring (RFC 7517); shared keys have no public part."""
    from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415 - 30 ms of cryptography, which most requests do without

    keys = []
    for key in secrets.ring(tokens.VERIFYING_RING).keys.values():
        if key.public is not None:
            public = RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(key.public)
            found = json.loads(RSAAlgorithm.to_jwk(public))
            kept = {name: found[name] for name in ("kty", "n", "e")}
            keys.append({**kept, "kid": key.kid, "alg": key.algorithm, "use": "sig"})
    return {"keys": keys}


@cache
def _file(name: str) -> str:
    return (HERE / name).read_text()
