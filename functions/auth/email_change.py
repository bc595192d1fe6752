"""A new e-mail address: asked for after a fresh proof of identity, confirmed from its mailbox by the same person."""

import hmac
import secrets
import uuid
from typing import Any

from common import access, cookies, errors, passwords, tokens
from common.db import Tx, database
from common.http import Call
from common.mail import Mail
from common.outbox import Message
from common.settings import settings
from common.tokens import Claim
from common.wire import DatabaseError, violates
from functions.auth import email_queries, lock, mailed, notices, sign_in, telling
from functions.auth.email_queries import Wish
from functions.auth.letters import letter

COOKIE = "__Host-email-change"
PURPOSE = "email_change"
PAGE = "verify-email"
CHANGED = "user.email_changed"
FAILED = "user.email_change_failed"


def ask(call: Call, email: str) -> None:
    """Have the new address asked for its consent and tell the old one. A taken address is told like any other.

    Raises 403 `step_up_required`, 429 beyond five an hour.
    """
    if not call.caller.fresh:
        raise access.step_up_needed()
    change_id, browser = str(uuid.uuid4()), secrets.token_urlsafe(32)
    wish = {
        "change": change_id,
        "session": call.caller.login_session_id,
        "email": email,
        "browser": tokens.digest(browser),
        "token": tokens.digest(mailed.token(PURPOSE, change_id)),
        "lifetime": settings().verification_seconds,
    }
    if not email_queries.ask_email_change(call.tx, wish):
        headers = {"Retry-After": "3600"}
        raise errors.Problem("rate_limited", "Too many new addresses within an hour.", headers=headers)
    call.tx.post(Message("mail", PURPOSE, call.caller.user_id))
    notices.post(call.tx, "email_change_asked")
    cookies.put(call, COOKIE, browser, settings().verification_seconds)
    call.audit("user.email_change_asked", call.caller.user_id)


def confirm(call: Call, wish: Wish) -> dict[str, Any]:
    """The token answer for a mailed token, from the person who asked: the mailbox alone may be a stranger's by a typo.

    She shows it by her log-in, by the browser that asked while its log-in lasts, or by her password.
    Raises 401 `invalid_token`, `password_required`, `invalid_credentials`.
    """
    if not mailed.genuine(PURPOSE, wish.id, call.body["token"]):
        raise mailed.dead()
    claim, origin = _proved(call, wish)
    try:
        with sign_in.telling_refusal(call, claim, method="password"), database().transaction(claim) as tx:
            answer = _confirm(call, tx, wish, origin)
    except DatabaseError as error:
        if violates(error, "accounts_email_taken"):
            raise mailed.dead() from error
        raise
    telling.others(call, CHANGED, wish.account_id, [t for t in wish.organizations if t != claim.tenant_id])
    return answer


def _confirm(call: Call, tx: Tx, wish: Wish, origin: str | None) -> dict[str, Any]:
    if origin is None:
        lock.guard_ahead(call, tx, wish.email)
    if not email_queries.confirm_email_change(tx, wish.id):
        raise mailed.dead()
    notices.post(tx, "email_changed")
    call.audit(CHANGED, wish.account_id, tx=tx)
    cookies.drop(call, COOKIE)
    if origin is None:
        return sign_in.admit(call, tx, method="password", amr=["pwd"])
    return sign_in.open_session(call, tx, method=PURPOSE, amr=[], origin=origin)


def _proved(call: Call, wish: Wish) -> tuple[Claim, str | None]:
    """Whom to work for, and the login session that vouches for her: None after a proof by password."""
    if access.bearer(call.request) is not None:
        caller = access.authenticate(call.request)
        call.acts_as(caller.claim)
        if caller.outside or caller.user_id != wish.account_id:  # an outside token is not traded for one of ours
            raise mailed.dead()
        return caller.claim, caller.login_session_id
    cookie = call.request.cookies.get(COOKIE)
    if cookie and wish.session_id and wish.tenant_id and hmac.compare_digest(tokens.digest(cookie), wish.browser_hash):
        return Claim("u", wish.tenant_id, wish.account_id, wish.session_id), wish.session_id
    if call.body["password"] is None:
        challenge = {"WWW-Authenticate": 'Bearer error="password_required"'}
        raise errors.Problem("password_required", "Send your password, or log in first.", headers=challenge)
    try:
        lock.guard(call, wish.email)
    except errors.Problem as problem:
        telling.failure(call, FAILED, wish.account_id, method="password", reason=problem.code)
        raise
    if not wish.organizations or not passwords.matches(wish.password_hash, call.body["password"]):
        telling.failure(call, FAILED, wish.account_id, method="password")
        lock.failed(call, wish.email)
        raise sign_in.wrong_password()
    return Claim("u", wish.organizations[0], wish.account_id), None


def change_mail(mail_id: str, _account_id: str) -> Mail | None:
    """The link to the new address, or a word to the owner of one that is taken; None when the wish is over."""
    found = email_queries.find_mail_wish(mail_id)
    if found is None:
        return None
    change_id, address, token_hash, taken = found
    if taken:
        return letter(
            address,
            "Somebody tried to use your e-mail address",
            "Somebody wanted this e-mail address for another account. It has an account already: yours.",
            "Nothing has happened, and there is nothing to do.",
        )
    link = mailed.link(PAGE, PURPOSE, change_id, token_hash)
    if link is None:
        return None
    return letter(
        address,
        "Confirm your new e-mail address",
        "Somebody, most likely you, wants to use this e-mail address for an account.",
        "Follow this link to confirm it:",
        link,
        f"The link works once, for {settings().verification_seconds // 3600} hours. If it was not you, do nothing.",
    )
