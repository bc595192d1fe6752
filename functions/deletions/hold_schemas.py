"""Legal holds: what comes in, what goes out."""

from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import ValidationError, fields, validate, validates

from common.schemas import Moment, Page, Schema

RESOURCES = ("project", "task")
STATUS = ("active", "ended", "released")
MOST = 1000
LONGEST = timedelta(days=36_525)  # a hundred years: later dates leave what a calendar of four digits can show
UNTIL, REASON = "2027-03-31T00:00:00Z", "Claim 2026-114 before the labour court"  # as the document shows them


class HeldResource(Schema):
    """A row that is held; what it belongs to is held with it."""

    type = fields.String(required=True, validate=validate.OneOf(RESOURCES))
    id = fields.UUID(required=True)


class NewHold(Schema):
    """POST /v1/legal-holds; without `resources` it keeps everything about the person in this organization."""

    subject_user_id = fields.UUID(required=True)
    reason = fields.String(required=True, validate=validate.Length(min=1, max=1000), metadata={"example": REASON})
    until = Moment(required=True, metadata={"example": UNTIL})
    resources = fields.List(
        fields.Nested(HeldResource), load_default=None, allow_none=True, validate=validate.Length(min=1, max=MOST)
    )

    @validates("until")
    def check_until(self, value: datetime, **_: Any) -> None:
        """A hold has an end, and it is to come."""
        if value <= datetime.now(UTC):
            raise ValidationError("Must be in the future.")
        if value - datetime.now(UTC) > LONGEST:
            raise ValidationError("Must be within a hundred years.")


class HoldFilter(Page):
    """GET /v1/legal-holds."""

    subject_user_id = fields.UUID(load_default=None)
    status = fields.String(load_default=None, validate=validate.OneOf(STATUS))


class Hold(Schema):
    """A legal hold; `ended` by its time, `released` by hand before."""

    id = fields.UUID(required=True)
    subject_user_id = fields.UUID(required=True)
    reason = fields.String(required=True, metadata={"example": REASON})
    until = Moment(required=True, metadata={"example": UNTIL})
    resources = fields.List(fields.Nested(HeldResource), required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUS))
    created_by = fields.UUID(required=True)
    created_at = Moment(required=True)
    released_at = Moment(required=True, allow_none=True)
    version = fields.Integer(required=True)


class HoldPage(Schema):
    """A page of legal holds, newest first."""

    items = fields.List(fields.Nested(Hold), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
