"""The audit chain: what comes in, what goes out."""

from marshmallow import fields, validate

from common.schemas import Moment, Page, Schema

CODE = [validate.Length(max=100), validate.Regexp(r"^[a-z_]+(\.[a-z_]+)?$")]


class EventFilter(Page):
    """GET /v1/audit-events. `from` and `to` bound the time, both inclusive."""

    actor = fields.UUID(load_default=None)
    action = fields.String(load_default=None, validate=CODE)
    resource = fields.String(load_default=None, validate=validate.Length(min=1, max=255))
    from_ = Moment(load_default=None, data_key="from")
    to = Moment(load_default=None)


class Reference(Schema):
    """A typed id."""

    type = fields.String(required=True)
    id = fields.String(required=True, allow_none=True)


class Event(Schema):
    """One link of the chain; `hash` is over the RFC 8785 JSON of all but personal, personal_salt and hash."""

    seq = fields.Integer(required=True)
    at = Moment(required=True)
    actor = fields.Nested(Reference, required=True)
    action = fields.String(required=True)
    resource = fields.Nested(Reference, required=True)
    outcome = fields.String(required=True, validate=validate.OneOf(("success", "denied", "failure")))
    request_id = fields.String(required=True)
    data = fields.Dict(required=True)
    personal = fields.Dict(required=True, allow_none=True)
    personal_salt = fields.String(required=True, allow_none=True)
    personal_hash = fields.String(required=True)
    prev_hash = fields.String(required=True)
    hash = fields.String(required=True)


class EventPage(Schema):
    """A page of events, newest first."""

    items = fields.List(fields.Nested(Event), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class Point(Schema):
    """A place in the chain."""

    seq = fields.Integer(required=True)
    hash = fields.String(required=True)


class Anchor(Point):
    """A place in the chain that was recorded outside the database."""

    at = Moment(required=True)


class Verification(Schema):
    """The result of checking the whole chain."""

    valid = fields.Boolean(required=True)
    checked = fields.Integer(required=True)
    base = fields.Nested(Point, required=True)
    head = fields.Nested(Point, required=True)
    anchored = fields.Nested(Anchor, required=True, allow_none=True)
    first_broken_seq = fields.Integer(required=True, allow_none=True)
