"""From the route tables to the public OpenAPI 3.1 document; API Gateway's is in gateway.py."""

import sys
from collections.abc import Iterable
from typing import Any

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin

from common.access import PUBLIC, SIGNED_IN
from common.errors import CODES
from local.openapi import examples, fields
from local.openapi.answers import KEPT, has_version, implied, problem_example, responses, security
from local.openapi.gateway import gateway
from local.openapi.parts import (
    ALWAYS_SENT,
    ANSWER_HEADERS,
    COOKIES_PARAMETER,
    EVENT_STREAM,
    HEADER_PARAMETERS,
    INFO,
    PROBLEM_SCHEMA,
    SECURITY_SCHEMES,
    SERVERS,
    TAGS,
)
from local.openapi.route import RouteLike, TableLike, details, is_internal, operation_id, template

Json = dict[str, Any]


def public(tables: Iterable[TableLike]) -> Json:
    """The document for clients: every route but the internal ones, each with examples that fit its schemas."""
    names = fields.Names()
    plugin = MarshmallowPlugin(schema_name_resolver=names)
    spec = APISpec("Dev Context API", "1", "3.1.0", plugins=[plugin], info=INFO, servers=SERVERS)
    fields.teach(plugin)
    _components(spec)
    routes = _public_routes(tables)
    versions = {template(route.path).path for route in routes if has_version(route.answers)}
    shared: dict[str, Json] = {}
    for route in routes:
        path = template(route.path).path
        operation = _operation(route, versioned=path in versions, shared=shared)
        spec.path(path, operations={route.method.lower(): operation})
    for name, response in sorted(shared.items()):
        spec.components.response(name, response)
    _used(spec, routes)
    document: Json = spec.to_dict()
    for name, line in names.said.items():
        document["components"]["schemas"][name].setdefault("description", line)
    fields.tidy_parameters(document)
    examples.add(document)
    return document


def _used(spec: APISpec, routes: list[RouteLike]) -> None:
    """The error codes and tags that some route has."""
    codes = {code for route in routes for code in (*route.errors, *implied(route, versioned=True))}
    for code in (code for code in CODES if code in codes):
        spec.components.example(code, problem_example(code))
    tags = dict(tag_of(route) for route in routes)
    for tag in sorted(tags, key=[*TAGS, *sorted(tags.keys() - TAGS.keys())].index):
        spec.tag({"name": tag, "description": tags[tag]})


def _public_routes(tables: Iterable[TableLike]) -> list[RouteLike]:
    """Each address once: health stands in every table."""
    found: dict[str, RouteLike] = {}
    for table in tables:
        for route in table.routes:
            if not is_internal(route):
                found.setdefault(operation_id(route.method, route.path), route)
    return list(found.values())


def tag_of(route: RouteLike) -> tuple[str, str]:
    """The tag with the longest beginning of the path, and what it is about; a new function is a tag of its own."""
    path = template(route.path).path
    fits = [(len(start), tag) for tag, (starts, _) in TAGS.items() for start in starts if path.startswith(start)]
    length, tag = max(fits)
    if length > 1 or not path.startswith("/v1/"):
        return tag, TAGS[tag][1]
    folder = ".".join(route.handler.__module__.split(".")[:2])
    about = sys.modules[f"{folder}.main"].__doc__ or ""
    return folder.split(".")[1].capitalize(), about.splitlines()[0]


def _components(spec: APISpec) -> None:
    for scheme, value in SECURITY_SCHEMES.items():
        spec.components.security_scheme(scheme, value)
    for component, (name, schema, example, description) in HEADER_PARAMETERS.items():
        parameter: Json = {"name": name, "description": description, "required": False, "schema": schema}
        spec.components.parameter(component, "header", parameter | {"example": example})
    for name, (schema, sample, description) in ANSWER_HEADERS.items():
        header: Json = {"description": description, "schema": schema, "example": sample}
        spec.components.header(name, header | ({"required": True} if name in ALWAYS_SENT else {}))
    spec.components.schema("Problem", PROBLEM_SCHEMA)


def _operation(route: RouteLike, *, versioned: bool, shared: dict[str, Json]) -> Json:
    operation: Json = {
        "operationId": operation_id(route.method, route.path),
        "summary": route.summary.rstrip("."),
        "description": _description(route),
        "tags": [tag_of(route)[0]],
        "security": security(route),
        "parameters": _parameters(route, versioned=versioned),
        "responses": responses(route, versioned=versioned, shared=shared),
    }
    if route.needs != PUBLIC:
        operation["x-needs"] = route.needs
    if route.step_up:
        operation["x-step-up"] = True
    if route.by_scope:
        operation["x-needs-by-scope"] = dict(route.by_scope)
    if route.body is not None:
        operation["requestBody"] = {
            "required": any(field.required for field in route.body._declared_fields.values()),
            "content": {"application/json": {"schema": route.body}},
        }
    return operation


def _description(route: RouteLike) -> str:
    """What the handler says, and what its line in the route table says about who may call."""
    needs = {PUBLIC: "Needs no credential.", SIGNED_IN: "Needs a person who is logged in; an API key is refused."}
    rules = (
        (bool(details(route)), details(route)),
        (True, needs.get(route.needs, f"Needs the permission `{route.needs}`.")),
        (route.step_up, "Needs a proof of identity of the last minutes: see `POST /v1/auth/step-up`."),
        *(
            (True, f"Scope `{scope}` needs the permission `{code}` and such a proof of the last minutes.")
            for scope, code in route.by_scope
        ),
        (route.while_suspended, "Open to members of a suspended organization too, for their own data."),
        (route.secret, "The answer holds a secret that is shown once and cannot be replayed."),
    )
    return "\n\n".join(text for applies, text in rules if applies)


def _parameters(route: RouteLike, *, versioned: bool) -> list[Any]:
    own = template(route.path).parameters
    parameters: list[Any] = [{key: part for key, part in each.items() if not key.startswith("x-")} for each in own]
    if route.query is not None:
        parameters.append({"in": "query", "schema": route.query})
    if route.tokens:
        parameters.append(COOKIES_PARAMETER)
    rules = (
        (True, "RequestId"),
        (versioned and route.method in {"PATCH", "DELETE"}, "IfMatch"),
        (route.idempotent, "IdempotencyKey"),
        (route.path in KEPT, "IfNoneMatch"),
        (route.media == EVENT_STREAM, "LastEventId"),
    )
    return parameters + [name for applies, name in rules if applies]


__all__ = ["RouteLike", "TableLike", "gateway", "public", "tag_of"]
