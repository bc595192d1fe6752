"""Incidents: what comes in, what goes out."""

import ipaddress
from datetime import UTC, datetime
from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from common.schemas import Moment, Page, Schema

SEVERITY = ("P0", "P1", "P2", "P3")
STATUS = ("open", "contained", "closed")
RISK = ("undecided", "unlikely", "likely", "high")
RECIPIENTS = ("authority", "subjects", "controller", "processor", "public", "other")
CHANNELS = ("mail", "letter", "portal", "phone", "in_person", "website", "other")
DATA_CLASSES = (  # those of the register, which nobody should have to read before an incident is shown
    *("identification", "contact", "credentials", "connection", "membership", "content", "activity", "billing"),
    *("requests", "incidents", "consents"),
)
TITLE, DETECTED = "Lost laptop of a support agent", "2026-03-02T08:15:00Z"  # as the document shows them
TO = "2026-03-02T09:00:00Z"
SHOWN = {  # likewise
    "description": "A laptop with the list of members was stolen from a car.",
    "consequences": "A thief may read names and addresses of members.",
    "measures": "The disk is encrypted; the keys of the device were revoked.",
    "contact": "Data protection officer, dpo@example.com",
    "no_notification_reason": "The disk is encrypted and its key is safe.",
    "no_communication_reason": "Art. 34(3)(a): the data are encrypted.",
    "reference": "LDA-2026-0815",
    "delay_reason": "The theft was first taken for a loss inside the house.",
    "text": "A laptop with your name and address was stolen. Its disk is encrypted.",
}
NAME = validate.Length(min=1, max=255)
TEXT, REASON, CONTACT = validate.Length(max=10_000), validate.Length(max=2000), validate.Length(max=500)
LONGEST_WORDS = 10_000
COUNT = validate.Range(min=0, max=2**53 - 1)


def in_the_past(value: datetime | None) -> None:
    """Raise ValidationError for a time that is still to come."""
    if value is not None and value > datetime.now(UTC):
        raise ValidationError("Must not be in the future.")


def not_blank(value: str | None) -> None:
    """Raise ValidationError for blanks alone: they are no title, and no reason."""
    if value is not None and not value.strip():
        raise ValidationError("Must not be blank.")


def nothing_or_words(value: str) -> None:
    """Raise ValidationError for blanks alone; nothing at all takes back what was written."""
    not_blank(value or None)


def once_each(values: list[str]) -> None:
    """Raise ValidationError when a value stands there twice."""
    if len(set(values)) != len(values):
        raise ValidationError("Must not repeat a value.")


