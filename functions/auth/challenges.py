"""The second half of a log-in: a code is sent, a code is proved, and the mfa_token becomes a token answer."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common import access, cookies, errors, tokens
from common.access import PUBLIC
from common.db import Tx, database
from common.http import Call, Json, Table
from common.tokens import Claim
from functions.auth import codes, lock, mfa, mfa_queries, notices, queries, recovery, sign_in, telling
from functions.auth.mfa_queries import Challenge, Factor
from functions.auth.mfa_schemas import Challenge as ChallengeBody
from functions.auth.mfa_schemas import MfaVerification
from functions.auth.schemas import Accepted, TokenAnswer

TRIES = 5
RECOVERY = "recovery_code"
FAILED = "login.failed"

part = Table()


@part.on(
    "POST",
    "/v1/auth/mfa/challenge",
    needs=PUBLIC,
    body=ChallengeBody,
    answers=Accepted,
    status=202,
    errors=("invalid_token", "csrf_failed", "permission_denied", "organization_suspended", "not_found", "rate_limited",
            "account_locked"),
)  # fmt: skip
def send_code(call: Call) -> Json:
    """Send a code by text message or mail, for a log-in that waits or for somebody who is logged in."""
    if call.body["mfa_token"] is None:
        _send_to_caller(call)
    else:
        _send_for_log_in(call, tokens.digest(call.body["mfa_token"]))
    return {"status": "accepted"}


def _send_for_log_in(call: Call, token: bytes) -> None:
    found = _found(call, token)
    with _telling(call, found):
        lock.guard(call, found.email)
    with _telling(call, found), database().transaction(queries.NOBODY) as tx:
        challenge = _sealed(tx, token)
        factor = _factor(tx, str(call.body["factor_id"]))
        if not factor.confirmed or not mfa.proves_more(tx, factor, challenge.amr):
            raise errors.not_found()
        codes.send(tx, factor, challenge.id)
        call.audit("factor.code_sent", factor.id, tx=tx, type=factor.type)
    codes.count(call, factor.type, found.email)


def _send_to_caller(call: Call) -> None:
    """The caller's own factor, to confirm it or to step up: good for this login session alone."""
    caller = access.authenticate(call.request)
    call.acts_as(caller.claim)
    if caller.api_key or caller.outside:
        raise errors.Problem("permission_denied", "This is for people who have logged in here.")
    with database().transaction(caller.claim) as tx:
        if caller.by_cookie:
            cookies.check(call.request, caller.login_session_id)
        email = mfa_queries.select_proofs(tx).email
    with database().transaction(caller.claim) as tx:
        lock.guard(call, email, tx)
        factor = _factor(tx, str(call.body["factor_id"]))
        codes.send(tx, factor, caller.login_session_id)
        call.audit("factor.code_sent", factor.id, tx=tx, type=factor.type)
    codes.count(call, factor.type, email)


@part.on(
    "POST",
    "/v1/auth/mfa/verify",
    needs=PUBLIC,
    body=MfaVerification,
    answers=TokenAnswer,
    errors=("invalid_token", "invalid_code", "organization_suspended", "not_found", "account_locked"),
    tokens=True,
)
def verify(call: Call) -> Json:
    """Finish a log-in with a second factor or a recovery code."""
    token = tokens.digest(call.body["mfa_token"])
    found = _found(call, token)
    with _telling(call, found), database().transaction(queries.NOBODY) as tx:
        return _prove(call, tx, token)


@contextmanager
def _telling(call: Call, challenge: Challenge) -> Iterator[None]:
    """A failed log-in is recorded in each organization of the person; what `commits` stands in her own chain already.

    The proof was wrong, or it was not looked at: the lock has fallen, the organization is suspended.
    """
    try:
        yield
    except errors.Problem as problem:
        if problem.code == "invalid_code" or problem.code in sign_in.REFUSED:
            there = [known for known in challenge.organizations if known != challenge.tenant_id or not problem.commits]
            reason = problem.code if problem.code in sign_in.REFUSED else None
            if problem.code == "organization_suspended":
                there = [challenge.tenant_id]
            telling.failure(call, FAILED, challenge.account_id, there, method=_method(call, challenge), reason=reason)
        raise


def _method(call: Call, challenge: Challenge) -> str:
    """How somebody tries to log in: the first proof, and what is to be the second one."""
    return f"{challenge.method}+{RECOVERY if call.body.get('recovery_code') is not None else 'factor'}"


def _prove(call: Call, tx: Tx, token: bytes) -> dict[str, Any]:
    challenge = _sealed(tx, token)
    if call.body["recovery_code"] is not None:
        lock.guard(call, challenge.email, tx)
        used, right = RECOVERY, recovery.use(tx, call.body["recovery_code"])
        if right:
            notices.post(tx, "recovery_code_used")
    else:
        factor = _factor(tx, str(call.body["factor_id"]))
        used = factor.type
        usable = factor.confirmed and mfa.proves_more(tx, factor, challenge.amr)
        code, email = call.body["code"], challenge.email
        right = usable and mfa.check(call, tx, factor, code, bound_to=challenge.id, email=email)
    if not right:
        mfa_queries.count_attempt(tx, challenge.id)
        mfa.record_failure(call, tx, FAILED, challenge.account_id, f"{challenge.method}+{used}")
        raise mfa.refused(call, tx, challenge.email, mfa.invalid_code())
    mfa_queries.delete_challenge(tx, challenge.id)
    amr = [*dict.fromkeys([*challenge.amr, mfa.AMR.get(used, "otp"), "mfa"])]
    return sign_in.open_session(call, tx, method=f"{challenge.method}+{used}", amr=amr)


def _found(call: Call, token: bytes) -> Challenge:
    """The challenge behind a token. Raises 401; a try with one that is spent is recorded."""
    challenge = mfa_queries.find_challenge(token)
    if challenge is not None and challenge.attempts >= TRIES:
        telling.failure(call, FAILED, challenge.account_id, method=_method(call, challenge), reason="mfa_token_spent")
    return _known(challenge)


def _known(challenge: Challenge | None) -> Challenge:
    """The challenge, while it lives. Raises 401."""
    if challenge is None or challenge.attempts >= TRIES:
        raise errors.unauthenticated("The mfa_token is not valid any more: log in again.")
    return challenge


def _sealed(tx: Tx, token: bytes) -> Challenge:
    """The challenge, locked, and the transaction sealed for its person. Raises 401."""
    challenge = _known(mfa_queries.lock_challenge(tx, token))
    tx.continue_as(Claim("u", challenge.tenant_id, challenge.account_id))
    return challenge


def _factor(tx: Tx, factor_id: str) -> Factor:
    """One of the person's factors, locked. Raises 404."""
    factor = mfa_queries.lock_factor(tx, factor_id)
    if factor is None:
        raise errors.not_found()
    return factor
