"""Second factors and step-up: what comes in, what goes out."""

import re
from typing import Any, ClassVar

import marshmallow
from marshmallow import ValidationError, fields, validate

from common.schemas import Moment, Schema
from functions.auth.schemas import LONGEST_PASSWORD, TOKEN

TYPES = ("totp", "sms", "email")
E164 = re.compile(r"\+[1-9][0-9]{6,14}")


class Phone(fields.String):
    """A number in E.164; blanks, hyphens, dots and brackets, as people write them, are left out."""

    openapi: ClassVar = {"maxLength": 32, "example": "+4915112345678"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        number = re.sub(r"[ ().-]", "", str(super()._deserialize(value, attr, data, **kwargs)))
        if not E164.fullmatch(number):
            raise ValidationError("Must be a number with its country code, such as +4915112345678.")
        return number


class Code(fields.String):
    """Six digits; blanks in between are left out."""

    openapi: ClassVar = {"pattern": "^[0-9 ]{6,16}$", "maxLength": 16, "example": "492817"}

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        digits = str(super()._deserialize(value, attr, data, **kwargs)).replace(" ", "")
        if not re.fullmatch(r"[0-9]{6}", digits):
            raise ValidationError("Must be six digits.")
        return digits


class NewFactor(Schema):
    """POST /v1/auth/mfa/factors."""

    type = fields.String(required=True, validate=validate.OneOf(TYPES))
    phone = Phone(load_default=None)

    @marshmallow.validates_schema
    def phone_for_sms(self, data: dict[str, Any], **_: Any) -> None:
        """A number is for text messages alone."""
        if (data["type"] == "sms") != (data["phone"] is not None):
            raise ValidationError({"phone": ["Needed for sms, and for nothing else."]})


class AddedFactor(Schema):
    """A factor that waits for its first code; secret and picture are shown this once."""

    id = fields.UUID(required=True)
    type = fields.String(required=True, validate=validate.OneOf(TYPES))
    status = fields.String(required=True, validate=validate.Equal("pending"))
    secret = fields.String()
    otpauth_uri = fields.String()
    qr_svg = fields.String()


class Factor(Schema):
    """A second factor; `hint` is enough to recognize it."""

    id = fields.UUID(required=True)
    type = fields.String(required=True, validate=validate.OneOf(TYPES))
    status = fields.String(required=True, validate=validate.OneOf(["pending", "confirmed"]))
    hint = fields.String(required=True)
    created_at = Moment(required=True)
    confirmed_at = Moment(required=True, allow_none=True)


class FactorList(Schema):
    """All factors, newest first, and how many recovery codes are unused."""

    items = fields.List(fields.Nested(Factor), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
    recovery_codes_left = fields.Integer(required=True)


class Confirmation(Schema):
    """POST /v1/auth/mfa/factors/{id}/confirm."""

    code = Code(required=True)


class Confirmed(Schema):
    """Recovery codes where there were none left; they are shown this once."""

    recovery_codes = fields.List(fields.String())


class AskedFactor(Schema):
    """What a log-in that waits for its second factor tells of one."""

    id = fields.UUID(required=True)
    type = fields.String(required=True, validate=validate.OneOf(TYPES))
    hint = fields.String(required=True)


class MfaRequired(Schema):
    """The first proof was right; a second factor, or a recovery code, completes the log-in."""

    status = fields.String(required=True, validate=validate.Equal("mfa_required"))
    mfa_token = fields.String(required=True)
    factors = fields.List(fields.Nested(AskedFactor), required=True)


class Challenge(Schema):
    """POST /v1/auth/mfa/challenge. Without `mfa_token` it is for the person who is logged in."""

    mfa_token = fields.String(load_default=None, validate=TOKEN)
    factor_id = fields.UUID(required=True)


class MfaVerification(Schema):
    """POST /v1/auth/mfa/verify: a factor's code, or a recovery code."""

    mfa_token = fields.String(required=True, validate=TOKEN)
    factor_id = fields.UUID(load_default=None)
    code = Code(load_default=None)
    recovery_code = fields.String(load_default=None, validate=validate.Length(min=1, max=64))

    @marshmallow.validates_schema
    def one_proof(self, data: dict[str, Any], **_: Any) -> None:
        """Either `factor_id` and `code`, or `recovery_code`."""
        given = {name for name in ("factor_id", "code", "recovery_code") if data[name] is not None}
        if given not in ({"factor_id", "code"}, {"recovery_code"}):
            raise ValidationError("Send factor_id and code, or recovery_code.")


class StepUp(Schema):
    """POST /v1/auth/step-up: the password, or a factor's code."""

    password = fields.String(load_default=None, validate=LONGEST_PASSWORD)
    factor_id = fields.UUID(load_default=None)
    code = Code(load_default=None)

    @marshmallow.validates_schema
    def one_proof(self, data: dict[str, Any], **_: Any) -> None:
        """Either `password`, or `factor_id` and `code`."""
        given = {name for name in ("password", "factor_id", "code") if data[name] is not None}
        if given not in ({"password"}, {"factor_id", "code"}):
            raise ValidationError("Send password, or factor_id and code.")
