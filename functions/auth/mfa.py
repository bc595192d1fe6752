"""The second factor: when a log-in has to wait for it, and whether a code is one of it."""

import secrets
import time
import uuid
from typing import Any

from common import errors, log, tokens, vault
from common.db import Tx
from common.http import Call
from functions.auth import codes, lock, mfa_queries, queries, totp
from functions.auth.mfa_queries import Factor

TOKEN_SECONDS = 600
TOKEN_BYTES = 32
RING = "mfa-key"
AMR = {"totp": "otp", "sms": "sms", "email": "mail"}


def begin(call: Call, tx: Tx, *, method: str, amr: list[str]) -> dict[str, Any] | None:
    """`mfa_required` for the transaction's person, whose first proof was right; None without a confirmed factor."""
    confirmed = [factor for factor, _, _ in mfa_queries.list_factors(tx) if factor.confirmed]
    if not confirmed:
        return None
    token = secrets.token_urlsafe(TOKEN_BYTES)
    challenge_id = str(uuid.uuid4())
    challenge = {"id": challenge_id, "token_hash": tokens.digest(token), "method": method, "amr": amr}
    mfa_queries.insert_challenge(tx, challenge, TOKEN_SECONDS)
    call.audit("login.mfa_required", challenge_id, tx=tx, method=method)
    shown = [{"id": f.id, "type": f.type, "hint": f.hint} for f in confirmed if proves_more(tx, f, amr)]
    return {"status": "mfa_required", "mfa_token": token, "factors": shown}


def proves_more(tx: Tx, factor: Factor, amr: list[str]) -> bool:
    """Whether the factor adds to the first proof: the mailbox does not, where all that was shown was the mailbox."""
    return factor.type != "email" or not ("mail" in amr or queries.reset_by_mail_pending(tx))


def check(call: Call, tx: Tx, factor: Factor, code: str, *, bound_to: str, email: str) -> bool:
    """Whether the code is the factor's, now and for `bound_to`; it is spent then.

    `factor` is locked, so that tries take their turn and each sees what the others counted. A wrong one is to be
    followed by `refused`. Raises 429, without a look at the code, by the lock of `email` or while the factor rests.
    """
    lock.guard(call, email, tx)
    if factor.wait:
        headers = {"Retry-After": str(factor.wait)}
        raise errors.Problem("account_locked", "Too many wrong codes: wait, or take another factor.", headers=headers)
    right = _check_totp(tx, factor, code) if factor.type == "totp" else codes.matches(tx, factor, bound_to, code)
    if not right:
        mfa_queries.count_failure(tx, factor.id)
    return right


def refused(call: Call, tx: Tx, email: str, problem: errors.Problem) -> errors.Problem:
    """The problem to raise after a wrong code or password, counted in the lock: it commits what was counted."""
    seconds = lock.count(call, email, tx)
    told = lock.locked(seconds) if seconds else problem
    told.commits = True
    return told


def _check_totp(tx: Tx, factor: Factor, code: str) -> bool:
    sealed, bound = factor.secret or "", (factor.id, tx.claim.principal_id)
    try:
        secret = vault.read(RING, sealed, *bound)
    except vault.Unreadable:
        log.entry("ERROR", "the secret of a factor cannot be read", factor_id=factor.id)
        return False
    step = totp.matching_step(secret, code, time.time(), factor.last_step)
    if step is None:
        return False
    if vault.outdated(RING, sealed):
        sealed = vault.seal(RING, secret, *bound)
    return mfa_queries.accept_step(tx, factor.id, step, sealed)


def invalid_code(detail: str = "") -> errors.Problem:
    """401 for a wrong code; what was counted and recorded stays."""
    challenge = {"WWW-Authenticate": 'Bearer error="invalid_code"'}
    return errors.Problem("invalid_code", detail, headers=challenge, commits=True)


def record_failure(call: Call, tx: Tx, action: str, resource_id: str, method: str) -> None:
    """Record that a proof of identity failed."""
    tx.audit(
        action,
        action.split(".")[0],
        resource_id,
        request_id=call.request_id,
        outcome="failure",
        data={"method": method},
        personal=call.personal,
    )
