"""From the route tables to two OpenAPI 3.1 documents: the public one and API Gateway's."""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.common import make_schema_key
from marshmallow import Schema

from common.access import PUBLIC
from common.errors import CODES
from common.openapi_parts import ANSWER_HEADERS, HEADER_PARAMETERS, PROBLEM_SCHEMA, SECURITY, SECURITY_SCHEMES

Json = dict[str, Any]

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
DEADLINE_SECONDS = 15.0
PROBLEM = "application/problem+json"
SESSIONS = "/v1/sessions"
INTERNAL = "/internal/"

# What the one error boundary may answer on any route of a kind, before and beside the codes that the route names.
ALWAYS = (405, 500, 503)
AUTHENTICATED = (400, 401, 403)
WITH_BODY = (400, 413, 415, 422)

PLACEHOLDER = re.compile(r"<(?:(?P<converter>\w+)(?:\((?P<arguments>[^)]*)\))?:)?(?P<name>\w+)>")
REF = "#/components/"
NOWHERE = "/not-found"
HEALTH = "/health/"  # every service has these; through the gateway one answers for all


class RouteLike(Protocol):
    """One line of a route table. `path` is a werkzeug rule; `needs` a permission code or a word for who may call."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def needs(self) -> str: ...
    @property
    def body(self) -> type[Schema] | None: ...
    @property
    def query(self) -> type[Schema] | None: ...
    @property
    def answers(self) -> type[Schema] | None: ...
    @property
    def status(self) -> int: ...
    @property
    def summary(self) -> str: ...
    @property
    def step_up(self) -> bool: ...
    @property
    def errors(self) -> Sequence[str]: ...
    @property
    def also(self) -> tuple[int, type[Schema]] | None: ...


class TableLike(Protocol):
    """The routes of one service."""

    @property
    def service(self) -> str: ...
    @property
    def routes(self) -> Sequence[RouteLike]: ...


class Template(NamedTuple):
    """An OpenAPI path and its parameters: `/v1/projects/{project_id}`."""

    path: str
    parameters: list[Json]


def template(rule: str) -> Template:
    """Turn a werkzeug rule into an OpenAPI path template."""
    parameters = [_path_parameter(match) for match in PLACEHOLDER.finditer(rule)]
    return Template(PLACEHOLDER.sub(lambda match: "{" + match["name"] + "}", rule), parameters)


def _path_parameter(match: re.Match[str]) -> Json:
    schema: Json = {"type": "string"}
    match match["converter"]:
        case "uuid":
            schema["format"] = "uuid"
        case "int":
            schema["type"] = "integer"
        case "any":
            schema["enum"] = [word.strip(" \"'") for word in match["arguments"].split(",")]
    parameter: Json = {"name": match["name"], "in": "path", "required": True, "schema": schema}
    if match["converter"] == "path":
        parameter["x-google-parameter"] = {"pattern": "**"}
    return parameter


def is_internal(route: RouteLike) -> bool:
    """Whether the route is for Tasks, Workflows and Scheduler only."""
    return route.path.startswith(INTERNAL)


def public(tables: Iterable[TableLike]) -> Json:
    """The document for clients: every route but the internal ones."""
    plugin = MarshmallowPlugin(schema_name_resolver=_Names())
    spec = APISpec("Dev Context API", "1", "3.1.0", plugins=[plugin], servers=[{"url": "/"}])
    _components(spec)
    seen: set[str] = set()
    for table in tables:
        spec.tag({"name": table.service})
        for route in table.routes:
            operation = _operation(table.service, route)
            if not is_internal(route) and operation["operationId"] not in seen:
                seen.add(operation["operationId"])
                spec.path(template(route.path).path, operations={route.method.lower(): operation})
    return spec.to_dict()


class _Names:
    """Component names: the class's own, with its folder in front when another class took it first."""

    def __init__(self) -> None:
        self.taken: dict[str, object] = {}

    def __call__(self, schema: Schema | type[Schema] | str) -> str:
        instance = schema() if isinstance(schema, type) else schema
        if isinstance(instance, str):
            return instance
        key = make_schema_key(instance)
        folder = type(instance).__module__.split(".")[-2:][0].title()
        name = type(instance).__name__
        candidates = [name, folder + name, *(f"{folder}{name}{number}" for number in range(2, 100))]
        free = next(word for word in candidates if self.taken.get(word, key) == key)
        self.taken[free] = key
        return free


def _components(spec: APISpec) -> None:
    for scheme, value in SECURITY_SCHEMES.items():
        spec.components.security_scheme(scheme, value)
    for component, (name, description) in HEADER_PARAMETERS.items():
        parameter = {"name": name, "description": description, "required": False, "schema": {"type": "string"}}
        spec.components.parameter(component, "header", parameter)
    for component, (_, description) in ANSWER_HEADERS.items():
        spec.components.header(component, {"description": description, "schema": {"type": "string"}})
    spec.components.schema("Problem", PROBLEM_SCHEMA)


def _operation(service: str, route: RouteLike) -> Json:
    authenticated = route.needs != PUBLIC
    operation: Json = {
        "operationId": operation_id(route.method, route.path),
        "summary": route.summary,
        "tags": [service],
        "security": SECURITY if authenticated else [],
        "parameters": _parameters(route),
        "responses": _success(route) | _problems(route, authenticated),
    }
    if authenticated:
        operation["x-needs"] = route.needs
    if route.step_up:
        operation["x-step-up"] = True
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": route.body}}}
    return operation