class Network(fields.String):
    """An address, or a network in CIDR form; given as text that PostgreSQL reads as inet."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        try:
            return str(ipaddress.ip_network(str(text), strict=False))
        except ValueError as error:
            raise ValidationError("Not an address or network.") from error


def data_classes(**options: Any) -> "fields.List[Any]":
    """Categories of personal data, as the register calls them."""
    known = fields.String(validate=validate.OneOf(DATA_CLASSES))
    return fields.List(known, validate=[validate.Length(max=len(DATA_CLASSES)), once_each], **options)


class IncidentChange(Schema):
    """PATCH /v1/privacy/incidents/{id}. `notify_by` follows from `detected_at` and cannot be set."""

    title = fields.String(validate=[NAME, not_blank], metadata={"example": TITLE})
    description = fields.String(validate=TEXT, metadata={"example": SHOWN["description"]})
    severity = fields.String(validate=validate.OneOf(SEVERITY))
    status = fields.String(validate=validate.OneOf(STATUS))
    detected_at = Moment(validate=in_the_past, metadata={"example": DETECTED})
    started_at = Moment(allow_none=True, validate=in_the_past, metadata={"example": DETECTED})
    ended_at = Moment(allow_none=True, validate=in_the_past, metadata={"example": DETECTED})
    data_classes = data_classes()
    risk = fields.String(validate=validate.OneOf(RISK))
    affected_people = fields.Integer(strict=True, allow_none=True, validate=COUNT)
    affected_records = fields.Integer(strict=True, allow_none=True, validate=COUNT)
    consequences = fields.String(validate=TEXT, metadata={"example": SHOWN["consequences"]})
    measures = fields.String(validate=TEXT, metadata={"example": SHOWN["measures"]})
    contact = fields.String(validate=CONTACT, metadata={"example": SHOWN["contact"]})
    no_notification_reason = fields.String(
        validate=[REASON, nothing_or_words], metadata={"example": SHOWN["no_notification_reason"]}
    )
    no_communication_reason = fields.String(
        validate=[REASON, nothing_or_words], metadata={"example": SHOWN["no_communication_reason"]}
    )


class NewIncident(IncidentChange):
    """POST /v1/privacy/incidents. `detected_at`: when the organization became aware of it; the 72 hours begin then."""

    title = fields.String(required=True, validate=[NAME, not_blank], metadata={"example": TITLE})
    severity = fields.String(required=True, validate=validate.OneOf(SEVERITY))
    detected_at = Moment(required=True, validate=in_the_past, metadata={"example": DETECTED})
    status = fields.String(load_default="open", validate=validate.OneOf(("open", "contained")))


class IncidentFilter(Page):
    """GET /v1/privacy/incidents."""

    status = fields.String(load_default=None, validate=validate.OneOf(STATUS))
    severity = fields.String(load_default=None, validate=validate.OneOf(SEVERITY))
    overdue = fields.Boolean(load_default=None)


class NewNotice(Schema):
    """POST /v1/privacy/incidents/{id}/notices: somebody was told. A late notice to the authority has its reason."""

    recipient = fields.String(required=True, validate=validate.OneOf(RECIPIENTS))
    channel = fields.String(required=True, validate=validate.OneOf(CHANNELS))
    told_at = Moment(load_default=None, validate=in_the_past, metadata={"example": TO})
    reference = fields.String(load_default=None, validate=NAME, metadata={"example": SHOWN["reference"]})
    delay_reason = fields.String(
        load_default=None,
        validate=[validate.Length(min=1, max=2000), not_blank],
        metadata={"example": SHOWN["delay_reason"]},
    )
    people = fields.Integer(strict=True, load_default=None, validate=COUNT)


class Words(Schema):
    """POST /v1/privacy/incidents/{id}/notices/subjects; without `text` the draft is sent, if nothing in it is open."""

    text = fields.String(
        load_default=None,
        validate=[validate.Length(min=1, max=LONGEST_WORDS), not_blank],
        metadata={"example": SHOWN["text"]},
    )


class Notice(Schema):
    """Who was told, by which way and when; never changed. `text`: what we mailed to the people concerned."""

    id = fields.UUID(required=True)
    recipient = fields.String(required=True, validate=validate.OneOf(RECIPIENTS))
    channel = fields.String(required=True, validate=validate.OneOf(CHANNELS))
    told_at = Moment(required=True)
    reference = fields.String(required=True, allow_none=True, metadata={"example": SHOWN["reference"]})
    delay_reason = fields.String(required=True, allow_none=True, metadata={"example": SHOWN["delay_reason"]})
    people = fields.Integer(required=True, allow_none=True)
    text = fields.String(required=True, allow_none=True, metadata={"example": SHOWN["text"]})
    recorded_by = fields.UUID(required=True)
    recorded_at = Moment(required=True)


class Told(Schema):
    """Whose incident it was before: the platform told the organization of it (Art. 33(2))."""

    incident_id = fields.UUID(required=True)
    detected_at = Moment(required=True)


class KeptScope(Schema):
    """The time range whose events are the incident's, and what stands in it; `told`: people who got our mail."""

    from_ = Moment(required=True, data_key="from")
    to = Moment(required=True)
    actor = fields.UUID(required=True, allow_none=True)
    by_address = fields.Boolean(required=True)
    events = fields.Integer(required=True)
    people = fields.Integer(required=True)
    told = fields.Integer(required=True)
    at = Moment(required=True)


