"""New passwords: by a mailed link for who has forgotten hers, by the old one for who is logged in."""

import uuid

from common import errors, passwords, tokens
from common.access import PUBLIC, SIGNED_IN
from common.db import database
from common.http import Call, Json, Later, Table
from common.mail import Mail
from common.outbox import Message
from common.settings import settings
from common.tokens import Claim
from functions.auth import devices, lock, mailed, notices, password_queries, queries, sign_in, telling
from functions.auth.letters import letter
from functions.auth.schemas import Accepted, ForgottenPassword, PasswordChange, PasswordReset

RESET = "password_reset"
PAGE = "reset-password"
CHANGED = "user.password_changed"

part = Table()


@part.on(
    "POST", "/v1/auth/password/forgot", needs=PUBLIC, body=ForgottenPassword, answers=Accepted, status=202, errors=()
)
def forgot(call: Call) -> Json:
    """Have a link mailed that leads to a new password, if the address has an account."""
    reset_id = str(uuid.uuid4())
    token = tokens.digest(mailed.token(RESET, reset_id))
    with database().transaction(queries.NOBODY) as tx:
        password_queries.ask_password_reset(tx, call.body["email"], reset_id, token, settings().password_reset_seconds)
        tx.post(Message("mail", RESET, reset_id))
    return {"status": "accepted"}


@part.on(
    "POST",
    "/v1/auth/password/reset",
    needs=PUBLIC,
    body=PasswordReset,
    answers=None,
    status=204,
    errors=("invalid_token", "weak_password", "unavailable"),
)
def reset(call: Call) -> None:
    """Set a new password with the mailed token; every login session ends."""
    token, password = tokens.digest(call.body["token"]), call.body["new_password"]
    found = password_queries.find_password_reset(token)
    if found is None or not mailed.genuine(RESET, found.id, call.body["token"]):
        raise mailed.dead()
    passwords.check_policy(password, *found.words)
    password_hash = passwords.hash_new(password)
    account_id = found.account_id
    with database().transaction(Claim("u", "", account_id)) as tx:
        organizations = password_queries.reset_password(tx, token, password_hash)
        if organizations is None:
            raise mailed.dead()
        first = organizations[0] if organizations else ""
        tx.continue_as(Claim("u", first, account_id))
        devices.remember(call, tx, tell=False)
        tx.flight()
        notices.post(tx, "password_changed")
        if first:
            call.audit(CHANGED, account_id, tx=tx, method="mail")
    telling.others(call, CHANGED, account_id, organizations[1:], method="mail")


@part.on(
    "POST",
    "/v1/auth/password/change",
    needs=SIGNED_IN,
    body=PasswordChange,
    answers=None,
    status=204,
    step_up=True,
    secret=True,  # what it is given is not to be kept, not even as a digest
    errors=("invalid_credentials", "conflict", "weak_password", "account_locked", "unavailable"),
)
def change(call: Call) -> Later:
    """Set a new password with the old one; the person's other login sessions end."""
    person, old = password_queries.select_own_password(call.tx)
    lock.guard(call, person.email)
    names = [organization["name"] for organization in person.organizations]
    passwords.check_policy(call.body["new_password"], person.email, person.display_name, *names)
    if not passwords.matches(old, call.body["current_password"]) or old is None:
        lock.failed(call, person.email)
        sign_in.audit_failure(call, call.tx, "user.password_change_failed", person.id)
        raise sign_in.wrong_password(commits=True)
    lock.guard_ahead(call, call.tx, person.email)
    changed = password_queries.change_password(
        call.tx,
        old,
        passwords.hash_new(call.body["new_password"]),
        session_id=call.caller.login_session_id,
        device=devices.shown(call),
    )
    if not changed:
        raise errors.conflict("conflict", "The password was changed by another request meanwhile.")
    notices.post(call.tx, "password_changed")
    call.audit(CHANGED, person.id, method="password")
    return telling.elsewhere(call, CHANGED, person.id, person, method="password")


def reset_mail(mail_id: str, reset_id: str) -> Mail | None:
    """The link to a new password, None when there is nobody to send it to."""
    found = password_queries.find_mail_reset(mail_id)
    if found is None:
        return None
    address, token_hash = found
    link = mailed.link(PAGE, RESET, reset_id, token_hash)
    if link is None:
        return None
    minutes = settings().password_reset_seconds // 60
    return letter(
        address,
        "Set a new password",
        "Somebody, most likely you, has asked for a new password of your account.",
        "Follow this link to set it:",
        link,
        f"The link works once, for {minutes} minutes; with the new password all log-ins of the account end."
        " If it was not you, do nothing: the old password stays.",
    )
