"""Exports: what comes in, what goes out."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from common.schemas import Moment, Page, Schema

SCOPES = ("me", "user", "organization")
FORMATS = ("json", "csv")
STATUS = ("queued", "running", "ready", "failed", "expired", "cancelled")


class NewExport(Schema):
    """POST /v1/exports: a copy of your own data, of a person's in this organization, or of the organization."""

    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    user_id = fields.UUID(load_default=None, metadata={"description": "Whose data: with scope `user`, and only there."})
    format = fields.String(load_default="json", validate=validate.OneOf(FORMATS))

    @validates_schema
    def check_user(self, data: dict[str, Any], **_options: Any) -> None:
        """A person is named where one is meant, and nowhere else."""
        if data["scope"] == "user" and data["user_id"] is None:
            raise ValidationError({"user_id": ["Missing data for required field."]})
        if data["scope"] != "user" and data["user_id"] is not None:
            raise ValidationError({"user_id": ["Goes with scope user only."]})


class ExportFilter(Page):
    """GET /v1/exports."""


class Progress(Schema):
    """How far an export is, in parts."""

    done = fields.Integer(required=True)
    total = fields.Integer(required=True)
    percent = fields.Integer(required=True, validate=validate.Range(min=0, max=100))


class Export(Schema):
    """A request for a copy of a person's data or, without a subject, of an organization's."""

    id = fields.UUID(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    format = fields.String(required=True, validate=validate.OneOf(FORMATS))
    subject_user_id = fields.UUID(required=True, allow_none=True)
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
