"""Members, roles, invitations and teams: what comes in, what goes out."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate

from common.addresses import EmailAddress
from common.schemas import Page, Schema
from functions.organizations.permissions import CODES

ROLE_NAME = validate.Length(min=1, max=64)


class Line(fields.String):
    """A name in one line: stripped, 1 to `longest` characters."""

    def __init__(self, *, longest: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.longest = longest
        self.openapi = {"minLength": 1, "maxLength": longest}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = str(super()._deserialize(value, attr, data, **kwargs)).strip()
        if not 1 <= len(name) <= self.longest:
            raise ValidationError(f"Length must be between 1 and {self.longest}.")
        if not name.isprintable():
            raise ValidationError("Must be one line of printable characters.")
        return name


class Codes(fields.List[str]):
    """Permission codes, each known, kept once and in order."""

    openapi: ClassVar = {"maxItems": len(CODES)}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(fields.String(validate=validate.OneOf(tuple(CODES))), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[str | None]:
        if isinstance(value, list) and len(value) > len(CODES):
            raise ValidationError(f"There are {len(CODES)} permissions.")
        codes: set[str | None] = set(super()._deserialize(value, attr, data, **kwargs))
        return sorted(codes, key=str)


class MemberChange(Schema):
    """PATCH /v1/members/{user_id}."""

    role = fields.String(required=True, validate=ROLE_NAME)


class Permission(Schema):
    """A permission code and what it allows."""

    code = fields.String(required=True)
    description = fields.String(required=True)


class PermissionList(Schema):
    """Every permission there is."""

    items = fields.List(fields.Nested(Permission), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewRole(Schema):
    """POST /v1/roles."""

    name = Line(longest=64, required=True)
    permissions = Codes(required=True)


class RoleChange(Schema):
    """PATCH /v1/roles/{id}."""

    name = Line(longest=64)
    permissions = Codes()


class Role(Schema):
    """A role: one of the built-in ones, or the organization's own."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    permissions = fields.List(fields.String(), required=True)
    builtin = fields.Boolean(required=True)
    version = fields.Integer(required=True)


class RoleFilter(Page):
    """GET /v1/roles."""


class RolePage(Schema):
    """A page of roles: the organization's own, newest first, then the built-in ones."""

    items = fields.List(fields.Nested(Role), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewInvitation(Schema):
    """POST /v1/invitations."""

    email = EmailAddress(required=True)
    role = fields.String(required=True, validate=ROLE_NAME)


INVITATION_STATUS = ("pending", "accepted", "revoked", "expired")


class Invitation(Schema):
    """An invitation; `invited_by` is null when that person has left."""

    id = fields.UUID(required=True)
    email = fields.Email(required=True)
    role = fields.String(required=True)
    status = fields.String(required=True, validate=validate.OneOf(INVITATION_STATUS))
    invited_by = fields.UUID(required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True)
    expires_at = fields.AwareDateTime(required=True)
    version = fields.Integer(required=True)


class InvitationFilter(Page):
    """GET /v1/invitations."""


class InvitationPage(Schema):
    """A page of invitations, newest first."""

    items = fields.List(fields.Nested(Invitation), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class NewTeam(Schema):
    """POST /v1/teams."""

    name = Line(longest=255, required=True)
    description = fields.String(load_default="", validate=validate.Length(max=10_000))


class TeamChange(Schema):
    """PATCH /v1/teams/{id}."""

    name = Line(longest=255)
    description = fields.String(validate=validate.Length(max=10_000))


class Team(Schema):
    """A team of members."""

    id = fields.UUID(required=True)
    name = fields.String(required=True)
    description = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)
    updated_at = fields.AwareDateTime(required=True)
    version = fields.Integer(required=True)


class TeamFilter(Page):
    """GET /v1/teams."""


class TeamPage(Schema):
    """A page of teams, newest first."""

    items = fields.List(fields.Nested(Team), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class TeamMember(Schema):
    """A member of a team."""

    user_id = fields.UUID(required=True)
    email = fields.Email(required=True)
    display_name = fields.String(required=True)
    created_at = fields.AwareDateTime(required=True)


class TeamMemberFilter(Page):
    """GET /v1/teams/{id}/members."""


class TeamMemberPage(Schema):
    """A page of a team's members, those who joined last first."""

    items = fields.List(fields.Nested(TeamMember), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
