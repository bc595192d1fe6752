"""The audit chain: what comes in, what goes out."""

from marshmallow import fields, validate

from common.schemas import Moment, Page, Schema

CODE = [validate.Length(max=100), validate.Regexp(r"^[a-z_]+(\.[a-z_]+)?$")]


class EventFilter(Page):
    """GET /v1/audit-events. An event fits all filters that are given; `from` and `to` are both inclusive."""

    actor = fields.UUID(load_default=None, metadata={"description": "The id of a user, of an API key or of a job."})
    action = fields.String(
        load_default=None, validate=CODE, metadata={"description": "All of it, such as `member.removed`."}
    )
    resource = fields.String(
        load_default=None,
        validate=validate.Length(min=1, max=255),
        metadata={"description": "A type of resources, such as `project`, or the id of one."},
    )
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
    """The result of checking the whole chain, from its base to its head.

    `base`: the last event that retention has dropped, seq 0 before it ever did. `anchored`: the latest head that was
    recorded outside the database. `first_broken_seq`: the first event that was altered, is missing or is too much.
    """

    valid = fields.Boolean(required=True)
    checked = fields.Integer(required=True)
    base = fields.Nested(Point, required=True)
    head = fields.Nested(Point, required=True)
    anchored = fields.Nested(Anchor, required=True, allow_none=True)
    first_broken_seq = fields.Integer(required=True, allow_none=True)


class ExportFrom(Schema):
    """GET /v1/audit-events/export: the seq of the first event; without it, from where the chain begins."""

    from_seq = fields.Integer(load_default=None, validate=validate.Range(min=1, max=2**53 - 1))


class PublicKeys(Schema):
    """Ed25519 public keys by key_id, raw, in unpadded base64url."""

    keys = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
