"""Erasure (Art. 17 GDPR): requests, state, certificates; and the entry of the service that runs the job."""

import json
import uuid

from werkzeug.wrappers import Request, Response

from common import access, certificate, errors, tokens
from common.db import database
from common.http import Call, Json, Routes
from common.outbox import Message
from common.settings import settings
from functions.deletions import acknowledgements, holds, page, queries
from functions.deletions.plan import planned
from functions.deletions.queries import Asked
from functions.deletions.schemas import (
    Certificate,
    CertificateKeys,
    Deletion,
    DeletionFilter,
    DeletionPage,
    NewDeletion,
    Plan,
    Receipt,
    RequiredReceipt,
)
from functions.deletions.steps import routes as steps

routes = Routes("deletions")
routes.include(acknowledgements.part)
routes.include(holds.part)
DELETION = "/v1/deletions/<uuid:deletion_id>"


BY_SCOPE = (("user", "deletion.create"), ("organization", "organizations.delete"))


@routes.on(
    "POST", "/v1/deletions", needs=access.SIGNED_IN, body=NewDeletion, answers=Deletion, status=202, step_up=True,
    also=(200, Plan), by_scope=BY_SCOPE, while_suspended=True,
    errors=("last_owner", "deletion_in_progress", "legal_hold", "permission_denied", "not_found"),
)  # fmt: skip
def request_deletion(call: Call) -> Json | Response:
    """Have your account, a member's data here or the organization erased; with `dry_run`, read what it would do (200).

    Your own needs no permission; a member's needs deletion.create, the organization's organizations.delete. Under a
    legal hold that keeps everything the request is recorded as refused: 409 `legal_hold` with its `deletion_id`.
    """
    asked = Asked(call.body["scope"], _text(call.body["user_id"]), call.body["reason"])
    if call.body["dry_run"]:
        plan = planned(*queries.rehearse(call.tx, asked))
        return Response(json.dumps({"plan": plan}), 200, content_type="application/json")
    deletion_id = str(uuid.uuid4())
    grace = settings().deletion_grace_user_seconds
    if asked.scope == "organization":
        grace = settings().deletion_grace_organization_seconds
    receipt = tokens.digest(tokens.mac("mail-key", "deletion_receipt", deletion_id))
    try:
        deletion = queries.insert_deletion(call.tx, deletion_id, asked, grace_seconds=grace, receipt=receipt)
    except errors.Problem as problem:
        if problem.code == "legal_hold":
            call.audit("deletion.refused", deletion_id, outcome="denied", scope=asked.scope, reason="legal_hold")
        raise
    if json.loads(deletion)["status"] == "scheduled":  # else its approval starts it
        call.tx.post(Message("workflow", "gdpr_erasure", deletion_id, delay_seconds=grace))
    call.audit("deletion.requested", deletion_id, scope=asked.scope)
    call.headers["Location"] = f"/v1/deletions/{deletion_id}"
    return deletion


def _text(value: uuid.UUID | None) -> str | None:
    return None if value is None else str(value)


@routes.on(
    "GET", "/v1/deletions", needs=access.SIGNED_IN, query=DeletionFilter, body=None, answers=DeletionPage, records=True,
    while_suspended=True,
)  # fmt: skip
def list_deletions(call: Call) -> Json:
    """List the requests for erasure that concern you, and the organization's if you may make them, newest first."""
    query = call.query
    found, last = queries.list_deletions(call.tx, limit=query["limit"], after=call.after(), status=query["status"])
    if any(_of_others(call, deletion) for deletion in found):
        call.audit("deletion.read")
    return call.page(f"[{','.join(found)}]", last)


@routes.on("GET", "/v1/deletions/certificate-keys", needs=access.PUBLIC, body=None, answers=CertificateKeys)
def get_certificate_keys(_call: Call) -> Json:
    """Read the public keys that certificates are checked with."""
    return {"keys": certificate.public_keys()}


@routes.on(
    "GET", DELETION, needs=access.SIGNED_IN, body=None, answers=Deletion, records=True, while_suspended=True
)  # fmt: skip
def get_deletion(call: Call) -> Json:
    """Read the state of a request for erasure."""
    deletion = queries.select_deletion(call.tx, call.path["deletion_id"])
    if _of_others(call, deletion):
        call.audit("deletion.read", call.path["deletion_id"])
    return deletion


def _of_others(call: Call, deletion: str) -> bool:
    return json.loads(deletion)["subject_user_id"] not in (None, call.caller.user_id)


@routes.on(
    "POST", f"{DELETION}/cancel", needs=access.SIGNED_IN, body=None, answers=Deletion, while_suspended=True,
    errors=("conflict",),
)  # fmt: skip
def cancel_deletion(call: Call) -> Json:
    """Call off an erasure that is scheduled or waits for approval, by who may ask for such a one."""
    deletion_id = call.path["deletion_id"]
    deletion = queries.cancel_deletion(call.tx, deletion_id)
    call.audit("deletion.cancelled", deletion_id)
    return deletion


@routes.on("GET", f"{DELETION}/status", needs=access.PUBLIC, query=RequiredReceipt, body=None, answers=Deletion)
def get_status(call: Call) -> Json:
    """Read the state of an erasure by its receipt, without a log-in: the account is gone."""
    return queries.select_by_receipt(call.path["deletion_id"], tokens.digest(call.query["receipt"]))


@routes.on("GET", f"{DELETION}/certificate", needs=access.PUBLIC, query=Receipt, body=None, answers=Certificate)
def get_certificate(call: Call) -> Json:
    """Read the signed proof of an erasure, logged in or by its receipt. 404 while there is none."""
    deletion_id, receipt = call.path["deletion_id"], call.query["receipt"]
    if receipt is not None:
        document = queries.select_by_receipt(deletion_id, tokens.digest(receipt))
    else:
        with database().transaction(access.authenticate(call.request).claim, read_only=True) as tx:
            document = queries.select_deletion(tx, deletion_id)
    proof = json.loads(document)["certificate"]
    if proof is None:
        raise errors.not_found()
    return json.dumps(proof)


@routes.on("GET", "/deletion", needs=access.PUBLIC, body=None, answers=None)
def show_page(_call: Call) -> Response:
    """The page that the last mail leads to."""
    return page.response()


def deletions(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)


def deletions_jobs(request: Request) -> Response:
    """Entry point of the job service."""
    return steps.answer(request)
