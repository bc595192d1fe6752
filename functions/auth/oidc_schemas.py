"""Log-in at a provider: what comes in, what goes out."""

import re
from typing import Any

import marshmallow
from marshmallow import fields, validate

from common.schemas import Moment, Schema

RETURN_TO = re.compile(r"/(?![/\\])[A-Za-z0-9\-._~/?&=%+:@,]{0,511}")
LONGEST_CODE = 4096


class OidcStart(Schema):
    """GET /v1/auth/oidc/{provider}/start."""

    purpose = fields.String(load_default="login", validate=validate.OneOf(["login", "link", "step_up"]))
    cookies = fields.String(load_default="false", validate=validate.OneOf(["true", "false"]))
    return_to = fields.String(load_default=None, validate=validate.Length(max=512))

    @marshmallow.validates_schema
    def check_return_to(self, data: dict[str, Any], **_: Any) -> None:
        """A path on our own origin, for a browser that keeps its tokens in cookies: none ever stands in an address."""
        path = data.get("return_to")
        if path is None:
            return
        if not RETURN_TO.fullmatch(path):
            raise marshmallow.ValidationError({"return_to": ["Must be a path on this origin."]})
        if data.get("cookies") != "true":
            raise marshmallow.ValidationError({"return_to": ["Needs cookies=true."]})


class OidcCallback(Schema):
    """GET /v1/auth/oidc/{provider}/callback: what a provider may add is ignored (RFC 6749, section 4.1.2)."""

    state = fields.String(load_default="", validate=validate.Length(max=256))
    code = fields.String(
        load_default="",
        validate=validate.Length(max=LONGEST_CODE),
        metadata={"description": "The provider's authorization code."},
    )
    iss = fields.String(load_default=None, validate=validate.Length(max=512))
    error = fields.String(load_default="", validate=validate.Length(max=256))

    @marshmallow.pre_load
    def keep_what_is_known(self, data: Any, **_: Any) -> Any:
        """Drop the fields that are not ours to judge."""
        return {name: value for name, value in data.items() if name in self.fields}


class OidcRedirect(Schema):
    """Where to send the browser, for a script that asked with `Accept: application/json`."""

    authorization_url = fields.Url(required=True)
    expires_in = fields.Integer(required=True)


class IdentityLinked(Schema):
    """The identity at the provider opens the account from now on."""

    status = fields.String(required=True, validate=validate.Equal("linked"))
    provider = fields.String(required=True)


class FederatedIdentity(Schema):
    """A person's identity at a provider; `provider` is null when it is not configured any more."""

    id = fields.UUID(required=True)
    provider = fields.String(required=True, allow_none=True)
    issuer = fields.String(required=True)
    subject = fields.String(required=True)
    created_at = Moment(required=True)


class FederatedIdentities(Schema):
    """All of a person's identities at providers, newest first."""

    items = fields.List(fields.Nested(FederatedIdentity), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
