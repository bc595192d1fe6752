"""Incidents: what comes in, what goes out."""

from marshmallow import EXCLUDE, fields, validate

from common.schemas import Schema


class Message(Schema):
    """A message of Pub/Sub; `data` is base64. Google adds fields as it likes."""

    class Meta:
        unknown = EXCLUDE

    data = fields.String(load_default="", validate=validate.Length(max=1_000_000))


class Push(Schema):
    """What Pub/Sub pushes: https://cloud.google.com/pubsub/docs/push#receive_push."""

    class Meta:
        unknown = EXCLUDE

    message = fields.Nested(Message, required=True)


class Answered(Schema):
    """What was done about an alert: its record, networks that are newly blocked, and those that had no room."""

    incident_id = fields.UUID(required=True, allow_none=True)
    blocked = fields.Integer(required=True)
    left_over = fields.Integer(required=True)


class Swept(Schema):
    """Alerts that were looked at again, networks newly blocked, and how many the slot holds now."""

    alerts = fields.Integer(required=True)
    blocked = fields.Integer(required=True)
    present = fields.Integer(required=True)
