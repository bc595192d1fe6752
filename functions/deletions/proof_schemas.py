"""The messages of processors: what comes in, what goes out."""

from marshmallow import fields, validate

from common.schemas import Moment, Schema


class Acknowledged(Schema):
    """The processor that was recognised by its signature, and when it first said that it is done."""

    name = fields.String(required=True)
    acknowledged_at = Moment(required=True)


class Erased(Schema):
    """Which erasure a processor means."""

    deletion_id = fields.UUID(required=True)


class Acknowledgement(Schema):
    """POST /v1/deletions/{id}/acknowledgements: a message as Standard Webhooks has them."""

    type = fields.String(required=True, validate=validate.Equal("erasure.acknowledged"))
    timestamp = Moment(required=True)
    data = fields.Nested(Erased, required=True)
