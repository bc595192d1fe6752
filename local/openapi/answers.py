"""The answers of an operation: its successes with their headers, and each refusal with its codes."""

from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

from marshmallow import Schema

from common.access import PUBLIC, SIGNED_IN
from common.errors import CODES
from local.openapi.parts import EVENT_STREAM, REF, STREAMED
from local.openapi.route import PLACEHOLDER, RouteLike

Json = dict[str, Any]

PROBLEM = "application/problem+json"
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
EVERYWHERE = ("X-Request-Id", "RateLimit", "RateLimit-Policy", "Access-Control-Allow-Origin")
OF_STATUS = {401: "WWW-Authenticate", 403: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
STREAM_SAYS = {
    200: "Events as they come, until one side ends the stream.",
    204: "The session is over, nothing is left.",
}
REQUEST_ID = "5b1f7c62-0e0b-4a0e-9d4b-9b1c2f6f7a11"

KEPT = frozenset({"/docs", "/v1/openapi.json"})  # what a client may keep and ask about
COOKIES_BELOW = "/v1/auth/"
TOKENS = frozenset({"access_token", "refresh_token"})
SchemaLike: TypeAlias = type[Schema] | Schema

# What the one error boundary may answer on any route of a kind, before and beside the codes that the route names.
ALWAYS = ("rate_limited", "internal_error", "unavailable", "gateway_timeout")
AUTHENTICATED = ("malformed_request", "invalid_token", "permission_denied", "organization_suspended")
WITH_BODY = ("malformed_request", "body_too_large", "unsupported_media_type", "invalid_request")
IDEMPOTENT = ("idempotency_in_progress", "idempotency_key_reused")


def responses(route: RouteLike, *, versioned: bool, shared: dict[str, Json]) -> Json:
    """Every answer by status. `versioned`: If-Match applies. Refusals of the boundary alone are kept in `shared`."""
    found = {str(status): _success(route, status, schemas) for status, schemas in _successes(route).items()}
    if route.path in KEPT:
        found["304"] = {"description": "The copy is current.", "headers": headers([*EVERYWHERE, "ETag"])}
    refusals: dict[int, list[str]] = {}
    for code in dict.fromkeys([*route.errors, *implied(route, versioned=versioned)]):
        refusals.setdefault(CODES[code][0], []).append(code)
    for status, codes in sorted(refusals.items()):
        if set(codes) & set(route.errors):
            found[str(status)] = _refusal(status, codes)
        else:
            name = "".join(code.title().replace("_", "") for code in codes)
            shared.setdefault(name, _refusal(status, codes))
            found[str(status)] = {"$ref": f"{REF}responses/{name}"}
    return found


def implied(route: RouteLike, *, versioned: bool) -> list[str]:
    """The codes that the boundary may answer on this route."""
    known = route.needs != PUBLIC
    rules = (
        (True, ALWAYS),
        (known, AUTHENTICATED),
        (route.body is not None, WITH_BODY),
        (route.query is not None, ("invalid_request",)),
        (paged(route.query), ("invalid_cursor",)),
        (bool(PLACEHOLDER.search(route.path)), ("not_found",)),
        ((known or route.tokens) and route.method in UNSAFE, ("csrf_failed",)),
        (route.step_up or bool(route.by_scope), ("step_up_required",)),
        (route.idempotent, IDEMPOTENT),
        (versioned and route.method in {"PATCH", "DELETE"}, ("precondition_failed",)),
    )
    return [code for applies, codes in rules if applies for code in codes]


def paged(schema: type[Schema] | None) -> bool:
    """Whether a query is that of a list in pages."""
    return schema is not None and "cursor" in schema._declared_fields


def limited(schema: type[Schema] | None) -> bool:
    """Whether a query is that of a list that is given in parts, by cursors or by the place of what comes next."""
    return schema is not None and "limit" in schema._declared_fields


def has_version(schema: SchemaLike | None) -> bool:
    """Whether an answer is an object with a version, and so has an ETag."""
    return schema is not None and "version" in schema._declared_fields


def media_type(route: RouteLike) -> str:
    """What a success is written in: what the route says, else JSON; pages stand outside /v1."""
    if route.media:
        return route.media
    outside = not route.path.startswith(("/v1/", "/.well-known/", "/health/"))
    return "text/html; charset=utf-8" if outside and route.answers is None else "application/json"


def _successes(route: RouteLike) -> dict[int, list[SchemaLike]]:
    """What is answered with each status of success; without the tokens where they went into cookies."""
    found: dict[int, list[SchemaLike]] = {route.status: [route.answers] if route.answers else []}
    if route.tokens and route.answers:
        inside = TOKENS & set(route.answers._declared_fields)
        found[route.status].append(route.answers(exclude=inside))
    for status, schema in (*([route.also] if route.also else []), *route.more):
        found.setdefault(status, []).extend([schema] if schema else [])
    return found


def _success(route: RouteLike, status: int, schemas: list[SchemaLike]) -> Json:
    schema = schemas[0] if schemas else None
    rules = (
        (has_version(schema) or route.path in KEPT, "ETag"),
        (limited(route.query) or route.media == "application/x-ndjson", "Link"),
        (status in {201, 202, 302, 303}, "Location"),
        (route.idempotent, "Idempotent-Replayed"),
        (route.path.startswith(COOKIES_BELOW), "Set-Cookie"),
    )
    plain = STREAM_SAYS.get(status, "") if route.media == EVENT_STREAM else HTTPStatus(status).phrase + "."
    phrase = (schema.__doc__ or "").strip().split("\n")[0] if schema else plain
    answer: Json = {"description": phrase, "headers": headers([*EVERYWHERE, *(name for yes, name in rules if yes)])}
    kind = media_type(route)
    if schema is not None:
        answer["content"] = {kind: {"schema": schema if len(schemas) == 1 else {"oneOf": schemas}}}
    elif kind != "application/json" and status == 200:
        answer["content"] = {
            kind: {"schema": {"type": "string"}} | ({"example": STREAMED} if kind == EVENT_STREAM else {})
        }
    return answer


def headers(names: Iterable[str]) -> Json:
    """Header objects of an answer, by reference."""
    return {name: {"$ref": f"{REF}headers/{name}"} for name in names}


def _refusal(status: int, codes: Sequence[str]) -> Json:
    """A problem document whose status and codes are told exactly."""
    links = ", ".join(f"[`{code}`](/docs/errors/{code})" for code in codes)
    narrowed = {"properties": {"status": {"const": status}, "code": {"enum": list(codes)}}}
    media = {
        "schema": {"allOf": [{"$ref": f"{REF}schemas/Problem"}, narrowed]},
        "examples": {code: {"$ref": f"{REF}examples/{code}"} for code in codes},
    }
    return {
        "description": f"{HTTPStatus(status).phrase}: {links}",
        "headers": headers([*EVERYWHERE, *filter(None, [OF_STATUS.get(status)])]),
        "content": {PROBLEM: media},
    }


def problem_example(code: str) -> Json:
    """A problem document as the API answers it."""
    status, title = CODES[code]
    value: Json = {"type": f"/docs/errors/{code}", "title": title, "status": status, "detail": f"{title}."}
    value |= {"code": code, "request_id": REQUEST_ID}
    if status == 422:
        value["errors"] = {"password" if code == "weak_password" else "name": [f"{title}."]}
    return {"summary": title, "value": value}


def security(route: RouteLike) -> list[Json]:
    """The credentials that an operation takes, any one of the list."""
    if route.needs == PUBLIC:
        refreshes = route.body is not None and "refresh_token" in route.body._declared_fields
        return [{}, {"refreshCookie": [], "csrf": []}] if refreshes else []
    cookie: Json = {"cookie": [], "csrf": []} if route.method in UNSAFE else {"cookie": []}
    keys: list[Json] = [] if route.needs == SIGNED_IN or route.step_up else [{"apiKey": []}]
    return [{"bearer": []}, *keys, cookie]
