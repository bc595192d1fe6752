"""Cookies in the place of tokens, for browsers: no script reads the tokens, and a readable one proves whose page asks.

A request that relies on them and changes something repeats the value of `__Host-csrf` in `X-CSRF-Token`: what another
site can neither read nor set. The value is a MAC of the login session, so that it ends with it and fits no other.
"""

import hmac
from typing import TYPE_CHECKING, Any

from werkzeug.http import dump_cookie
from werkzeug.wrappers import Request

from common import errors, log, tokens
from common.settings import settings

if TYPE_CHECKING:
    from common.call import Call

ACCESS, REFRESH, CSRF = "__Host-access", "__Host-refresh", "__Host-csrf"
HEADER = "X-CSRF-Token"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
RING, PURPOSE = "cursor-key", "csrf"


def put(call: "Call", name: str, value: str, seconds: int, *, readable: bool = False) -> None:
    """Set a cookie with the answer: for this host alone, over TLS alone, not along with other sites' forms."""
    call.cookies.append(dump_cookie(name, value, max_age=seconds, secure=True, httponly=not readable, samesite="Lax"))


def drop(call: "Call", name: str) -> None:
    """Delete a cookie with the answer."""
    put(call, name, "", 0, readable=name == CSRF)


def clear(call: "Call") -> None:
    """Delete the tokens' cookies with the answer: the log-in has ended."""
    for name in (ACCESS, REFRESH, CSRF):
        drop(call, name)


def received(request: Request, name: str) -> str | None:
    """A token from its cookie. An Authorization header, even a bad one, switches cookies off."""
    if settings().bearer_header in request.headers:
        return None
    return request.cookies.get(name) or None


def asked_for(given: str) -> bool:
    """Whether `?cookies=` says so. Raises 422."""
    if given not in {"true", "false"}:
        raise errors.invalid({"cookies": ["Must be true or false."]})
    return given == "true"


def deliver(call: "Call", answer: dict[str, Any]) -> dict[str, Any]:
    """A token answer without its tokens: they go in cookies. One without tokens (MFA comes first) stays as it is."""
    if "access_token" not in answer:
        return answer
    import jwt  # noqa: PLC0415

    access, lifetime = answer["access_token"], answer["expires_in"]
    session_id = jwt.decode(access, options={"verify_signature": False})["sid"]
    put(call, ACCESS, access, lifetime)
    if "refresh_token" in answer:
        longest = answer["refresh_expires_in"]
        put(call, REFRESH, answer["refresh_token"], longest)
        put(call, CSRF, tokens.mac(RING, PURPOSE, session_id), longest, readable=True)
    return {name: value for name, value in answer.items() if name not in {"access_token", "refresh_token"}}


def check(request: Request, session_id: str) -> None:
    """403 `csrf_failed` unless an unsafe request shows, as header and cookie, the MAC of this login session."""
    if request.method not in SAFE:
        prove(request, session_id)


def prove(request: Request, session_id: str) -> None:
    """The same whatever the method: for a GET that begins a change."""
    shown, kept = request.headers.get(HEADER, "").encode(), request.cookies.get(CSRF, "").encode()
    bound = any(hmac.compare_digest(shown, mac.encode()) for mac in tokens.macs(RING, PURPOSE, session_id))
    if not (bound and hmac.compare_digest(shown, kept)):
        log.security("NOTICE", "csrf check failed", login_session_id=session_id)
        raise errors.Problem("csrf_failed", f"Send the value of the cookie {CSRF} in the header {HEADER}.")