def operation_id(method: str, rule: str) -> str:
    """A name that is unique by method and path: `post_v1_projects_project_id_tasks`."""
    return "_".join([method.lower(), *re.findall(r"[A-Za-z0-9]+", PLACEHOLDER.sub(lambda m: m["name"], rule))])


def _parameters(route: RouteLike) -> list[Any]:
    own = template(route.path).parameters
    parameters: list[Any] = [{key: part for key, part in each.items() if not key.startswith("x-")} for each in own]
    if route.query is not None:
        parameters.append({"in": "query", "schema": route.query})
    names = ["RequestId"]
    if route.method in {"PATCH", "DELETE"}:
        names.append("IfMatch")
    return parameters + names


def _headers(names: Iterable[str]) -> Json:
    return {ANSWER_HEADERS[name][0]: {"$ref": f"{REF}headers/{name}"} for name in names}


def _success(route: RouteLike) -> Json:
    names = ["RequestId"]
    if route.answers is not None and "version" in route.answers._declared_fields:
        names.append("ETag")
    if route.query is not None and "cursor" in route.query._declared_fields:
        names.append("Link")
    if route.status in {201, 202, 302}:
        names.append("Location")
    answer: Json = {"description": HTTPStatus(route.status).phrase, "headers": _headers(names)}
    if route.answers is not None:
        answer["content"] = {"application/json": {"schema": route.answers}}
    return {str(route.status): answer} | (_second(*route.also) if route.also else {})


def _second(status: int, schema: type[Schema]) -> Json:
    headers = _headers(["RequestId"])
    content = {"application/json": {"schema": schema}}
    return {str(status): {"description": HTTPStatus(status).phrase, "headers": headers, "content": content}}


def _problems(route: RouteLike, authenticated: bool) -> Json:
    found: dict[int, list[str]] = {status: [] for status in _implied(route, authenticated)}
    for code in route.errors:
        found.setdefault(CODES[code][0], []).append(code)
    return {str(status): _problem(status, codes) for status, codes in sorted(found.items())}


def _implied(route: RouteLike, authenticated: bool) -> set[int]:
    implied = set(ALWAYS)
    if authenticated:
        implied.update(AUTHENTICATED)
    if route.body is not None:
        implied.update(WITH_BODY)
    if route.query is not None:
        implied.add(422)
    if PLACEHOLDER.search(route.path):
        implied.add(404)
    if authenticated and route.method in {"PATCH", "DELETE"}:
        implied.add(412)
    if authenticated and route.method == "POST":
        implied.add(409)
    return implied


def _problem(status: int, codes: Sequence[str]) -> Json:
    names = ["RequestId", *{503: ["RetryAfter"], 401: ["WwwAuthenticate"]}.get(status, [])]
    media: Json = {"schema": {"$ref": f"{REF}schemas/Problem"}}
    phrase = HTTPStatus(status).phrase
    if codes:
        phrase += ": " + ", ".join(f"`{code}`" for code in codes)
        media["examples"] = {code: {"value": _example(status, code)} for code in codes}
    return {"description": phrase, "headers": _headers(names), "content": {PROBLEM: media}}


def _example(status: int, code: str) -> Json:
    shared = {"status": status, "code": code, "request_id": "7f6d1c9e"}
    return {"type": f"/docs/errors/{code}", "title": CODES[code][1], **shared}


def gateway(tables: Iterable[TableLike], addresses: Mapping[str, str], *, fallback: str = "auth") -> Json:
    """API Gateway's document. `addresses` maps each service to its run.app URL.

    Every path lists every method, so that the 405 is the service's own. What no route knows goes to a constant
    address of `fallback`, so that the 404 is ours and no path of a client's choice reaches an internal route.
    Sources: cloud.google.com/api-gateway/docs/oasv3-extensions, openapi-v3-limitations, path-templating.
    """
    owners: dict[str, str] = {}
    paths: dict[str, tuple[str, Json]] = {}
    for table in tables:
        for route in table.routes:
            if is_internal(route) or route.path.startswith(SESSIONS):
                continue
            if route.path.startswith(HEALTH) and table.service != fallback:
                continue
            path, parameters = template(route.path)
            shape = re.sub(r"{\w+}", "{}", path)
            if owners.setdefault(shape, table.service) != table.service:
                raise ValueError(f"{route.path} belongs to {owners[shape]} and to {table.service}")
            paths.setdefault(shape, (path, _gateway_item(path, parameters, table.service)))
    backends = {service: _backend(addresses[service], "APPEND_PATH_TO_ADDRESS") for service in owners.values()}
    nowhere = _backend(addresses[fallback], "CONSTANT_ADDRESS") | {"address": addresses[fallback] + NOWHERE}
    unknown = template("/<path:unknown>")
    return {
        "openapi": "3.1.0",
        "info": {"title": "dev-context", "version": "1"},
        "servers": [{"url": "/", "x-google-endpoint": {"allowCors": True}}],
        "x-google-api-management": {"backends": backends | {"unknown": nowhere}},
        "paths": dict(paths.values()) | {unknown.path: _gateway_item(*unknown, "unknown")},
    }


def _gateway_item(path: str, parameters: list[Json], backend: str) -> Json:
    shared: Json = {
        "x-google-backend": backend,
        "responses": {"default": {"description": "What the service answers."}},
    }
    if parameters:
        shared["parameters"] = parameters
    return {method: {"operationId": operation_id(method, path), **shared} for method in METHODS}


def _backend(url: str, translation: str) -> Json:
    return {
        "address": url,
        "jwtAudience": url,
        "deadline": DEADLINE_SECONDS,
        "pathTranslation": translation,
        "protocol": "http/1.1",
    }
