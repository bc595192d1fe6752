"""Acceptance of an invitation: the mailed secret proves the mailbox, and nothing else.

Without an account with the address, one is made with it. With one, its owner has to be logged in, second factor
included; only somebody who belongs to no organization, and so cannot log in, brings the password instead.
"""

import re
import unicodedata
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from marshmallow import fields
from werkzeug.wrappers import Response

from common import access, cookies, errors, passwords, tokens
from common.access import PUBLIC, Caller
from common.db import Tx, database
from common.http import Call, Json, Table
from common.mail import Mail
from common.schemas import Schema
from common.settings import settings
from common.tokens import Claim
from common.wire import DatabaseError, violates
from functions.auth import joining_queries, lock, pages, queries, sign_in, telling
from functions.auth.joining_queries import Acceptance, Invited
from functions.auth.letters import PAGE
from functions.auth.mfa_schemas import MfaRequired
from functions.auth.queries import NOBODY
from functions.auth.schemas import LONGEST_PASSWORD, TOKEN, Name, TokenAnswer

PURPOSE = "invitation"
HOUR, DAY = 3600, 86_400
LIKE_A_LINK = re.compile(r"[/\\@:]|\bwww\b|\w[.。]\w", re.IGNORECASE)
SHOWN = 80
part = Table()


class InvitationAcceptance(Schema):
    """POST /v1/invitations/accept. A new account needs `password` and `display_name`."""

    token = fields.String(required=True, validate=TOKEN)
    password = fields.String(load_default=None, allow_none=True, validate=LONGEST_PASSWORD)
    display_name = Name(load_default=None, allow_none=True)


@part.on(
    "POST",
    "/v1/invitations/accept",
    needs=PUBLIC,
    body=InvitationAcceptance,
    answers=TokenAnswer,
    also=(200, MfaRequired),
    tokens=True,
    errors=(
        *("invalid_token", "login_required", "invalid_credentials", "csrf_failed", "organization_suspended"),
        *("already_member", "weak_password", "account_locked", "unavailable"),
    ),
)
def accept_invitation(call: Call) -> Json:
    """Join an organization by the mailed secret, with a new account or with the one that is logged in."""
    token = tokens.digest(call.body["token"])
    invited = joining_queries.find_invitation(token)
    if invited is None:
        raise _dead()
    if invited.account_id is None:
        return _join_anew(call, token, invited)
    caller = _logged_in(call)
    if caller is not None:
        return _join_logged_in(call, token, caller)
    if call.body["password"] is not None and invited.live == 0:
        return _join_by_password(call, token, invited, invited.account_id)
    raise _login_required()


@part.on("GET", "/accept-invitation", needs=PUBLIC, body=None, answers=None)
def acceptance_page(_call: Call) -> Response:
    """Show the page behind the link in an invitation."""
    return pages.page(_html())


def mail(mail_id: str, invitation_id: str) -> Mail | None:
    """The link, made and armed while it is sent: until then there is no secret that could be found."""
    found = joining_queries.find_mail_invitation(mail_id)
    if found is None:
        return None
    address, generation, organization, seconds = found
    token = tokens.mac("mail-key", PURPOSE, invitation_id, str(generation))
    if not joining_queries.arm_invitation(mail_id, generation, tokens.digest(token)):
        return None
    return _letter(address, organization, f"{settings().public_url}/accept-invitation#token={token}", seconds)


def _join_anew(call: Call, token: bytes, invited: Invited) -> dict[str, Any]:
    """A new account with the address, proved by the mailbox."""
    name, password = call.body["display_name"], call.body["password"]
    missing = [field for field in ("display_name", "password") if call.body[field] is None]
    if missing:
        raise errors.invalid({field: ["A new account needs it."] for field in missing})
    passwords.check_policy(password, invited.email, name, invited.organization)
    hashed = passwords.hash_new(password)
    try:
        with database().transaction(NOBODY) as tx:
            _join(call, tx, joining_queries.accept_invitation(tx, token, name, hashed))
            return sign_in.open_session(call, tx, method=PURPOSE, amr=["mail"])
    except DatabaseError as error:
        if violates(error, "accounts_email_taken"):  # somebody registered with the address meanwhile
            raise _login_required() from error
        raise


