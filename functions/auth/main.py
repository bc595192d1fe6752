"""Log-in, registration, login sessions, and what is public."""

from typing import Any

from werkzeug.wrappers import Request, Response

from common import cookies
from common.access import PUBLIC, SIGNED_IN
from common.http import Call, Json, Later, Routes
from common.tokens import Claim
from functions.auth import (
    challenges,
    codes,
    contact,
    docs,
    email_change,
    factors,
    joining,
    mails,
    oidc,
    oidc_identities,
    pages,
    password_routes,
    queries,
    refreshing,
    registering,
    session_queries,
    sign_in,
    step_up,
    telling,
)
from functions.auth.mfa_schemas import MfaRequired
from functions.auth.queries import Person
from functions.auth.schemas import (
    Accepted,
    KeySet,
    LogIn,
    Me,
    ProfileChange,
    Refresh,
    Registered,
    Registration,
    Resend,
    SessionFilter,
    SessionPage,
    Switch,
    TokenAnswer,
    Verification,
)

routes = Routes("auth")
routes.include(docs.part)
routes.include(contact.part)
routes.include(joining.part)
routes.include(factors.part)
routes.include(challenges.part)
routes.include(codes.part)
routes.include(step_up.part)
routes.include(password_routes.part)
routes.include(oidc.routes)
routes.include(oidc_identities.routes)
WRONG = ("invalid_credentials", "unavailable")


@routes.on(
    "POST",
    "/v1/auth/register",
    needs=PUBLIC,
    body=Registration,
    answers=Registered,
    status=202,
    errors=("weak_password", "unavailable"),
)
def register(call: Call) -> Json:
    """Register a person and an organization; a mail brings the link that finishes it."""
    return registering.register(call)


@routes.on(
    "POST",
    "/v1/auth/email/verify",
    needs=PUBLIC,
    body=Verification,
    answers=TokenAnswer,
    errors=("invalid_token", "password_required", "account_locked", "organization_suspended", *WRONG),
    tokens=True,
)
def verify_email(call: Call) -> Json:
    """Finish a registration, or a change of address, with the mailed token.

    The browser it began in is asked for as well, or the password; for a change of address a log-in will do too.
    """
    return registering.verify(call)


@routes.on("POST", "/v1/auth/email/resend", needs=PUBLIC, body=Resend, answers=Accepted, status=202)
def resend_verification(call: Call) -> Json:
    """Send the verification mail again, if a registration waits for one."""
    return registering.resend(call)


@routes.on(
    "POST",
    "/v1/auth/login",
    needs=PUBLIC,
    body=LogIn,
    answers=TokenAnswer,
    also=(200, MfaRequired),
    errors=("account_locked", "email_not_verified", "permission_denied", "organization_suspended", "not_found", *WRONG),
    tokens=True,
)
def log_in(call: Call) -> Json:
    """Log in with e-mail and password."""
    return sign_in.log_in(call)


@routes.on(
    "POST",
    "/v1/auth/refresh",
    needs=PUBLIC,
    body=Refresh,
    answers=TokenAnswer,
    errors=("invalid_token", "refresh_token_reused", "csrf_failed", "organization_suspended"),
    tokens=True,
)
def refresh(call: Call) -> Json:
    """Trade a refresh token, in the body or in its cookie, for new tokens."""
    return refreshing.refresh(call)


@routes.on("POST", "/v1/auth/logout", needs=SIGNED_IN, body=None, answers=None, status=204)
def log_out(call: Call) -> None:
    """End this login session; its tokens stop working at once."""
    session_queries.revoke_session(call.tx, call.caller.login_session_id)
    call.audit("login.ended", call.caller.login_session_id)
    cookies.clear(call)


@routes.on("POST", "/v1/auth/logout-all", needs=SIGNED_IN, body=None, answers=None, status=204)
def log_out_everywhere(call: Call) -> Later:
    """End all login sessions of the person."""
    person, ended = queries.select_person(call.tx), session_queries.revoke_all_sessions(call.tx)
    call.audit("login.ended_everywhere", call.caller.user_id, sessions=ended)
    cookies.clear(call)
    return telling.elsewhere(call, "login.ended_everywhere", call.caller.user_id, person, sessions=ended)


