"""Sessions and their events: what comes in, what goes out."""

import json
from typing import Any

import marshmallow
from marshmallow import ValidationError, fields, validate

from common.schemas import Moment, Page, Schema

STATUS = ("active", "idle", "closed")
TITLE = validate.Length(min=1, max=255)
TYPE = [validate.Length(max=64), validate.Regexp(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")]
MAX_EVENT_BYTES = 64 * 1024  # of its compact JSON
MAX_BATCH = 100
MAX_SEQ = 2**63 - 1
SEQ = validate.Range(min=0, max=MAX_SEQ)


class NewSession(Schema):
    """POST /v1/sessions."""

    project_id = fields.UUID(required=True)
    title = fields.String(required=True, validate=TITLE)


class SessionChange(Schema):
    """PATCH /v1/sessions/{id}: `closed` closes it, `active` keeps an open one awake."""

    title = fields.String(validate=TITLE)
    status = fields.String(validate=validate.OneOf(("active", "closed")))


class SessionFilter(Page):
    """GET /v1/sessions."""

    project_id = fields.UUID(load_default=None)
    status = fields.String(load_default=None, validate=validate.OneOf(STATUS))


class Session(Schema):
    """A session."""

    id = fields.UUID(required=True)
    project_id = fields.UUID(required=True)
    title = fields.String(required=True, validate=TITLE)
    status = fields.String(required=True, validate=validate.OneOf(STATUS))
    created_by = fields.UUID(required=True)
    created_at = Moment(required=True)
    last_event_at = Moment(required=True, allow_none=True)
    closed_at = Moment(required=True, allow_none=True)
    version = fields.Integer(required=True)


class Sessions(Schema):
    """A page of sessions, newest first."""

    items = fields.List(fields.Nested(Session), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewSessionEvent(Schema):
    """An event as it comes in: a name of its kind, and any JSON."""

    type = fields.String(required=True, validate=TYPE)
    data = fields.Raw(required=True, allow_none=True)


class NewSessionEvents(Schema):
    """POST /v1/sessions/{id}/events: 1 to 100 events of at most 64 KiB each."""

    events = fields.List(fields.Nested(NewSessionEvent), required=True, validate=validate.Length(min=1, max=MAX_BATCH))

    @marshmallow.post_load
    def write(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Each event as it will be kept. Raises ValidationError by its place in the batch."""
        texts: list[str] = []
        wrong: dict[int, list[str]] = {}
        for place, event in enumerate(data["events"]):
            try:
                texts.append(compact(event))
            except ValidationError as error:
                wrong[place] = [str(message) for message in error.messages]
        if wrong:
            raise ValidationError({"events": wrong})
        return {"events": texts}


class AppendedEvents(Schema):
    """The seqs that a batch was given, without a gap."""

    first_seq = fields.Integer(required=True)
    last_seq = fields.Integer(required=True)


class SessionEvent(Schema):
    """An event of a session; `seq` counts from 1 and has no gap."""

    seq = fields.Integer(required=True)
    type = fields.String(required=True, validate=TYPE)
    data = fields.Raw(required=True, allow_none=True)
    created_by = fields.UUID(required=True)
    created_at = Moment(required=True)


class SessionEventPage(Schema):
    """Events in the order of their seq; `last_seq` is that of the newest event of the session."""

    items = fields.List(fields.Nested(SessionEvent), required=True)
    last_seq = fields.Integer(required=True)


class EventsAfter(Schema):
    """GET /v1/sessions/{id}/events."""

    after = fields.Integer(load_default=0, validate=SEQ)
    limit = fields.Integer(load_default=50, validate=validate.Range(min=1, max=100))


class StreamStart(Schema):
    """GET /v1/sessions/{id}/stream and /ws."""

    after = fields.Integer(load_default=None, validate=SEQ)


def compact(event: dict[str, Any]) -> str:
    """The JSON text of an event, without spaces. Raises ValidationError for one that is too large or no JSON."""
    try:
        text = json.dumps(
            {"type": event["type"], "data": event["data"]},
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
        )
    except ValueError as error:  # 1e999 is JSON, and infinite
        raise ValidationError("Must not contain a number beyond the range of 64-bit floating point.") from error
    except RecursionError as error:
        raise ValidationError("Must not be nested so deeply.") from error
    if len(text.encode()) > MAX_EVENT_BYTES:
        raise ValidationError(f"Must not be longer than {MAX_EVENT_BYTES} bytes.")
    return text
