"""Consents: what comes in, what goes out."""

import hashlib
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from common.consents import GPC, PURPOSE
from common.schemas import Flag, Moment, Page, Schema

LONGEST_TEXT = 20_000
LAST_VERSION = 2**31 - 1
SCOPES = ("platform", "organization")
SOURCES = ("registration", "settings", "unsubscribe")
TAKEN_BY_ROUTES = ("purposes", "history", "unsubscribe")
EXAMPLE = "May we write to you, once a month at most, about what is new? You can withdraw this at any time."


class Hash(fields.String):
    """The hex SHA-256 of a text in UTF-8."""

    def __init__(self, **kwargs: Any) -> None:
        example = hashlib.sha256(EXAMPLE.encode()).hexdigest()
        super().__init__(validate=validate.Regexp(r"[0-9a-f]{64}\Z"), metadata={"example": example}, **kwargs)


class Text(fields.String):
    """What people are asked, exactly as it is shown: any characters, but not blanks alone."""

    def __init__(self, **kwargs: Any) -> None:
        length = validate.Length(min=1, max=LONGEST_TEXT)
        super().__init__(validate=length, metadata={"example": EXAMPLE}, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = str(super()._deserialize(value, attr, data, **kwargs))
        if not text.strip():
            raise ValidationError("Must not be blank.")
        return text


class NewPurpose(Schema):
    """POST /v1/consents/purposes. `marketing` says for ever whether it is advertising."""

    purpose = fields.String(
        required=True, validate=[*PURPOSE, validate.NoneOf(TAKEN_BY_ROUTES, error="This name is taken by an address.")]
    )
    text = Text(required=True)
    marketing = Flag(required=True)


class NewText(Schema):
    """PATCH /v1/consents/purposes/{purpose}."""

    text = Text(required=True)


class Purpose(Schema):
    """A purpose with the text that is current; `scope` says who asks."""

    purpose = fields.String(required=True)
    version = fields.Integer(required=True)
    marketing = fields.Boolean(required=True)
    text = fields.String(required=True, metadata={"example": EXAMPLE})
    text_hash = Hash(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    created_at = Moment(required=True)


class PurposeList(Schema):
    """Every purpose that the caller is asked for, by name."""

    items = fields.List(fields.Nested(Purpose), required=True)


class Decision(Schema):
    """PUT /v1/consents/{purpose}. To give takes the current `version`; to withdraw takes none."""

    granted = Flag(required=True)
    version = fields.Integer(
        load_default=None, allow_none=True, strict=True, validate=validate.Range(min=1, max=LAST_VERSION)
    )

    @validates_schema
    def refuse_unread(self, data: dict[str, Any], **_: Any) -> None:
        """Who gives says what she has read."""
        if data.get("granted") and data.get("version") is None:
            raise ValidationError({"version": ["Say which version of the text is agreed to."]})


class Consent(Schema):
    """What the caller has decided; it counts while `granted`, and `version` is `current_version`."""

    purpose = fields.String(required=True)
    version = fields.Integer(required=True)
    granted = fields.Boolean(required=True)
    at = Moment(required=True)
    current_version = fields.Integer(required=True)


class ConsentList(Schema):
    """The caller's newest decision on each purpose that she has decided on, by name."""

    items = fields.List(fields.Nested(Consent), required=True)


class HistoryFilter(Page):
    """GET /v1/consents/history."""


class Proof(Schema):
    """One decision, as it was written down and stays."""

    id = fields.UUID(required=True)
    purpose = fields.String(required=True)
    scope = fields.String(required=True, validate=validate.OneOf(SCOPES))
    version = fields.Integer(required=True)
    text_hash = Hash(required=True)
    granted = fields.Boolean(required=True)
    source = fields.String(required=True, validate=validate.OneOf(SOURCES))
    signal = fields.String(required=True, allow_none=True, validate=validate.OneOf([GPC]))
    ip = fields.String(required=True, allow_none=True)
    user_agent = fields.String(required=True, allow_none=True)
    at = Moment(required=True)


class ProofPage(Schema):
    """A page of the caller's decisions, newest first."""

    items = fields.List(fields.Nested(Proof), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class LinkToken(Schema):
    """The token of the link in a mail."""

    token = fields.String(required=True, validate=validate.Length(min=1, max=256))
