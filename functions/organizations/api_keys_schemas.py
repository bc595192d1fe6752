"""API keys: what comes in, what goes out."""

from datetime import UTC, datetime, timedelta
from typing import Any

from marshmallow import ValidationError, fields, post_load, validate, validates

from common.schemas import Moment, Page, Schema
from common.settings import settings


class NewApiKey(Schema):
    """POST /v1/api-keys. Without `expires_at` a key lives as long as the setting API_KEY_SECONDS says."""

    name = fields.String(required=True, validate=validate.Length(min=1, max=255))
    permissions = fields.List(
        fields.String(validate=validate.Length(min=1, max=64)),
        required=True,
        validate=validate.Length(min=1, max=100),
        metadata={"description": "Codes of GET /v1/permissions; only such as the maker holds."},
    )
    expires_at = Moment(load_default=None, allow_none=True)

    @validates("expires_at")
    def check_end(self, value: datetime | None, **_: Any) -> None:
        """In the future, and no later than the setting API_KEY_MAX_SECONDS allows."""
        now = datetime.now(UTC)
        if value is not None and value <= now:
            raise ValidationError("Must be in the future.")
        if value is not None and value > now + timedelta(seconds=settings().api_key_max_seconds):
            raise ValidationError(f"At most {settings().api_key_max_seconds} seconds from now.")

    @post_load
    def complete(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Each permission once; an end for a key that names none."""
        end = data["expires_at"] or datetime.now(UTC) + timedelta(seconds=settings().api_key_seconds)
        return {**data, "permissions": sorted(set(data["permissions"])), "expires_at": end}


class ApiKey(Schema):
    """An API key as lists show it: never the key itself."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    prefix = fields.String(required=True, metadata={"description": "The part after `ctx_`, to tell keys apart."})
    permissions = fields.List(fields.String(), required=True)
    created_by = fields.UUID(required=True)
    created_at = fields.AwareDateTime(required=True)
    expires_at = fields.AwareDateTime(required=True)
    version = fields.Integer(required=True)


class MadeApiKey(ApiKey):
    """A new API key, with the key itself: shown this once."""

    key = fields.String(
        required=True, metadata={"description": "`ctx_<prefix>_<secret>_<crc>`; send it as a bearer token."}
    )


class ApiKeyFilter(Page):
    """GET /v1/api-keys."""


class ApiKeyPage(Schema):
    """A page of API keys, newest first."""

    items = fields.List(fields.Nested(ApiKey), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
