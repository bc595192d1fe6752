"""V4 signed URLs (GOOG4-RSA-SHA256): what was signed, by whom, until when.

Source: Cloud Storage documentation, "V4 signing process" and "Canonical requests".
"""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from local.identity import Refused
from local.storage.problems import Problem

ALGORITHM = "GOOG4-RSA-SHA256"
WEEK = 604_800
SKEW = timedelta(minutes=15)
NEEDED = ("X-Goog-Algorithm", "X-Goog-Credential", "X-Goog-Date", "X-Goog-Expires", "X-Goog-SignedHeaders")
CREDENTIAL = re.compile(r"([^/]+)/(\d{8})/([a-z0-9-]+)/storage/goog4_request")
KeyOf = Callable[[str], rsa.RSAPublicKey]


def verify(request: web.Request, key_of: KeyOf, at: datetime | None = None) -> dict[str, str]:
    """The query of a request whose signature is good now. Raises Problem 400 or 403."""
    path, _, raw_query = request.raw_path.partition("?")
    pairs = [tuple(map(unquote, item.partition("=")[::2])) for item in raw_query.split("&") if item]
    query = {key: value for key, value in pairs}
    if len(query) != len(pairs) or any(name not in query for name in (*NEEDED, "X-Goog-Signature")):
        raise _bad(f"A signed URL has exactly one of each of {', '.join(NEEDED)} and X-Goog-Signature.")
    email, scope = _credential(query)
    _check_time(query, at or datetime.now(UTC))
    canonical = _canonical_request(request, path, query)
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join([ALGORITHM, query["X-Goog-Date"], scope, digest])
    try:
        signature = bytes.fromhex(query["X-Goog-Signature"])
        key_of(email).verify(signature, text.encode(), padding.PKCS1v15(), SHA256())
    except (Refused, ValueError, InvalidSignature) as error:
        message = (
            "The request signature we calculated does not match the signature you provided. "
            "Check your Google secret key and signing method."
        )
        raise Problem(403, "forbidden", message, code="SignatureDoesNotMatch") from error
    return query


def signer(query: dict[str, str]) -> str:
    """The e-mail of the account that signed: the request has its rights, at the time of the request."""
    return _credential(query)[0]


def _credential(query: dict[str, str]) -> tuple[str, str]:
    """The signer's e-mail and the credential scope."""
    match = CREDENTIAL.fullmatch(query["X-Goog-Credential"])
    if query["X-Goog-Algorithm"] != ALGORITHM:
        raise _bad(f"X-Goog-Algorithm must be {ALGORITHM}.")
    if match is None or match[2] != query["X-Goog-Date"][:8]:
        raise _bad("X-Goog-Credential must be <account>/<date>/<location>/storage/goog4_request.")
    return match[1], query["X-Goog-Credential"].partition("/")[2]


def _check_time(query: dict[str, str], at: datetime) -> None:
    expires = query["X-Goog-Expires"]
    if not (expires.isascii() and expires.isdigit() and len(expires) < 9 and 0 < int(expires) <= WEEK):
        raise _bad(f"X-Goog-Expires must be between 1 and {WEEK} seconds.")
    try:
        signed = datetime.strptime(query["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise _bad("X-Goog-Date must be YYYYMMDD'T'HHMMSS'Z'.") from error
    if signed - SKEW > at:
        raise Problem(403, "forbidden", "The request is not valid yet.", code="AccessDenied")
    end = signed + timedelta(seconds=int(expires))
    if at >= end:
        message = f"The provided token has expired. Request signature expired at: {end.isoformat()}"
        raise Problem(400, "invalid", message, code="ExpiredToken")


def _canonical_request(request: web.Request, path: str, query: dict[str, str]) -> str:
    """Method, path, query, headers, header names and payload, each in its one spelling."""
    names = query["X-Goog-SignedHeaders"].split(";")
    if names != sorted(set(names)) or "host" not in names:
        raise _bad("X-Goog-SignedHeaders must be sorted, in lower case, and include host.")
    unsigned = {name.lower() for name in request.headers if name.lower().startswith("x-goog-")} - set(names)
    if unsigned:
        raise Problem(403, "forbidden", f"Headers not signed: {', '.join(sorted(unsigned))}", code="AccessDenied")
    signed = [(name, ",".join(" ".join(value.split()) for value in request.headers.getall(name, []))) for name in names]
    payload = dict(signed).get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    items = sorted(f"{_quoted(k)}={_quoted(v)}" for k, v in query.items() if k != "X-Goog-Signature")
    headers = "".join(f"{name}:{value}\n" for name, value in signed)
    spelled = quote(unquote(path), safe="/~")
    return "\n".join([request.method, spelled, "&".join(items), headers, ";".join(names), payload])


def _quoted(text: str) -> str:
    return quote(text, safe="~")


def _bad(message: str) -> Problem:
    return Problem(400, "invalid", message)
