"""Known devices: a cookie by which a browser that its person has logged in with is recognized."""

import secrets
from typing import Any

from common import cookies, tokens
from common.db import Tx
from common.http import Call
from common.settings import settings
from functions.auth import notices

COOKIE = "__Host-device"
REMEMBERED = 50  # devices of an account; the one that was not used for longest goes first
REMEMBER = """
    WITH known AS (
        UPDATE identity.devices d SET last_used_at = now(), expires_at = now() + make_interval(secs => :lifetime)
        WHERE d.account_id = :user_id AND d.token_hash = :shown AND d.expires_at > now()
        RETURNING d.id
    ), made AS (
        INSERT INTO identity.devices (account_id, token_hash, expires_at)
        SELECT CAST(:user_id AS uuid), CAST(:fresh AS bytea), now() + make_interval(secs => :lifetime)
        WHERE NOT EXISTS (SELECT FROM known)
    ), forgotten AS (
        DELETE FROM identity.devices d
        WHERE d.account_id = :user_id AND d.id IN (
            SELECT o.id FROM identity.devices o
            WHERE o.account_id = :user_id AND o.token_hash IS DISTINCT FROM :shown
            ORDER BY o.last_used_at DESC, o.id OFFSET :most)
    )
    SELECT EXISTS (SELECT FROM known),
           EXISTS (SELECT FROM identity.login_sessions s WHERE s.account_id = :user_id)
"""


def shown(call: Call) -> bytes | None:
    """The hash of the device's cookie that came with the request."""
    cookie = call.request.cookies.get(COOKIE)
    return tokens.digest(cookie) if cookie else None


def remember(call: Call, tx: Tx, *, tell: bool) -> None:
    """Know this browser from now on as one of the sealed person, along with the next statement.

    With `tell` she gets a notice of one that was not known, unless it is her first log-in.
    """
    fresh = secrets.token_urlsafe(32)

    def heed(rows: list[list[Any]]) -> None:
        known, not_first = rows[0]
        cookie = call.request.cookies[COOKIE] if known else fresh
        cookies.put(call, COOKIE, cookie, settings().device_seconds)
        if tell and not_first and not known:
            notices.post(tx, "new_device")

    tx.ahead(
        heed,
        REMEMBER,
        shown=shown(call),
        fresh=tokens.digest(fresh),
        lifetime=settings().device_seconds,
        most=REMEMBERED - 1,
    )
