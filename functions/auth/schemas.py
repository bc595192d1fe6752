"""Log-in, registration and the person's own data: what comes in, what goes out."""

from typing import Any, ClassVar

from marshmallow import ValidationError, fields, validate

from common.addresses import EmailAddress
from common.consents import PURPOSE
from common.schemas import Flag, Moment, Page, Schema

LONGEST_PASSWORD = validate.Length(max=1024)  # the policy's own limit is answered as `weak_password`
TOKEN = validate.Length(min=1, max=256)


class Name(fields.String):
    """A name in one line: stripped, 1 to 255 characters."""

    openapi: ClassVar = {"minLength": 1, "maxLength": 255}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        name = str(super()._deserialize(value, attr, data, **kwargs)).strip()
        if not 1 <= len(name) <= 255:
            raise ValidationError("Length must be between 1 and 255.")
        if any(ord(character) < 32 or character in "\x7f\u2028\u2029" for character in name):
            raise ValidationError("Must be one line.")
        return name


class ConsentChoice(Schema):
    """One consent given or refused with a registration."""

    purpose = fields.String(required=True, validate=PURPOSE)
    granted = Flag(required=True)


def _once(choices: list[dict[str, Any]]) -> None:
    """Who says yes and no to the same has said nothing."""
    if len({choice["purpose"] for choice in choices}) < len(choices):
        raise ValidationError("Name each purpose once.")


class Registration(Schema):
    """POST /v1/auth/register."""

    email = EmailAddress(required=True)
    password = fields.String(required=True, validate=LONGEST_PASSWORD)
    display_name = Name(required=True)
    organization_name = Name(required=True)
    consents = fields.List(fields.Nested(ConsentChoice), load_default=list, validate=[validate.Length(max=50), _once])


class Registered(Schema):
    """What every registration is answered."""

    status = fields.String(required=True, validate=validate.Equal("verification_required"))


class Verification(Schema):
    """POST /v1/auth/email/verify."""

    token = fields.String(required=True, validate=TOKEN)
    password = fields.String(load_default=None, allow_none=True, validate=LONGEST_PASSWORD)


class Resend(Schema):
    """POST /v1/auth/email/resend."""

    email = EmailAddress(required=True)


class Accepted(Schema):
    """202: whether there is anything to do is not told."""

    status = fields.String(required=True, validate=validate.Equal("accepted"))


class ForgottenPassword(Schema):
    """POST /v1/auth/password/forgot."""

    email = EmailAddress(required=True)


class PasswordReset(Schema):
    """POST /v1/auth/password/reset."""

    token = fields.String(required=True, validate=TOKEN)
    new_password = fields.String(required=True, validate=LONGEST_PASSWORD)


class PasswordChange(Schema):
    """POST /v1/auth/password/change."""

    current_password = fields.String(required=True, validate=LONGEST_PASSWORD)
    new_password = fields.String(required=True, validate=LONGEST_PASSWORD)


class LogIn(Schema):
    """POST /v1/auth/login."""

    email = EmailAddress(required=True)
    password = fields.String(required=True, validate=LONGEST_PASSWORD)
    organization_id = fields.UUID(load_default=None, allow_none=True)


class Refresh(Schema):
    """POST /v1/auth/refresh: without a refresh token the cookie's counts."""

    refresh_token = fields.String(load_default=None, validate=TOKEN)


class Switch(Schema):
    """POST /v1/auth/switch."""

    organization_id = fields.UUID(required=True)


class StepUp(Schema):
    """POST /v1/auth/step-up."""

    password = fields.String(required=True, validate=LONGEST_PASSWORD)


class ProfileChange(Schema):
    """PATCH /v1/auth/me; a new `email` counts once its mailbox has confirmed it."""

    display_name = Name()
    email = EmailAddress()


class User(Schema):
    """A person."""

    id = fields.UUID(required=True)
    email = fields.Email(required=True)
    display_name = fields.String(required=True)


class Membership(Schema):
    """An organization and the person's role in it."""

    id = fields.UUID(required=True)
    slug = fields.String(required=True)
    name = fields.String(required=True)
    role = fields.String(required=True)


class TokenAnswer(Schema):
    """A log-in: tokens, who, and where."""

    status = fields.String(required=True, validate=validate.Equal("authenticated"))
    access_token = fields.String(required=True)
    token_type = fields.String(required=True, validate=validate.Equal("Bearer"))
    expires_in = fields.Integer(required=True)
    refresh_token = fields.String(required=True)
    refresh_expires_in = fields.Integer(required=True)
    user = fields.Nested(User, required=True)
    organization = fields.Nested(Membership, required=True)
    organizations = fields.List(fields.Nested(Membership), required=True)


class AccessToken(Schema):
    """A fresh access token for the same login session."""

    access_token = fields.String(required=True)
    expires_in = fields.Integer(required=True)


class Me(Schema):
    """Who is calling, where, and what she may do there."""

    user = fields.Nested(User, required=True)
    organization = fields.Nested(Membership, required=True)
    permissions = fields.List(fields.String(), required=True)
    organizations = fields.List(fields.Nested(Membership), required=True)


class SessionFilter(Page):
    """GET /v1/auth/sessions."""


class LoginSession(Schema):
    """A login session."""

    id = fields.UUID(required=True)
    created_at = Moment(required=True)
    last_used_at = Moment(required=True)
    ip = fields.String(required=True, allow_none=True)
    user_agent = fields.String(required=True, allow_none=True)
    current = fields.Boolean(required=True)


class SessionPage(Schema):
    """A page of login sessions, newest first."""

    items = fields.List(fields.Nested(LoginSession), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class JsonWebKey(Schema):
    """A public key (RFC 7517)."""

    kty = fields.String(required=True)
    kid = fields.String(required=True)
    alg = fields.String(required=True)
    use = fields.String(required=True)
    n = fields.String(required=True)
    e = fields.String(required=True)


class KeySet(Schema):
    """Public keys; empty when tokens are signed with a shared key."""

    keys = fields.List(fields.Nested(JsonWebKey), required=True)
