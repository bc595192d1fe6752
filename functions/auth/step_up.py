"""POST /v1/auth/step-up: a fresh proof of identity within a log-in, for acts that need one."""

from common import errors, passwords, tokens
from common.access import SIGNED_IN
from common.http import Call, Json, Table
from functions.auth import lock, mfa, mfa_queries, session_queries, sign_in
from functions.auth.mfa_queries import Proofs
from functions.auth.mfa_schemas import StepUp
from functions.auth.schemas import AccessToken

FAILED = "login.step_up_failed"

part = Table()


@part.on(
    "POST",
    "/v1/auth/step-up",
    needs=SIGNED_IN,
    body=StepUp,
    answers=AccessToken,
    errors=("invalid_credentials", "invalid_code", "not_found", "account_locked", "unavailable"),
    tokens=True,
    while_suspended=True,  # an erasure of her own data asks for it
)
def step_up(call: Call) -> Json:
    """Prove the person's identity anew: with a second factor, or the password where there is none."""
    caller, known = call.caller, mfa_queries.select_proofs(call.tx)
    method = _by_password(call, known) if call.body["password"] is not None else _by_factor(call, known)
    auth_time, amr = session_queries.update_auth_time(call.tx, caller.login_session_id)
    lock.succeeded(call, known.email)
    call.audit("login.stepped_up", caller.login_session_id, method=method)
    access_token, lifetime = tokens.new_access_token(
        account_id=caller.user_id,
        tenant_id=caller.tenant_id,
        login_session_id=caller.login_session_id,
        amr=amr,
        auth_time=auth_time,
    )
    return {"access_token": access_token, "expires_in": lifetime}


def _by_password(call: Call, known: Proofs) -> str:
    """The password is enough while there is no confirmed factor. Raises 401."""
    lock.guard(call, known.email)
    if known.has_factor:
        problem = sign_in.wrong_password(commits=True)
        problem.detail = "This account has a second factor: send factor_id and code."
        mfa.record_failure(call, call.tx, FAILED, call.caller.login_session_id, "password")
        raise problem
    if not passwords.matches(known.password_hash, call.body["password"]):
        mfa.record_failure(call, call.tx, FAILED, call.caller.login_session_id, "password")
        raise mfa.refused(call, call.tx, known.email, sign_in.wrong_password())
    return "password"


def _by_factor(call: Call, known: Proofs) -> str:
    """A factor counts only if it is older than this log-in: who has stolen the log-in may have added it. Raises 401."""
    session_id = call.caller.login_session_id
    factor = mfa_queries.lock_factor(call.tx, str(call.body["factor_id"]), session_id)
    if factor is None:
        raise errors.not_found()
    if not factor.older:
        mfa.record_failure(call, call.tx, FAILED, session_id, factor.type)
        raise mfa.invalid_code("This factor is younger than this log-in: log in again to use it.")
    if not mfa.check(call, call.tx, factor, call.body["code"], bound_to=session_id, email=known.email):
        mfa.record_failure(call, call.tx, FAILED, session_id, factor.type)
        raise mfa.refused(call, call.tx, known.email, mfa.invalid_code())
    return factor.type
