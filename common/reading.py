"""What comes in: the bytes of a body within bounds, JSON within its grammar, fields by the route's schemas."""

import json
from typing import Any

import marshmallow
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Request

from common import errors

MAX_BODY = 1024 * 1024
_defaults: dict[type[marshmallow.Schema], dict[str, Any]] = {}
_instances: dict[type[marshmallow.Schema], marshmallow.Schema] = {}


def take(request: Request) -> bytes | None:
    """The body's bytes, None when there are more than 1 MiB: read before a database connection is held."""
    if (request.content_length or 0) > MAX_BODY:
        return None
    request.max_content_length = MAX_BODY + 1  # of an untold length: werkzeug stops there without a word
    try:
        raw = request.get_data(cache=True)
    except RequestEntityTooLarge:
        return None
    return raw if len(raw) <= MAX_BODY else None


def refuse_large(request: Request) -> None:
    """413 for a body that a route without one would not even read."""
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()


def _too_large() -> errors.Problem:
    return errors.Problem("body_too_large", "A body may be 1 MiB at most.")


def query(request: Request) -> dict[str, str]:
    """The query's fields; an access token among them is ignored (RFC 6750 would allow it, we do not). Raises 422."""
    given = {name: values for name, values in request.args.lists() if name != "access_token"}
    repeated = {name: ["Must be given once."] for name, values in given.items() if len(values) > 1}
    if repeated:
        raise errors.invalid(repeated)
    return {name: values[0] for name, values in given.items()}


def parse(request: Request, raw: bytes | None) -> Any:
    """The body as JSON; none at all is an empty object. Raises 413, 415, 400."""
    if raw is None:
        raise _too_large()
    if not raw:
        return {}
    if request.mimetype != "application/json":
        raise errors.Problem("unsupported_media_type", "Send application/json.")
    return json_of(raw)


def json_of(raw: bytes | str) -> Any:
    """What a JSON text says. Raises 400."""
    try:
        return json.loads(raw.decode() if isinstance(raw, bytes) else raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise errors.Problem("malformed_request", "The body is not valid JSON in UTF-8.") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def defaults(schema: type[marshmallow.Schema]) -> dict[str, Any]:
    """What the schema loads where nothing is given: known after the first time. Raises 422."""
    known = _defaults.get(schema)
    if known is None:
        known = _defaults[schema] = validated(schema, {})
    return dict(known)


def validated(schema: type[marshmallow.Schema], data: Any) -> dict[str, Any]:
    """The fields as the schema loads them. Raises 422 with messages by field."""
    instance = _instances.get(schema) or _instances.setdefault(schema, schema())
    try:
        loaded: dict[str, Any] = instance.load(data)
    except marshmallow.ValidationError as error:
        raise errors.invalid(_messages(error.messages)) from error
    except RecursionError as error:
        raise errors.Problem("malformed_request", "The body is nested too deeply.") from error
    return loaded


def _messages(found: Any) -> dict[str, list[str]]:
    """marshmallow's nested messages as {field: [messages]}; a nested field is named with dots."""
    flat: dict[str, list[str]] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            for inner, messages in _messages(value).items():
                flat[f"{name}.{inner}"] = messages
        else:
            flat[str(name)] = [str(message) for message in value]
    return flat
