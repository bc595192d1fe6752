"""Log-in at a provider (OpenID Connect): the browser leaves with `start` and comes back to `callback`.

Code flow with PKCE, state and nonce, as RFC 9700 has it. The browser keeps one secret in a cookie. Nonce and PKCE
verifier are MACs of the state under that secret, so that they stand nowhere, and fit no other browser and no other try.
"""

import base64
import hmac
import json
import re
import secrets
from typing import Any, NoReturn
from urllib.parse import urlencode

from werkzeug.wrappers import Response

from common import access, cookies, errors, issuers, log, tokens
from common.access import PUBLIC
from common.db import Tx, database
from common.fetching import Unreachable
from common.http import Call, Json, Table
from common.issuers import Provider
from common.settings import settings
from common.tokens import Claim
from common.wire import DatabaseError, violates
from functions.auth import notices, oidc_provider, oidc_queries, pages, queries, session_queries, sign_in, telling
from functions.auth.mfa_schemas import MfaRequired
from functions.auth.oidc_provider import Identity, Invalid
from functions.auth.oidc_queries import Attempt
from functions.auth.oidc_schemas import IdentityLinked, OidcCallback, OidcRedirect, OidcStart
from functions.auth.schemas import AccessToken, TokenAnswer

COOKIE = "__Host-oidc"
LIFETIME = 600
SECRET = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits
ERROR = re.compile(r"[a-z_]{1,64}")
TAKEN = ("accounts_email_taken", "federated_identities_linked")
DONE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Done</title>
<style>body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 10vh auto; padding: 0 1rem }</style>
</head>
<body><main><h1>Done</h1><p>Your provider has confirmed who you are. You can close this window.</p></main></body>
</html>
"""
routes = Table()


@routes.on(
    "GET",
    "/v1/auth/oidc/<provider>/start",
    needs=PUBLIC,
    query=OidcStart,
    body=None,
    answers=None,
    status=302,
    also=(200, OidcRedirect),
    errors=("not_found", "oidc_unavailable", "invalid_token", "permission_denied", "step_up_required", "csrf_failed"),
)
def start(call: Call) -> Response:
    """Send the browser to a provider: to log in, or, signed in, to link an identity or to step up."""
    provider = _provider(call)
    caller = None if call.query["purpose"] == "login" else access.authenticate(call.request)
    if caller:
        call.acts_as(caller.claim)
    kept = call.request.cookies.get(COOKIE, "")
    browser, state = kept if SECRET.fullmatch(kept) else secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    try:
        url = oidc_provider.authorization_url(
            provider,
            state=state,
            nonce=_derived(browser, "nonce", state),
            verifier=_derived(browser, "verifier", state),
            fresh=call.query["purpose"] == "step_up",
        )
    except Unreachable as error:
        raise _unavailable(provider, error) from error
    with database().transaction(caller.claim if caller else queries.NOBODY) as tx:
        if caller:
            _authorize(call, tx, caller)
        attempt = {
            "state_hash": tokens.digest(state),
            "browser_hash": tokens.digest(browser),
            "provider": provider.name,
            "purpose": call.query["purpose"],
            "login_session_id": caller.login_session_id if caller else None,
            "cookies": call.query["cookies"] == "true",
            "return_to": call.query["return_to"],
        }
        oidc_queries.insert_attempt(tx, attempt, lifetime=LIFETIME)
    cookies.put(call, COOKIE, browser, LIFETIME)
    return _sent_away(call, url)


@routes.on(
    "GET",
    "/v1/auth/oidc/<provider>/callback",
    needs=PUBLIC,
    query=OidcCallback,
    body=None,
    answers=TokenAnswer,
    also=(200, MfaRequired),
    more=((200, AccessToken), (200, IdentityLinked), (303, None)),
    tokens=True,
    errors=(
        *("not_found", "oidc_state_invalid", "oidc_denied", "oidc_invalid", "oidc_not_linked", "oidc_already_linked"),
        *("oidc_unavailable", "invalid_token", "permission_denied", "organization_suspended", "unavailable"),
    ),
)
def callback(call: Call) -> Json | Response:
    """Take the browser back from a provider, and finish what it was sent there for."""
    provider = _provider(call)
    state, browser = call.query["state"], call.request.cookies.get(COOKIE, "")
    attempt = oidc_queries.take_attempt(tokens.digest(state), tokens.digest(browser)) if state and browser else None
    if attempt is None or attempt.provider != provider.name:
        raise errors.Problem("oidc_state_invalid")
    if attempt.purpose != "login":
        call.acts_as(attempt.claim)
    identity = _identity(call, provider, attempt, browser)
    if attempt.purpose == "link":
        answer = _link(call, provider, attempt, identity)
    elif attempt.purpose == "step_up":
        answer = _step_up(call, provider, attempt, identity)
    else:
        answer = _log_in(call, provider, identity)
    return _come_back(call, attempt, answer)


def _provider(call: Call) -> Provider:
    provider = issuers.providers().get(call.path["provider"])
    if provider is None:
        raise errors.not_found()
    return provider


def _derived(browser: str, purpose: str, state: str) -> str:
    """43 letters that only this browser and try can have."""
    made = hmac.digest(browser.encode(), f"{purpose}\x1f{state}".encode(), "sha256")
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def _authorize(call: Call, tx: Tx, caller: access.Caller) -> None:
    """Linking adds a way into the account: it takes a fresh proof, and never a page of somebody else's."""
    if caller.api_key or caller.outside:
        raise errors.Problem("permission_denied", "This is for people with a log-in session.")
    if call.query["purpose"] == "step_up":
        _refuse_factor(tx)
        return
    if caller.by_cookie:
        cookies.prove(call.request, caller.login_session_id)
    if not caller.fresh:
        raise errors.Problem("step_up_required", "Prove your identity again at POST /v1/auth/step-up.")


