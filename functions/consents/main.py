"""Consents: purposes and their texts, what people have decided, the proof of it, and the link that withdraws."""

from werkzeug.wrappers import Request, Response

from common import access, errors
from common.consents import signal
from common.db import Written
from common.http import Call, Json, Routes
from functions.consents import queries, unsubscribing
from functions.consents.schemas import (
    Consent,
    ConsentList,
    Decision,
    HistoryFilter,
    NewPurpose,
    NewText,
    ProofPage,
    Purpose,
    PurposeList,
)

routes = Routes("consents")
routes.include(unsubscribing.part)
PURPOSES = "/v1/consents/purposes"
MANAGE = "consent.manage"
REFUSED = {
    "taken": "This purpose exists already: change its text with PATCH.",
    "too_many": "An organization may ask for 100 purposes at most.",
}
DAY = "86400"


@routes.on(
    "GET", PURPOSES, needs=access.SIGNED_IN, body=None, answers=PurposeList, while_suspended=True
)  # fmt: skip
def list_purposes(call: Call) -> Json:
    """List what the platform and the organization ask consent for, with the current texts."""
    return f'{{"items":{queries.list_purposes(call.tx)}}}'


@routes.on("POST", PURPOSES, needs=MANAGE, body=NewPurpose, answers=Purpose, status=201, errors=("conflict",))
def create_purpose(call: Call) -> Json:
    """Ask the organization's members for consent to a new purpose, with its first text."""
    outcome, purpose = queries.put_text(call.tx, **call.body)
    if outcome != "created" or purpose is None:
        raise errors.conflict("conflict", REFUSED[outcome])
    call.audit("consent_purpose.created", purpose.id, version=purpose.version, marketing=call.body["marketing"])
    call.headers["Location"] = f"{PURPOSES}/{purpose.id}"
    return purpose


@routes.on("PATCH", f"{PURPOSES}/<purpose>", needs=MANAGE, body=NewText, answers=Purpose)
def change_purpose(call: Call) -> Json:
    """Change the text of a purpose: another text is a new version, which nobody has agreed to yet."""
    outcome, purpose = queries.put_text(call.tx, call.path["purpose"], call.body["text"], if_match=call.if_match)
    if outcome == "unknown" or purpose is None:
        raise errors.not_found()
    if outcome == "of_platform":
        raise errors.Problem("permission_denied", "This purpose is the platform's: its operator writes the text.")
    if outcome == "stale":
        raise errors.Problem("precondition_failed")
    if outcome == "changed":
        call.audit("consent_purpose.updated", purpose.id, version=purpose.version)
    return purpose


@routes.on(
    "GET", "/v1/consents", needs=access.SIGNED_IN, body=None, answers=ConsentList, while_suspended=True
)  # fmt: skip
def list_consents(call: Call) -> Json:
    """List what you have decided: your newest decision on each purpose."""
    return f'{{"items":{queries.list_consents(call.tx)}}}'


@routes.on(
    "PUT", "/v1/consents/<purpose>", needs=access.SIGNED_IN, body=Decision, answers=Consent, while_suspended=True,
    errors=("conflict",),
)  # fmt: skip
def put_consent(call: Call) -> Json:
    """Give your consent to the current text of a purpose, or withdraw it.

    Saying the same again changes nothing. Whoever gives more than 25 times a day is asked to wait; withdrawing is
    always possible, in a suspended organization as well.
    """
    purpose, granted = call.path["purpose"], call.body["granted"]
    put = queries.put_consent(call.tx, purpose, **call.body, signal=signal(call.request), personal=call.personal)
    if put.outcome == "unknown":
        raise errors.not_found()
    if put.outcome == "stale":
        raise errors.conflict("conflict", "The text has changed since: read its current version, and agree to that.")
    if put.outcome == "too_often":
        raise errors.Problem("rate_limited", "This was decided too often today.", headers={"Retry-After": DAY})
    if put.outcome == "written":
        _record(call, purpose, put, granted=granted)
    return Written(purpose, put.shown, put.version)


def _record(call: Call, purpose: str, put: queries.Put, *, granted: bool) -> None:
    """The event says ids and names only; the proof itself has the rest."""
    if granted:
        call.audit("consent.granted", put.id, purpose=purpose, version=put.version, source="settings")
    elif put.before:
        call.audit("consent.withdrawn", put.id, purpose=purpose, version=put.version, source="settings")
    else:
        call.audit("consent.refused", put.id, purpose=purpose, version=put.version, source="settings")


@routes.on(
    "GET", "/v1/consents/history", needs=access.SIGNED_IN, query=HistoryFilter, body=None, answers=ProofPage,
    while_suspended=True,
)  # fmt: skip
def list_history(call: Call) -> Json:
    """List every decision of yours as it was proven, newest first."""
    items, last = queries.list_history(call.tx, limit=call.query["limit"], after=call.after())
    return call.page(items, last)


def consents(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)