def _join_logged_in(call: Call, token: bytes, caller: Caller) -> dict[str, Any]:
    """The caller's account, on the strength of this very log-in."""
    with database().transaction(caller.claim) as tx:
        _join(call, tx, joining_queries.accept_invitation(tx, token))
        return sign_in.open_session(call, tx, method=PURPOSE, amr=caller.amr, origin=caller.login_session_id)


def _join_by_password(call: Call, token: bytes, invited: Invited, account_id: str) -> dict[str, Any]:
    """An account that belongs nowhere: mailbox and password let it join, its second factor lets it in."""
    lock.guard(call, invited.email)
    if not passwords.matches(invited.password_hash, call.body["password"]):
        telling.failure(call, sign_in.FAILED, account_id, method="password")
        lock.failed(call, invited.email)
        raise sign_in.wrong_password()
    with database().transaction(Claim("u", "", account_id)) as tx:
        lock.guard_ahead(call, tx, invited.email)
        queries.same_password_ahead(tx, invited.password_hash or "")
        _join(call, tx, joining_queries.accept_invitation(tx, token))
        return sign_in.admit(call, tx, method="password", amr=["pwd"])


def _join(call: Call, tx: Tx, accepted: Acceptance) -> None:
    """Record the membership, and go on in the organization. Raises 401, 403, 409 when there is none."""
    if accepted.outcome == "suspended":
        raise errors.Problem("organization_suspended")
    if accepted.outcome == "login_required":
        raise _login_required()
    if accepted.outcome == "member":
        raise errors.conflict("already_member", "You belong to this organization already.")
    if accepted.outcome != "joined":
        raise _dead()
    tx.continue_as(Claim("u", accepted.tenant_id, accepted.account_id))
    call.audit("invitation.accepted", accepted.invitation_id, tx=tx)
    call.audit("member.joined", accepted.account_id, tx=tx)


def _logged_in(call: Call) -> Caller | None:
    """Who sends this with a login session of ours that is alive; None for anybody else. Raises 403 `csrf_failed`."""
    try:
        caller = access.authenticate(call.request)
        if caller.api_key or caller.outside or not joining_queries.is_session(caller.claim):
            return None
        call.acts_as(caller.claim)
    except errors.Problem as problem:
        if problem.code in {"invalid_token", "organization_suspended"}:
            return None
        raise
    if caller.by_cookie:
        cookies.check(call.request, caller.login_session_id)
        call.by_cookie = True
    return caller


def _dead() -> errors.Problem:
    return errors.unauthenticated("The invitation is used, revoked, replaced by a newer one, or too old.")


def _login_required() -> errors.Problem:
    challenge = {"WWW-Authenticate": 'Bearer error="login_required"'}
    return errors.Problem("login_required", "Log in as the person with the invited address first.", headers=challenge)


def _letter(address: str, organization: str, link: str, seconds: int) -> Mail:
    """What the organization's people typed is shown only where no reader could take it for a link."""
    shown = f"the organization “{organization}”"
    plain = unicodedata.normalize("NFKC", organization)  # other widths of a dot or a slash are read as one too
    if len(organization) > SHOWN or LIKE_A_LINK.search(plain) or not organization.isprintable():
        shown = "an organization"
    first = f"You are invited to join {shown}."
    count, unit = (seconds // DAY, "day") if seconds >= DAY else (max(1, seconds // HOUR), "hour")
    last = (
        f"The link works once, for {count} {unit}{'' if count == 1 else 's'}. If you do not know who invites you, "
        "do nothing: without the link there is no membership."
    )
    return Mail(
        address,
        "You are invited to join an organization",
        f"{first}\n\nFollow this link to accept:\n\n{link}\n\n{last}\n",
        PAGE.format(
            title="An invitation",
            body=f'<p>{escape(first)}</p>\n<p><a href="{escape(link)}">Accept the invitation</a></p>\n<p>{last}</p>',
        ),
    )


@cache
def _html() -> str:
    return Path(__file__).with_name("accept_invitation.html").read_text()