class Incident(Schema):
    """An incident; `notify_by` is 72 hours after `detected_at` (Art. 33(1)), `undecided` until that is answered."""

    id = fields.UUID(required=True)
    title = fields.String(required=True, metadata={"example": TITLE})
    description = fields.String(required=True, metadata={"example": SHOWN["description"]})
    severity = fields.String(required=True, validate=validate.OneOf(SEVERITY))
    status = fields.String(required=True, validate=validate.OneOf(STATUS))
    risk = fields.String(required=True, validate=validate.OneOf(RISK))
    detected_at = Moment(required=True, metadata={"example": DETECTED})
    first_detected_at = Moment(required=True, metadata={"example": DETECTED})
    notify_by = Moment(required=True, metadata={"example": "2026-03-05T08:15:00Z"})
    undecided = fields.Boolean(required=True)
    overdue = fields.Boolean(required=True)
    started_at = Moment(required=True, allow_none=True)
    ended_at = Moment(required=True, allow_none=True)
    data_classes = fields.List(fields.String(validate=validate.OneOf(DATA_CLASSES)), required=True)
    affected_people = fields.Integer(required=True, allow_none=True)
    affected_records = fields.Integer(required=True, allow_none=True)
    consequences = fields.String(required=True, metadata={"example": SHOWN["consequences"]})
    measures = fields.String(required=True, metadata={"example": SHOWN["measures"]})
    contact = fields.String(required=True, metadata={"example": SHOWN["contact"]})
    no_notification_reason = fields.String(required=True, metadata={"example": SHOWN["no_notification_reason"]})
    no_communication_reason = fields.String(required=True, metadata={"example": SHOWN["no_communication_reason"]})
    told_by_platform = fields.Nested(Told, required=True, allow_none=True)
    scope = fields.Nested(KeptScope, required=True, allow_none=True)
    notices = fields.List(fields.Nested(Notice), required=True)
    created_by = fields.UUID(required=True, allow_none=True)
    created_at = Moment(required=True)
    updated_at = Moment(required=True)
    closed_at = Moment(required=True, allow_none=True)
    version = fields.Integer(required=True)


class IncidentPage(Schema):
    """A page of incidents, newest first."""

    items = fields.List(fields.Nested(Incident), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class Range(Schema):
    """A time range, both ends inclusive; of one actor (with the API keys that she made), or of a network."""

    from_ = Moment(required=True, data_key="from", metadata={"example": DETECTED})
    to = Moment(required=True, metadata={"example": TO})
    actor = fields.UUID(load_default=None)
    ip = Network(load_default=None, validate=validate.Length(max=64), metadata={"example": "192.0.2.0/24"})

    @validates_schema
    def check_order(self, data: dict[str, Any], **_: Any) -> None:
        """The end comes last."""
        if data["to"] < data["from_"]:
            raise ValidationError({"to": ["Must not be before from."]})


class ScopeQuery(Range, Page):
    """GET /v1/privacy/incidents/{id}/scope; the pages are of `subjects`."""


class Actor(Schema):
    """Who acted; the system has no id."""

    type = fields.String(required=True, validate=validate.OneOf(("user", "api_key", "system")))
    id = fields.UUID(required=True, allow_none=True)
    events = fields.Integer(required=True)


class Touched(Schema):
    """Resources of a type; `lists`: events that read a list of them. `tables` hold them, none of what is no data."""

    type = fields.String(required=True, metadata={"example": "member"})
    events = fields.Integer(required=True)
    resources = fields.Integer(required=True)
    lists = fields.Integer(required=True)
    tables = fields.List(fields.String(), required=True, metadata={"example": ["app.members"]})


class Concerned(Schema):
    """Somebody whom the events touched."""

    user_id = fields.UUID(required=True)
    events = fields.Integer(required=True)
    resources = fields.Integer(required=True)


class Scope(Schema):
    """What the events of a time range touched; `known_since` where retention has dropped earlier ones."""

    from_ = Moment(required=True, data_key="from")
    to = Moment(required=True)
    events = fields.Integer(required=True)
    refused = fields.Integer(required=True)
    known_since = Moment(required=True, allow_none=True)
    actor_count = fields.Integer(required=True)
    actors = fields.List(fields.Nested(Actor), required=True)
    resources = fields.List(fields.Nested(Touched), required=True)
    data_classes = fields.List(fields.String(validate=validate.OneOf(DATA_CLASSES)), required=True)
    people_classes = fields.List(fields.String(), required=True, metadata={"example": ["users"]})
    subject_count = fields.Integer(required=True)
    subjects = fields.List(fields.Nested(Concerned), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
