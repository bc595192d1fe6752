"""Log-in: who stands behind the password, in which organization, and the tokens that say so."""

import math
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from common import errors, log, passwords, tokens
from common.db import Tx, database
from common.http import Call
from common.settings import settings
from common.tokens import Claim
from functions.auth import devices, family, lock, mfa, queries, session_queries, telling
from functions.auth.queries import Credential, Person
from functions.auth.session_queries import Session

FAILED = "login.failed"
REFUSED = {"organization_suspended", "account_locked"}
FAILURE_SECONDS = 0.1  # failures are answered at multiples of this after the request came,
BOOKKEEPING_SECONDS = 0.05  # and not before a known account's part of the work can be over


def log_in(call: Call) -> dict[str, Any]:
    """The token answer for e-mail and password.

    Raises 401, 403, 404 for an organization that is not theirs, 429 `account_locked`.
    """
    started, email, password = time.monotonic(), call.body["email"], call.body["password"]
    found, pending, wait = queries.find_credential(lock.place(call, email))
    if wait:
        _refuse(call, found, started, lock.locked(wait))
    right = passwords.matches(found.password_hash if found else None, password)
    if found is None or found.password_hash is None or not right or found.status == "frozen":
        unverified = passwords.matches(pending, password)
        _refuse(call, found, started, _unverified() if unverified else wrong_password())
    claim = Claim("u", _organization(call, found, call.body["organization_id"]), found.account_id)
    renewed = passwords.hash_new(password) if passwords.outdated(found.password_hash) else None
    with telling_refusal(call, claim, method="password"), database().transaction(claim) as tx:
        lock.guard_ahead(call, tx, email)
        queries.same_password_ahead(tx, found.password_hash)
        if renewed:
            queries.update_password_hash(tx, found.password_hash, renewed)
        if found.factor:
            return admit(call, tx, method="password", amr=["pwd"])
        queries.no_factor_ahead(tx)
        return open_session(call, tx, method="password", amr=["pwd"])


@contextmanager
def telling_refusal(call: Call, claim: Claim, *, method: str) -> Iterator[None]:
    """Record a log-in that is refused although the proof was right: the organization is suspended, or the lock fell."""
    try:
        yield
    except errors.Problem as problem:
        if problem.code in REFUSED and not problem.commits:
            places = [claim.tenant_id] if claim.tenant_id and problem.code == "organization_suspended" else None
            telling.failure(call, FAILED, claim.principal_id, places, method=method, reason=problem.code)
        raise


def admit(call: Call, tx: Tx, *, method: str, amr: list[str]) -> dict[str, Any]:
    """What a first proof of identity (`method`) leads to, in a transaction sealed for the person.

    A token answer, or `mfa_required` where there is a second factor.
    """
    return mfa.begin(call, tx, method=method, amr=amr) or open_session(call, tx, method=method, amr=amr)


def open_session(call: Call, tx: Tx, *, method: str, amr: list[str], origin: str | None = None) -> dict[str, Any]:
    """A new login session of the transaction's person in its organization, and the token answer for it.

    A fresh proof clears her failures in the lock and makes the browser a known device; an `origin` was proved before.
    """
    session_id, first = str(uuid.uuid4()), family.first_token()
    if origin is None:
        lock.clear_ahead(call, tx)
        devices.remember(call, tx, tell=True)
        queries.forget_reset_ahead(tx)
    session, person = session_queries.insert_login_session(
        tx,
        {
            "id": session_id,
            "amr": amr,
            "ip": call.ip,
            "user_agent": call.user_agent,
            "lifetime": settings().family_seconds,
            "refresh_lifetime": settings().refresh_token_seconds,
            "origin": origin,
        },
        tokens.digest(first),
    )
    call.audit("login.succeeded", session_id, tx=tx, method=method)
    return token_answer(tx.claim.tenant_id, session, person, first)


def token_answer(tenant_id: str, session: Session, person: Person, refresh_token: str) -> dict[str, Any]:
    """The token answer of API.md."""
    access_token, lifetime = tokens.new_access_token(
        account_id=person.id,
        tenant_id=tenant_id,
        login_session_id=session.id,
        amr=session.amr,
        auth_time=session.auth_time,
    )
    return {
        "status": "authenticated",
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": lifetime,
        "refresh_token": refresh_token,
        "refresh_expires_in": session.refresh_seconds,
        "user": person.json,
        "organization": person.organization(tenant_id),
        "organizations": person.organizations,
    }


def _organization(call: Call, found: Credential, wanted: uuid.UUID | None) -> str:
    """The organization to log in to: the one asked for, or the oldest membership."""
    if not found.organizations:
        raise errors.Problem("permission_denied", "You belong to no organization. Ask for an invitation.")
    if wanted is None:
        return found.organizations[0]
    if str(wanted) not in found.organizations:
        telling.failure(call, FAILED, found.account_id, method="password", reason="not_found")
        raise errors.not_found()
    return str(wanted)


def _refuse(call: Call, found: Credential | None, started: float, problem: errors.Problem) -> NoReturn:
    """Count and record the failure where it belongs, and answer the same, at the same time, as for anybody else.

    The password of a registration that waits is told, and counted, whether the address has an account or not: whoever
    registers somebody else's address learns nothing by it, and gets no guess for nothing.
    """
    if problem.code != "account_locked":
        wait = lock.count(call, call.body["email"])
        problem = lock.locked(wait) if wait else problem
    earliest = time.monotonic() + BOOKKEEPING_SECONDS
    if found is None:
        log.security("NOTICE", "log-in failed for an unknown address")
    else:
        log.security("NOTICE", "log-in failed")
        reason = problem.code if problem.code in REFUSED else None
        telling.failure(call, FAILED, found.account_id, method="password", reason=reason)
    now = time.monotonic()
    turns = math.ceil((max(earliest, now) - started) / FAILURE_SECONDS)
    time.sleep(started + turns * FAILURE_SECONDS - now)
    raise problem


def _unverified() -> errors.Problem:
    return errors.Problem("email_not_verified", "Follow the link in the mail that we sent you.")


def audit_failure(call: Call, tx: Tx, action: str, resource_id: str, method: str = "password") -> None:
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


def wrong_password(*, commits: bool = False) -> errors.Problem:
    """401, the same whoever is asked for."""
    challenge = {"WWW-Authenticate": 'Bearer error="invalid_credentials"'}
    return errors.Problem("invalid_credentials", headers=challenge, commits=commits)
