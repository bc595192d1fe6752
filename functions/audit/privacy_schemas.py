"""The data-protection officer's queue: what comes in, what goes out."""

from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import ValidationError, fields, validate, validates

from common.schemas import Flag, Moment, Page, Schema

KINDS = ("export", "deletion")
SCOPES = ("me", "user", "organization")
CHANNELS = ("api", "letter", "child", "hold_end", "replay")
STATUS = (
    *("queued", "ready", "expired"),  # of exports
    *("scheduled", "awaiting_approval", "completed", "refused"),  # of erasures
    *("running", "failed", "cancelled"),  # of both
)
POLICIES = ("keep_pseudonymous", "erase")
OLDEST = timedelta(days=366)


class RequestFilter(Page):
    """GET /v1/privacy/requests. `overdue=true` shows what is open after its time, `false` all the rest."""

    kind = fields.String(load_default=None, validate=validate.OneOf(KINDS))
    status = fields.String(load_default=None, validate=validate.OneOf(STATUS))
    overdue = fields.Boolean(load_default=None, truthy={"true"}, falsy={"false"})


class Letter(Schema):
    """POST /v1/privacy/requests: a request of a member that came by letter, by mail or at the counter.

    `received_at` is when it arrived: from then on it is due within a month.
    """

    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    user_id = fields.UUID(required=True)
    received_at = Moment(required=True)
    note = fields.String(
        load_default=None,
        allow_none=True,
        validate=validate.Length(max=1000),
        metadata={"example": "By post; identity checked"},
    )

    @validates("received_at")
    def check_received_at(self, value: datetime, **_: Any) -> None:
        """Not in the future, not older than a year."""
        now = datetime.now(UTC)
        if value > now:
            raise ValidationError("Must not be in the future.")
        if value < now - OLDEST:
            raise ValidationError("Must not be older than a year.")


class Extension(Schema):
    """POST /v1/privacy/requests/{id}/extend: the person is told the reason by mail."""

    reason = fields.String(
        required=True,
        validate=validate.Length(min=1, max=1000),
        metadata={"example": "Your data stand in archives that have to be searched by hand."},
    )
    months = fields.Integer(load_default=2, strict=True, validate=validate.OneOf((1, 2)))


class Approval(Schema):
    """POST /v1/privacy/requests/{id}/approve; `policy` says what becomes of what the person wrote for others."""

    policy = fields.String(load_default=None, allow_none=True, validate=validate.OneOf(POLICIES))


class PrivacyRequest(Schema):
    """An export or an erasure that concerns the organization, and how much time is left.

    `overdue`: it is open after its time. `days_left`: whole days until `due_at`, negative after it, null once it is
    answered. `stuck`: it has been started several times and gets no further; it is tried every hour. `reason`: the code
    of the last failure, or why it was refused; `step`: where. Of a person's own request (scope me) there is no more
    than this, and the platform answers it.
    """

    id = fields.UUID(required=True)
    kind = fields.String(required=True, validate=validate.OneOf(KINDS))
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    subject_user_id = fields.UUID(required=True, allow_none=True)
    status = fields.String(required=True, validate=validate.OneOf(STATUS))
    channel = fields.String(required=True, validate=validate.OneOf(CHANNELS))
    received_at = Moment(required=True)
    due_at = Moment(required=True)
    completed_at = Moment(required=True, allow_none=True)
    extended = Flag(required=True)
    extension_reason = fields.String(required=True, allow_none=True, metadata={"example": None})
    overdue = Flag(required=True)
    days_left = fields.Integer(required=True, allow_none=True)
    stuck = Flag(required=True)
    reason = fields.String(required=True, allow_none=True, metadata={"example": None})
    step = fields.String(required=True, allow_none=True, metadata={"example": None})
    attempts = fields.Integer(required=True)
    requested_by = fields.UUID(required=True, allow_none=True)
    note = fields.String(required=True, allow_none=True, metadata={"example": None})


class PrivacyRequestPage(Schema):
    """A page of the queue, newest first."""

    items = fields.List(fields.Nested(PrivacyRequest), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
