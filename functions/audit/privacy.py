"""The data-protection officer's desk: every export and erasure that concerns the organization, with its time limit."""

import uuid

from common import errors
from common.http import Call, Json, Table
from common.settings import settings
from functions.audit import privacy_queries as queries
from functions.audit.privacy_schemas import (
    Approval,
    Extension,
    Letter,
    PrivacyRequest,
    PrivacyRequestPage,
    RequestFilter,
)

part = Table()
REQUESTS = "/v1/privacy/requests"
REQUEST = f"{REQUESTS}/<uuid:request_id>"
HELD = "A legal hold keeps everything about this person; the refusal is recorded, and its reason."


@part.on(
    "GET", REQUESTS, needs="audit.view", query=RequestFilter, body=None, answers=PrivacyRequestPage, records=True
)  # fmt: skip
def list_requests(call: Call) -> Json:
    """List every export and erasure that concerns the organization, newest first; reading them is an event itself."""
    query = call.query
    items, last = queries.list_requests(
        call.tx,
        limit=query["limit"],
        after=call.after(),
        kind=query["kind"],
        status=query["status"],
        overdue=query["overdue"],
    )
    call.audit("privacy_request.read")
    return call.page(items, last)


@part.on("GET", REQUEST, needs="audit.view", body=None, answers=PrivacyRequest, records=True)
def get_request(call: Call) -> Json:
    """Read one export or erasure that concerns the organization; an event itself, too."""
    request_id = call.path["request_id"]
    found = queries.select_request(call.tx, request_id)
    call.audit("privacy_request.read", request_id)
    return found


@part.on(
    "POST", REQUESTS, needs="deletion.create", body=Letter, answers=PrivacyRequest, status=202, step_up=True,
    errors=("not_found", "export_in_progress", "deletion_in_progress", "last_owner", "legal_hold"),
)  # fmt: skip
def receive_request(call: Call) -> Json:
    """Take down a request that came by letter: a copy starts at once, an erasure once it is approved.

    It is due one calendar month after it was received (Art. 12(3) GDPR). A copy also needs export.create.
    """
    letter = call.body
    request_id = str(uuid.uuid4())
    given = {"user_id": letter["user_id"], "received_at": letter["received_at"], "note": letter["note"]}
    if letter["kind"] == "export":
        if "export.create" not in call.caller.permissions:
            raise errors.Problem("permission_denied", "This needs the permission export.create.")
        shown: str | None = queries.insert_export(call.tx, request_id, **given)
    else:
        grace = settings().deletion_grace_user_seconds
        shown = queries.insert_erasure(call.tx, request_id, grace_seconds=grace, **given)
    if shown is None:
        call.audit(
            "deletion.refused", request_id, outcome="denied", scope="user", channel="letter", reason="legal_hold"
        )
        raise errors.Problem("legal_hold", HELD, extra={"deletion_id": request_id}, commits=True)
    done = "export.requested" if letter["kind"] == "export" else "deletion.requested"
    call.audit(done, request_id, scope="user", channel="letter")
    call.headers["Location"] = f"{REQUESTS}/{request_id}"
    return shown


@part.on(
    "POST", f"{REQUEST}/extend", needs="deletion.create", body=Extension, answers=PrivacyRequest, errors=("conflict",)
)  # fmt: skip
def extend_request(call: Call) -> Json:
    """Take up to two further months for a request (Art. 12(3) GDPR); the person is told the reason by mail."""
    request_id, months = call.path["request_id"], call.body["months"]
    shown = queries.extend_request(call.tx, request_id, months=months, reason=call.body["reason"])
    call.audit("privacy_request.extended", request_id, months=months)
    return shown


@part.on(
    "POST", f"{REQUEST}/approve", needs="deletion.create", body=Approval, answers=PrivacyRequest, step_up=True,
    errors=("conflict",),
)  # fmt: skip
def approve_request(call: Call) -> Json:
    """Let an erasure begin that waits for the organization's approval."""
    request_id, policy = call.path["request_id"], call.body["policy"]
    shown = queries.approve_deletion(call.tx, request_id, policy)
    call.audit("deletion.approved", request_id, policy=policy)
    return shown
