"""POST /v1/auth/refresh: rotation, the grace of a lost answer, and the end of a family whose token was used twice."""

from typing import Any

from common import cookies, errors, tokens
from common.db import Tx, database
from common.http import Call
from common.settings import settings
from common.tokens import Claim
from functions.auth import family, queries, session_queries, sign_in
from functions.auth.session_queries import Family


def refresh(call: Call) -> dict[str, Any]:
    """The token answer for a refresh token. Raises 401 `invalid_token` or `refresh_token_reused`."""
    presented = _presented(call)
    with database().transaction(queries.NOBODY) as tx:
        found = session_queries.lock_family(tx, tokens.digest(presented))
        if found is not None:
            call.acts_as(Claim("u", found.tenant_id, found.account_id, found.session_id))
        if found is None or found.dead:
            raise errors.unauthenticated("The refresh token is not valid.")
        if call.by_cookie:
            cookies.check(call.request, found.session_id)
        if found.generation == found.tip:
            return _rotate(tx, found, presented)
        if (found.seconds_since_use or 0) <= settings().refresh_replay_seconds:
            return _repeat(tx, found, presented)
        raise _revoke(call, tx, found)


def _presented(call: Call) -> str:
    """The refresh token: the body's, or else the cookie's, whose successor travels in a cookie too. Raises 401."""
    given: str | None = call.body["refresh_token"]
    if given is not None:
        return given
    given = cookies.received(call.request, cookies.REFRESH)
    if given is None:
        raise errors.unauthenticated("Send a refresh token.")
    call.by_cookie = True
    return given


def _rotate(tx: Tx, found: Family, presented: str) -> dict[str, Any]:
    token, kid = family.successor(presented, found.session_id, found.generation + 1)
    tx.continue_as(Claim("u", found.tenant_id, found.account_id, found.session_id))
    session, person = session_queries.rotate_refresh_token(
        tx,
        found,
        tokens.digest(presented),
        {"hash": tokens.digest(token), "kid": kid, "lifetime": settings().refresh_token_seconds},
    )
    return sign_in.token_answer(found.tenant_id, session, person, token)


def _repeat(tx: Tx, found: Family, presented: str) -> dict[str, Any]:
    """A lost answer or a parallel tab: the current token once more, and nothing changes."""
    tx.continue_as(Claim("u", found.tenant_id, found.account_id, found.session_id))
    kids, session, person = session_queries.select_tip(tx, found)
    token = family.tip(presented, found.session_id, found.generation, kids)
    return sign_in.token_answer(found.tenant_id, session, person, token)


def _revoke(call: Call, tx: Tx, found: Family) -> errors.Problem:
    """Somebody has a copy of the token: nobody keeps the family. Without its organization there is no chain to tell."""
    tx.continue_as(Claim("u", found.tenant_id if found.member else "", found.account_id))
    session_queries.revoke_session(tx, found.session_id)
    if found.member:
        sign_in.audit_failure(call, tx, "login.refresh_token_reused", found.session_id)
    challenge = {"WWW-Authenticate": 'Bearer error="refresh_token_reused"'}
    return errors.Problem("refresh_token_reused", headers=challenge, commits=True)
