"""Organizations: what comes in, what goes out."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate

from common.schemas import Page, Schema

MAX_SETTINGS = 64
REQUIRE_MFA = "require_mfa"  # app.credential reads it
ERASURE_POLICY = (
    "erasure_policy"  # what becomes of an erased member's content: app.erasure_mode and platform.open_child
)
POLICIES = ("keep_pseudonymous", "erase", "approve")


class OrganizationSettings(fields.Dict):
    """Free settings of an organization: at most 64 short scalar values."""

    openapi: ClassVar = {
        "maxProperties": MAX_SETTINGS,
        "properties": {REQUIRE_MFA: {"type": "boolean"}, ERASURE_POLICY: {"type": "string", "enum": list(POLICIES)}},
        "additionalProperties": {
            "anyOf": [
                {"type": "string", "maxLength": 255},
                {"type": "integer", "format": "int64", "minimum": 1 - 2**63, "maximum": 2**63 - 1},
                {"type": ["boolean", "null"]},
            ]
        },
    }

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(keys=fields.String(validate=validate.Length(min=1, max=64)), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        settings: dict[str, Any] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]
        if len(settings) > MAX_SETTINGS:
            raise ValidationError(f"At most {MAX_SETTINGS} settings.")
        for name, inner in settings.items():
            short = isinstance(inner, str) and len(inner) <= 255
            if not (short or isinstance(inner, bool | None) or (isinstance(inner, int) and abs(inner) < 2**63)):
                raise ValidationError(f"{name}: must be a short string, an integer of 64 bits, a boolean or null.")
        if not isinstance(settings.get(REQUIRE_MFA, False), bool):
            raise ValidationError(f"{REQUIRE_MFA}: must be true or false.")
        if settings.get(ERASURE_POLICY, POLICIES[0]) not in POLICIES:
            raise ValidationError(f"{ERASURE_POLICY}: must be one of {', '.join(POLICIES)}.")
        return settings


class OrganizationChange(Schema):
    """PATCH /v1/organization."""

    name = fields.String(validate=validate.Length(min=1, max=255))
    settings = OrganizationSettings()


class Organization(Schema):
    """The caller's organization."""

    id = fields.UUID(required=True)
    slug = fields.String(required=True)
    name = fields.String(required=True)
    settings = fields.Dict(required=True)
    version = fields.Integer(required=True)


class MemberFilter(Page):
    """GET /v1/members."""

    role = fields.String(load_default=None, validate=validate.Length(min=1, max=64))


class Member(Schema):
    """A member: an account in this organization."""

    user_id = fields.UUID(required=True)
    email = fields.Email(required=True)
    display_name = fields.String(required=True)
    role = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    version = fields.Integer(required=True)


class MemberPage(Schema):
    """A page of members, newest first."""

    items = fields.List(fields.Nested(Member), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
