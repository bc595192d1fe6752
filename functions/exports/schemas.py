"""Exports: what comes in, what goes out."""

from marshmallow import fields, validate

from common.schemas import Moment, Page, Schema

SCOPES = ("me", "user", "organization")
FORMATS = ("json", "csv")
STATUS = ("queued", "running", "ready", "failed", "expired", "cancelled")


class NewExport(Schema):
    """POST /v1/exports. Other people's data and CSV are not offered yet."""

    scope = fields.String(required=True, validate=validate.OneOf(("me",)))
    format = fields.String(load_default="json", validate=validate.OneOf(("json",)))


class ExportFilter(Page):
    """GET /v1/exports."""


class Progress(Schema):
    """How far an export is, in parts."""

    done = fields.Integer(required=True)
    total = fields.Integer(required=True)
    percent = fields.Integer(required=True, validate=validate.Range(min=0, max=100))


class Export(Schema):
    """A request for a copy of a person's data."""

    id = fields.UUID(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    format = fields.String(required=True, validate=validate.OneOf(FORMATS))
    subject_user_id = fields.UUID(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUS))
    progress = fields.Nested(Progress, required=True)
    requested_at = Moment(required=True)
    due_at = Moment(required=True)
    completed_at = Moment(required=True, allow_none=True)
    expires_at = Moment(required=True, allow_none=True)
    size_bytes = fields.Integer(required=True, allow_none=True)
    sha256 = fields.String(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)


class ExportPage(Schema):
    """A page of exports, newest first."""

    items = fields.List(fields.Nested(Export), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class Claimed(Schema):
    """What a claimed workflow is to do."""

    work = fields.String(required=True, validate=validate.OneOf(("export", "remove")))


class Plan(Schema):
    """The parts to copy."""

    parts = fields.List(fields.String(), required=True)


class Done(Schema):
    """A step's outcome, for the workflow's log."""

    state = fields.String(required=True)