def _refuse_factor(tx: Tx) -> None:
    if oidc_queries.has_factor(tx):
        raise errors.Problem("permission_denied", "Step up with your second factor at POST /v1/auth/step-up.")


def _sent_away(call: Call, url: str) -> Response:
    headers = {"Vary": "Accept"}
    if call.request.headers.get("Accept", "").partition(";")[0].strip().lower() == "application/json":
        body = json.dumps({"authorization_url": url, "expires_in": LIFETIME})
        return Response(body, content_type="application/json", headers=headers)
    return Response(status=302, headers={**headers, "Location": url})


def _identity(call: Call, provider: Provider, attempt: Attempt, browser: str) -> Identity:
    """Whom the provider's answer proves. Raises 401, 403, 503."""
    state, code = call.query["state"], call.query["code"]
    try:
        oidc_provider.check_issuer(provider, call.query["iss"])
        if call.query["error"]:
            named = call.query["error"] if ERROR.fullmatch(call.query["error"]) else "an error"
            raise errors.Problem("oidc_denied", f"The provider answered: {named}.")
        if not code:
            raise Invalid("there is no code")
        return oidc_provider.prove(
            provider,
            code,
            verifier=_derived(browser, "verifier", state),
            nonce=_derived(browser, "nonce", state),
            fresh_since=attempt.started if attempt.purpose == "step_up" else None,
        )
    except Unreachable as error:
        raise _unavailable(provider, error) from error
    except Invalid as error:
        log.security("NOTICE", "a provider's answer was refused", provider=provider.name, reason=str(error))
        challenge = {"WWW-Authenticate": 'Bearer error="oidc_invalid"'}
        raise errors.Problem("oidc_invalid", headers=challenge) from error


def _unavailable(provider: Provider, error: Unreachable) -> errors.Problem:
    log.entry("WARNING", "a provider is not available", provider=provider.name, error=str(error))
    return errors.Problem("oidc_unavailable", headers={"Retry-After": "5"})


def _log_in(call: Call, provider: Provider, identity: Identity) -> dict[str, Any]:
    """What the first proof of identity leads to. A log-in of the same identity that was faster is looked at again."""
    try:
        return _admit(call, provider, identity)
    except DatabaseError as error:
        if not any(violates(error, name) for name in TAKEN):
            raise
    return _admit(call, provider, identity)


def _admit(call: Call, provider: Provider, identity: Identity) -> dict[str, Any]:
    known: list[str] = []
    try:
        return _admit_known(call, provider, identity, known)
    except errors.Problem as problem:
        if known and problem.code in {"oidc_not_linked", "organization_suspended"}:
            telling.failure(call, sign_in.FAILED, known[0], method="oidc", reason=problem.code)
        raise


