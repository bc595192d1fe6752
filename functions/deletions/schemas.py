"""Deletions: what comes in, what goes out."""

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from common.schemas import Flag, Moment, Page, Schema

SCOPES = ("me", "user", "organization")
STATUS = ("scheduled", "awaiting_approval", "running", "completed", "failed", "cancelled", "refused")
STEP_STATUS = ("pending", "running", "done", "skipped", "failed")
ACTIONS = ("delete", "null", "pseudonym", "keep")


class NewDeletion(Schema):
    """POST /v1/deletions; `user_id` names the person of scope user."""

    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    user_id = fields.UUID(load_default=None, allow_none=True)
    reason = fields.String(load_default=None, allow_none=True, validate=validate.Length(max=1000))
    dry_run = Flag(load_default=False)

    @validates_schema
    def check_user_id(self, data: dict[str, Any], **_: Any) -> None:
        """Scope user is about somebody, the others are not."""
        if (data["scope"] == "user") != (data["user_id"] is not None):
            wrong = "Missing data for required field." if data["scope"] == "user" else "Is for scope user alone."
            raise ValidationError({"user_id": [wrong]})


class DeletionFilter(Page):
    """GET /v1/deletions."""

    status = fields.String(load_default=None, validate=validate.OneOf(STATUS))


class Receipt(Schema):
    """The receipt that the last mail carries."""

    receipt = fields.String(load_default=None, validate=validate.Length(min=1, max=100))


class RequiredReceipt(Schema):
    """The same where nothing else identifies the caller."""

    receipt = fields.String(required=True, validate=validate.Length(min=1, max=100))


class Step(Schema):
    """One step of an erasure and how many rows it has touched."""

    name = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(STEP_STATUS))
    rows = fields.Integer(required=True)
    at = Moment(required=True, allow_none=True)


class Retained(Schema):
    """Rows that stay, why, and until when."""

    table = fields.String(required=True)
    rows = fields.Integer(required=True)
    ground = fields.String(required=True)
    until = fields.String(required=True)


class Erased(Schema):
    """What was done to how many rows of a table."""

    table = fields.String(required=True)
    rows = fields.Integer(required=True)
    action = fields.String(required=True, validate=validate.OneOf(ACTIONS))


class Planned(Erased):
    """What erasure would do; ground and until where rows stay."""

    ground = fields.String(required=True, allow_none=True)
    until = fields.String(required=True, allow_none=True)


class Plan(Schema):
    """The answer of a dry run."""

    plan = fields.List(fields.Nested(Planned), required=True)


class Processor(Schema):
    """A processor, and when it was told (Art. 19): null when it could not be reached for days."""

    name = fields.String(required=True)
    told_at = Moment(required=True, allow_none=True)
    acknowledged_at = Moment(required=True, allow_none=True)


class Scan(Schema):
    """How many places were searched for the person's identifiers, and how many rows or objects had one."""

    places = fields.Integer(required=True)
    hits = fields.Integer(required=True)


class Certificate(Schema):
    """The signed proof of an erasure, without personal data. See `python -m common.certificate`."""

    deletion_id = fields.UUID(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    completed_at = Moment(required=True)
    tables = fields.List(fields.Nested(Erased), required=True)
    objects_deleted = fields.Integer(required=True)
    processors = fields.List(fields.Nested(Processor), required=True)
    retained = fields.List(fields.Nested(Retained), required=True)
    scan = fields.Nested(Scan, required=True)
    backups_expire_at = Moment(required=True)
    hash = fields.String(required=True)
    signature = fields.String(required=True)
    key_id = fields.String(required=True)


class CertificateKeys(Schema):
    """Ed25519 public keys by key_id, raw, in unpadded base64url."""

    keys = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class Refusal(Schema):
    """Why nothing is erased for now, and what the person may do about it (Art. 12(4))."""

    reason = fields.String(required=True, metadata={"example": "legal hold, until 2027-03-31T00:00:00.000000Z"})
    rights = fields.String(required=True, metadata={"example": "Complaint to a supervisory authority (Art. 77 GDPR)."})


class Deletion(Schema):
    """A request for erasure.

    `parent_id`: a person's own erasure has a part in each of her organizations. `follows`, `followed_by`: what a legal
    hold kept is erased by a later request, which comes by itself. `refusal` only when it was refused.
    """

    id = fields.UUID(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    status = fields.String(required=True, validate=validate.OneOf(STATUS))
    subject_user_id = fields.UUID(required=True, allow_none=True)
    organization_id = fields.UUID(required=True, allow_none=True)
    parent_id = fields.UUID(required=True, allow_none=True)
    follows = fields.UUID(required=True, allow_none=True)
    followed_by = fields.UUID(required=True, allow_none=True)
    received_at = Moment(required=True)
    execute_after = Moment(required=True)
    due_at = Moment(required=True)
    completed_at = Moment(required=True, allow_none=True)
    error = fields.String(required=True, allow_none=True)
    refusal = fields.Nested(Refusal, required=True, allow_none=True)
    steps = fields.List(fields.Nested(Step), required=True)
    retained = fields.List(fields.Nested(Retained), required=True)
    processors = fields.List(fields.Nested(Processor), required=True)
    certificate = fields.Nested(Certificate, required=True, allow_none=True)


class DeletionPage(Schema):
    """A page of requests, newest first."""

    items = fields.List(fields.Nested(Deletion), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class Outcome(Schema):
    """What a step of the workflow came to."""

    outcome = fields.String(required=True)
