"""The routes of every function, as the tests of access call them: computed from the route tables, never listed."""

import re
import uuid
from collections.abc import Callable
from typing import Any

import marshmallow
from marshmallow import fields, validate

from common import access
from common.http import Route
from tests.structure.test_routes import PERMISSIONS, SERVICES, TABLES

EVERY = [route for service in SERVICES for route in TABLES[service].routes]
PUBLIC_SERVICES = [service for service, entry in SERVICES.items() if entry.get("ingress", "all") == "all"]
ROUTES = list(
    {
        (route.method, route.path): route
        for service in PUBLIC_SERVICES
        for route in TABLES[service].routes
        if not route.internal
    }.values()
)
GUARDED = [route for route in ROUTES if route.needs != access.PUBLIC]
OPEN = [route for route in ROUTES if route.needs == access.PUBLIC]
SCOPED = [(route, scope) for route in GUARDED for scope, _ in route.by_scope]
INTERNAL = [route for route in EVERY if route.internal]
PLACEHOLDER = re.compile(r"<(?:(?P<converter>\w+)(?:\(.*?\))?:)?(?P<name>\w+)>")
UUIDS = re.compile(r"<uuid:(\w+)>")


def name_of(route: Route) -> str:
    """How a test's name shows a route: PATCH /v1/projects/{project_id}."""
    return f"{route.method} " + PLACEHOLDER.sub(lambda match: "{" + match["name"] + "}", route.path)


def address(route: Route, ids: dict[str, str] | None = None) -> str:
    """The route's path with these ids, and with ids of nothing where none is given."""

    def fill(match: re.Match[str]) -> str:
        if match["converter"] == "uuid":
            return (ids or {}).get(match["name"], str(uuid.uuid4()))
        return "1" if match["converter"] == "int" else "nothing"

    return PLACEHOLDER.sub(fill, route.path)


# What a field takes whose form its type does not tell.
KNOWN: dict[str, Callable[[], Any]] = {
    "permissions": lambda: ["project.view"],
    "role": lambda: "viewer",
    "code": lambda: "123456",
    "email": lambda: f"{uuid.uuid4().hex}@example.org",
    "phone": lambda: "+4915112345678",
    "detected_at": lambda: "2026-01-01T00:00:00Z",
}

OF_TYPE: list[tuple[type[fields.Field], Callable[[], Any]]] = [
    (fields.Email, lambda: f"{uuid.uuid4().hex}@example.org"),
    (fields.UUID, lambda: str(uuid.uuid4())),
    (fields.Boolean, lambda: True),
    (fields.Integer, lambda: 1),
    (fields.Mapping, dict),
    (fields.AwareDateTime, lambda: "2100-01-01T00:00:00Z"),
    (fields.Field, lambda: f"Thing-{uuid.uuid4().hex}"),
]


def minimal(schema: type[marshmallow.Schema]) -> dict[str, Any]:
    """A body with a value for each required field."""
    found = schema().fields.items()
    return {field.data_key or name: _value(name, field) for name, field in found if field.required}


def _value(name: str, field: fields.Field) -> Any:
    if name in KNOWN:
        return KNOWN[name]()
    for rule in field.validators:
        if isinstance(rule, validate.OneOf):
            return next(iter(rule.choices))
    if isinstance(field, fields.Nested):
        inner = minimal(type(field.schema))
        return [inner] if field.many else inner
    if isinstance(field, fields.List):
        return [_value("", field.inner)]
    return next(make() for kind, make in OF_TYPE if isinstance(field, kind))


__all__ = [
    "EVERY",
    "GUARDED",
    "INTERNAL",
    "OPEN",
    "PERMISSIONS",
    "ROUTES",
    "SCOPED",
    "UUIDS",
    "address",
    "minimal",
    "name_of",
]
