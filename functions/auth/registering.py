"""Registration: a claim until the mailbox has answered; the same work whether the address is taken or not."""

import secrets
import uuid
from typing import Any

from common import cookies, errors, passwords, tokens
from common.consents import signal
from common.db import Tx, database
from common.http import Call
from common.outbox import Message
from common.settings import settings
from common.tokens import Claim
from common.wire import DatabaseError, violates
from functions.auth import email_change, email_queries, queries, sign_in

COOKIE = "__Host-registration"
VERIFY_EMAIL = "verify_email"


def register(call: Call) -> dict[str, str]:
    """Keep a pending registration and have a mail sent; what the mail says is decided when it is sent."""
    body = call.body
    choices = _choices(call)
    passwords.check_policy(body["password"], body["email"], body["display_name"], body["organization_name"])
    registration_id, browser = str(uuid.uuid4()), secrets.token_urlsafe(32)
    registration = {
        "id": registration_id,
        "password_hash": passwords.hash_new(body["password"]),
        "browser_hash": tokens.digest(browser),
        "token_hash": tokens.digest(tokens.mac("mail-key", VERIFY_EMAIL, registration_id)),
        "consents": choices,
        **{name: body[name] for name in ("email", "display_name", "organization_name")},
    }
    with database().transaction(queries.NOBODY) as tx:
        queries.insert_registration(tx, registration, lifetime=settings().verification_seconds)
        tx.post(Message("mail", VERIFY_EMAIL, registration_id))
    cookies.put(call, COOKIE, browser, settings().verification_seconds)
    return {"status": "verification_required"}


def _choices(call: Call) -> list[dict[str, Any]]:
    """What was agreed to or refused, with the versions shown now and the browser's signal.

    It becomes a consent when the mailbox has answered. Raises 422 for a purpose that the platform does not have: asked
    before anything else, and the same whoever the address belongs to.
    """
    given = call.body["consents"]
    choices = queries.select_choices(given) if given else []
    unknown = [place for place, choice in enumerate(choices) if choice["version"] is None]
    if unknown:
        raise errors.invalid({f"consents.{place}.purpose": ["Unknown purpose."] for place in unknown})
    return [{**choice, "signal": signal(call.request)} for choice in choices]


def resend(call: Call) -> dict[str, str]:
    """Have the mail sent again. A message about nothing is written otherwise, so that the work is the same."""
    with database().transaction(queries.NOBODY) as tx:
        pending = queries.find_pending_registration(tx, call.body["email"])
        tx.post(Message("mail", VERIFY_EMAIL, pending or str(uuid.uuid4())))
    return {"status": "accepted"}


def verify(call: Call) -> dict[str, Any]:
    """The account, its organization and the first log-in, for the mailed token with the browser or the password.

    The token of a new address confirms that. Raises 401 `invalid_token`, `password_required`, `invalid_credentials`.
    """
    token = tokens.digest(call.body["token"])
    wish = email_queries.find_email_change(token)
    if wish is not None:
        return email_change.confirm(call, wish)
    cookie = call.request.cookies.get(COOKIE)
    browser = tokens.digest(cookie) if cookie else None
    password = call.body["password"]
    proved = password is not None and _knows_password(token, password, browser)
    try:
        with database().transaction(queries.NOBODY) as tx:
            return _activate(call, tx, token, browser, proved=proved)
    except DatabaseError as error:
        if violates(error, "accounts_email_taken"):  # another registration of this address was faster
            raise errors.unauthenticated("The link is not valid any more.") from error
        raise


def _knows_password(token: bytes, password: str, browser: bytes | None) -> bool:
    """Whether the password is the registration's. A wrong one is refused only where the browser does not vouch."""
    outcome, password_hash = queries.find_registration_hash(token)
    if outcome == "unknown":
        raise errors.unauthenticated("The link is not valid any more.")
    right = passwords.matches(password_hash, password)
    if not right and browser is None:
        raise sign_in.wrong_password()
    return right


def _activate(call: Call, tx: Tx, token: bytes, browser: bytes | None, *, proved: bool) -> dict[str, Any]:
    outcome, account_id, tenant_id, consents = queries.activate_registration(
        tx, token, browser, proved=proved, signal=signal(call.request), personal=call.personal
    )
    if outcome == "unknown":
        raise errors.unauthenticated("The link is not valid any more.")
    if outcome == "password_required" and call.body["password"] is not None:
        raise sign_in.wrong_password()
    if outcome == "password_required":
        challenge = {"WWW-Authenticate": 'Bearer error="password_required"'}
        raise errors.Problem("password_required", "Send the password of this registration too.", headers=challenge)
    tx.continue_as(Claim("u", tenant_id, account_id))
    call.audit("organization.created", tenant_id, tx=tx)
    call.audit("user.registered", account_id, tx=tx)
    _record(call, tx, consents)
    cookies.drop(call, COOKIE)
    return sign_in.open_session(call, tx, method="email", amr=["pwd" if proved else "mail"])


def _record(call: Call, tx: Tx, consents: list[dict[str, Any]]) -> None:
    for each in consents:
        purpose, version = each["purpose"], each["version"]
        if each["granted"]:
            call.audit("consent.granted", each["id"], tx=tx, purpose=purpose, version=version, source="registration")
        else:
            call.audit("consent.refused", each["id"], tx=tx, purpose=purpose, version=version, source="registration")