def _admit_known(call: Call, provider: Provider, identity: Identity, known: list[str]) -> dict[str, Any]:
    """As `_admit`; `known` gets the id of the account, once there is one."""
    with database().transaction(queries.NOBODY) as tx:
        outcome, account_id, identity_id, organizations = oidc_queries.federated_log_in(
            tx,
            issuer=provider.issuer,
            subject=identity.subject,
            email=identity.email if oidc_provider.vouches(provider, identity) else None,
            name=identity.name,
            organization=identity.name,
        )
        if outcome not in {"not_linked", "created"}:
            known.append(account_id)
        if outcome in {"not_linked", "frozen"}:
            _refuse(provider, outcome)
        if not organizations:
            raise errors.Problem("permission_denied", "You belong to no organization. Ask for an invitation.")
        tx.continue_as(Claim("u", organizations[0], account_id))
        if outcome == "created":
            call.audit("organization.created", organizations[0], tx=tx)
            call.audit("user.registered", account_id, tx=tx)
        if outcome == "to_link":
            identity_id = oidc_queries.link_identity(tx, provider.issuer, identity.subject)
        if outcome != "known":
            call.audit("identity.linked", identity_id, tx=tx, provider=provider.name)
        answer = sign_in.admit(call, tx, method="oidc", amr=["fed"])
        if outcome == "to_link":
            notices.post(tx, "identity_linked")
        return answer


def _refuse(provider: Provider, outcome: str) -> NoReturn:
    log.security("NOTICE", "an identity at a provider may not log in", provider=provider.name, outcome=outcome)
    raise errors.Problem(
        "oidc_not_linked", "Log in another way, and link this identity at start?purpose=link; or register."
    )


def _link(call: Call, provider: Provider, attempt: Attempt, identity: Identity) -> dict[str, Any]:
    """The identity becomes a way into the account of the login session that asked. Raises 409."""
    there: list[str] = []
    with database().transaction(attempt.claim) as tx:
        linked = oidc_queries.insert_identity(tx, provider.issuer, identity.subject)
        if linked:
            call.audit("identity.linked", linked, tx=tx, provider=provider.name)
            notices.post(tx, "identity_linked")
            known = queries.select_person(tx).organizations
            there = [each["id"] for each in known if each["id"] != tx.claim.tenant_id]
        elif not oidc_queries.find_identity(tx, provider.issuer, identity.subject):
            raise errors.conflict("oidc_already_linked", "Remove the link at the other account first.")
    if linked:
        person = tx.claim.principal_id
        telling.others(call, "identity.linked", person, there, resource_id=linked, provider=provider.name)
    return {"status": "linked", "provider": provider.name}


def _step_up(call: Call, provider: Provider, attempt: Attempt, identity: Identity) -> dict[str, Any]:
    """A fresh access token for the login session that asked, if it is the same person."""
    with database().transaction(attempt.claim) as tx:
        _refuse_factor(tx)
        session_id = tx.claim.login_session_id
        if not oidc_queries.find_identity(tx, provider.issuer, identity.subject):
            sign_in.audit_failure(call, tx, "login.step_up_failed", session_id, method="oidc")
            raise errors.Problem("oidc_not_linked", "This is not an identity of yours.", commits=True)
        auth_time, amr = session_queries.update_auth_time(tx, session_id)
        call.audit("login.stepped_up", session_id, tx=tx, method="oidc")
    access_token, lifetime = tokens.new_access_token(
        account_id=tx.claim.principal_id,
        tenant_id=tx.claim.tenant_id,
        login_session_id=session_id,
        amr=amr,
        auth_time=auth_time,
    )
    return {"access_token": access_token, "expires_in": lifetime}


def _come_back(call: Call, attempt: Attempt, answer: dict[str, Any]) -> dict[str, Any] | Response:
    """The answer itself; or, with cookies, a redirect to where the browser wanted to be, or a page that says done.

    What a second factor still needs travels in the fragment, which reaches no server and no log.
    """
    if not attempt.cookies:
        return answer
    rest = cookies.deliver(call, answer)
    waits = rest.get("status") == "mfa_required"
    if attempt.return_to is None and waits:
        return rest
    if attempt.return_to is None:
        page = pages.page(DONE)
        page.headers["Cache-Control"] = "no-store"
        return page
    fragment = (
        "#" + urlencode({"mfa_token": rest["mfa_token"], "factors": json.dumps(rest["factors"])}) if waits else ""
    )
    return Response(status=303, headers={"Location": settings().public_url + attempt.return_to + fragment})