@routes.on("GET", "/v1/auth/sessions", needs=SIGNED_IN, query=SessionFilter, body=None, answers=SessionPage)
def list_sessions(call: Call) -> Json:
    """List the person's login sessions, newest first."""
    current = call.caller.login_session_id
    items, last = session_queries.list_sessions(call.tx, limit=call.query["limit"], after=call.after(), current=current)
    return call.page(items, last)


@routes.on("DELETE", "/v1/auth/sessions/<uuid:session_id>", needs=SIGNED_IN, body=None, answers=None, status=204)
def end_session(call: Call) -> None:
    """End one of the person's login sessions."""
    session_queries.revoke_session(call.tx, call.path["session_id"])
    call.audit("login.ended", call.path["session_id"])


@routes.on("GET", "/v1/auth/me", needs=SIGNED_IN, body=None, answers=Me)
def get_me(call: Call) -> Json:
    """Tell who is calling, in which organization, and what she may do there."""
    return _me(call, queries.select_person(call.tx))


@routes.on(
    "PATCH",
    "/v1/auth/me",
    needs=SIGNED_IN,
    body=ProfileChange,
    answers=Me,
    errors=("step_up_required", "rate_limited"),
)
def change_me(call: Call) -> Json | Later:
    """Change the person's name, or ask for another e-mail address, which its mailbox has to confirm."""
    person = queries.select_person(call.tx)
    if call.body.get("email", person.email) != person.email:
        email_change.ask(call, call.body["email"])
    if "display_name" in call.body:
        person = queries.update_display_name(call.tx, call.body["display_name"])
        call.audit("user.updated", person.id, fields=["display_name"])
        answer = _me(call, person)
        return telling.elsewhere(call, "user.updated", person.id, person, answer=answer, fields=["display_name"])
    return _me(call, person)


@routes.on(
    "POST", "/v1/auth/switch", needs=SIGNED_IN, body=Switch, answers=TokenAnswer, errors=("not_found",), tokens=True
)
def switch(call: Call) -> Json:
    """Log in to another organization of the same person, on the strength of this login session."""
    wanted = str(call.body["organization_id"])
    queries.select_person(call.tx).organization(wanted)
    call.tx.continue_as(Claim("u", wanted, call.caller.user_id, call.caller.login_session_id))
    return sign_in.open_session(
        call, call.tx, method="switch", amr=call.caller.amr, origin=call.caller.login_session_id
    )


@routes.on("GET", "/.well-known/jwks.json", needs=PUBLIC, body=None, answers=KeySet)
def key_set(call: Call) -> Json:
    """List the public keys of access tokens."""
    call.headers.update(pages.PUBLIC_CACHE)
    return pages.key_set()


@routes.on("GET", "/docs/errors/<code>", needs=PUBLIC, body=None, answers=None, errors=("not_found",))
def explain_error(call: Call) -> Response:
    """Explain an error code to a person."""
    return pages.error(call.path["code"])


@routes.on("GET", "/verify-email", needs=PUBLIC, body=None, answers=None)
def verification_page(_call: Call) -> Response:
    """Show the page behind the link in the verification mail."""
    return pages.verify_email()


@routes.on("GET", "/reset-password", needs=PUBLIC, body=None, answers=None)
def reset_page(_call: Call) -> Response:
    """Show the page behind the link that leads to a new password."""
    return pages.reset_password()


@routes.on("POST", "/internal/mails/<uuid:mail_id>", needs="service:tasks", body=None, answers=None, status=204)
def deliver_mail(call: Call) -> None:
    """Send a mail of the outbox, for Cloud Tasks."""
    mails.deliver(call.path["mail_id"], call.request_id)


def _me(call: Call, person: Person) -> dict[str, Any]:
    return {
        "user": person.json,
        "organization": person.organization(call.caller.tenant_id),
        "permissions": sorted(call.caller.permissions),
        "organizations": person.organizations,
    }


def auth(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
