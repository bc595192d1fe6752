"""Copies of personal data (Art. 15 and 20 GDPR): requests, state, download; the entry of the service of the job."""

import uuid
from functools import partial

from werkzeug.wrappers import Request, Response

from common import access, errors, storage
from common.http import Call, Json, Later, Routes
from common.outbox import Message
from functions.exports import page, queries
from functions.exports.schemas import Export, ExportFilter, ExportPage, NewExport
from functions.exports.steps import routes as steps

routes = Routes("exports")
EXPORT = "/v1/exports/<uuid:export_id>"


@routes.on(
    "POST", "/v1/exports", needs=access.SIGNED_IN, body=NewExport, answers=Export, status=202, while_suspended=True,
    by_scope=(("user", "export.create"), ("organization", "export.create")),
    errors=("export_in_progress", "not_found"),
)  # fmt: skip
def request_export(call: Call) -> Json:
    """Ask for a copy of your own data, of a person's in this organization, or of the whole organization.

    One runs at a time for each: 409 `export_in_progress`. Scope `me` holds the account and what each of your
    organizations has about you; `user` what this organization has about somebody, who may have left it; `organization`
    all that it has, which can be moved elsewhere. Other people appear as ids. No API key may ask.
    """
    export_id, scope, user_id = str(uuid.uuid4()), call.body["scope"], call.body["user_id"]
    export = queries.insert_export(
        call.tx, export_id, scope=scope, user_id=user_id and str(user_id), format=call.body["format"]
    )
    call.tx.post(Message("workflow", "gdpr_export", export_id))
    call.audit("export.requested", export_id, scope=scope, format=call.body["format"])
    call.headers["Location"] = f"/v1/exports/{export_id}"
    return export


@routes.on(
    "GET", "/v1/exports", needs=access.SIGNED_IN, query=ExportFilter, body=None, answers=ExportPage, records=True,
    while_suspended=True,
)  # fmt: skip
def list_exports(call: Call) -> Json:
    """List the exports of your data and, with `export.create`, those of your organization, newest first."""
    items, last, of_others = queries.list_exports(call.tx, limit=call.query["limit"], after=call.after())
    if of_others:
        call.audit("export.read")
    return call.page(items, last)


@routes.on("GET", EXPORT, needs=access.SIGNED_IN, body=None, answers=Export, records=True, while_suspended=True)
def get_export(call: Call) -> Json:
    """Read the state of an export."""
    export, of_others = queries.select_export(call.tx, call.path["export_id"])
    if of_others:
        call.audit("export.read", call.path["export_id"])
    return export


@routes.on(
    "GET", f"{EXPORT}/download", needs=access.SIGNED_IN, body=None, answers=None, status=302, records=True,
    while_suspended=True, errors=("conflict", "permission_denied"),
)  # fmt: skip
def download_export(call: Call) -> Later:
    """Go to a fresh signed URL of the package, good for an hour; for who asked for it, and for whom it is about."""
    found = queries.select_download(call.tx, call.path["export_id"])
    if found.status != "ready" or found.object_name is None:
        raise errors.conflict("conflict", f"There is no file to download: the export is {found.status}.")
    call.audit("export.downloaded", call.path["export_id"])
    return Later(partial(_redirect, found.object_name, found.requested_at))


def _redirect(object_name: str, day: str) -> Response:
    url = storage.signed_url(object_name, f"export-{day}.zip", "application/zip")
    return Response(status=302, headers={"Location": url})


@routes.on(
    "DELETE", EXPORT, needs=access.SIGNED_IN, body=None, answers=None, status=204, while_suspended=True,
    errors=("permission_denied",),
)  # fmt: skip
def delete_export(call: Call) -> None:
    """Cancel an export, or delete its file."""
    export_id = call.path["export_id"]
    outcome = queries.cancel_export(call.tx, export_id)
    if outcome == "over":
        return
    call.tx.post(Message("workflow", "gdpr_export", export_id))  # which finds it over, and deletes the objects
    call.audit("export.cancelled" if outcome == "cancelled" else "export.deleted", export_id)


@routes.on("GET", "/export", needs=access.PUBLIC, body=None, answers=None)
def show_page(_call: Call) -> Response:
    """The page that a mail leads to: how to get a new link."""
    return page.response()


def exports(request: Request) -> Response:
    """Entry point: functions-framework accepts only a plain function."""
    return routes.answer(request)


def exports_jobs(request: Request) -> Response:
    """Entry point of the job service."""
    return steps.answer(request)
