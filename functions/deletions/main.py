"""Erasure (Art. 17 GDPR): requests, state, certificates; and the entry of the service that runs the job."""

import json
import uuid

from werkzeug.wrappers import Request, Response

from common import access, certificate, errors, tokens
from common.db import database
from common.http import Call, Json, Routes
from common.outbox import Message
from common.settings import settings
from functions.deletions import acknowledgements, page, queries
from functions.deletions.plan import planned
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
DELETION = "/v1/deletions/<uuid:deletion_id>"


@routes.on(
    "POST", "/v1/deletions", needs=access.SIGNED_IN, body=NewDeletion, answers=Deletion, status=202, step_up=True,
    also=(200, Plan), errors=("last_owner", "deletion_in_progress"),
)  # fmt: skip
def request_deletion(call: Call) -> Json | Response:
    """Ask for the erasure of your own account and data; with `dry_run`, read what it would do (200)."""
    if call.body["dry_run"]:
        plan = planned(queries.select_plan_counts(call.tx))
        return Response(json.dumps({"plan": plan}), 200, content_type="application/json")
    deletion_id = str(uuid.uuid4())
    grace = settings().deletion_grace_user_seconds
    receipt = tokens.mac("mail-key", "deletion_receipt", deletion_id)
    deletion = queries.insert_deletion(
        call.tx,
        deletion_id,
        grace_seconds=grace,
        receipt=tokens.digest(receipt),
        reason=call.body["reason"],
    )
    call.tx.post(Message("workflow", "gdpr_erasure", deletion_id, delay_seconds=grace))
    call.audit("deletion.requested", deletion_id, scope=call.body["scope"])
    call.headers["Location"] = f"/v1/deletions/{deletion_id}"
    return deletion


@routes.on("GET", "/v1/deletions", needs=access.SIGNED_IN, query=DeletionFilter, body=None, answers=DeletionPage)
def list_deletions(call: Call) -> Json:
    """List your requests for erasure, newest first."""
    items, last = queries.list_deletions(call.tx, limit=call.query["limit"], after=call.after())
    return call.page(items, last)


@routes.on("GET", "/v1/deletions/certificate-keys", needs=access.PUBLIC, body=None, answers=CertificateKeys)
def get_certificate_keys(_call: Call) -> Json:
    """Read the public keys that certificates are checked with."""
    return {"keys": certificate.public_keys()}


@routes.on("GET", DELETION, needs=access.SIGNED_IN, body=None, answers=Deletion)
def get_deletion(call: Call) -> Json:
    """Read the state of a request for erasure."""
    return queries.select_deletion(call.tx, call.path["deletion_id"])


@routes.on("POST", f"{DELETION}/cancel", needs=access.SIGNED_IN, body=None, answers=Deletion, errors=("conflict",))
def cancel_deletion(call: Call) -> Json:
    """Call off an erasure that is still scheduled."""
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
