"""A line of a route table as OpenAPI sees it: its template, its parameters' types, its operation id."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from marshmallow import Schema

Json = dict[str, Any]

PLACEHOLDER = re.compile(r"<(?:(?P<converter>\w+)(?:\((?P<arguments>[^)]*)\))?:)?(?P<name>\w+)>")
INTERNAL = "/internal/"
UUID: Json = {"format": "uuid", "maxLength": 36}


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
    def handler(self) -> Callable[..., Any]: ...
    @property
    def step_up(self) -> bool: ...
    @property
    def tokens(self) -> bool: ...
    @property
    def secret(self) -> bool: ...
    @property
    def idempotent(self) -> bool: ...
    @property
    def by_scope(self) -> tuple[tuple[str, str], ...]: ...
    @property
    def while_suspended(self) -> bool: ...
    @property
    def media(self) -> str | None: ...
    @property
    def errors(self) -> Sequence[str]: ...
    @property
    def also(self) -> tuple[int, type[Schema]] | None: ...
    @property
    def more(self) -> tuple[tuple[int, type[Schema] | None], ...]: ...


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
            schema |= UUID
        case "int":
            schema = {"type": "integer", "format": "int64", "minimum": 0, "maximum": 2**63 - 1}
        case "any":
            schema["enum"] = [word.strip(" \"'") for word in match["arguments"].split(",")]
        case _:
            schema |= {"minLength": 1, "maxLength": 255}
    parameter: Json = {"name": match["name"], "in": "path", "required": True, "schema": schema}
    if match["converter"] == "path":
        parameter["x-google-parameter"] = {"pattern": "**"}
    return parameter


def operation_id(method: str, rule: str) -> str:
    """A name that is unique by method and path: `post_v1_projects_project_id_tasks`."""
    return "_".join([method.lower(), *re.findall(r"[A-Za-z0-9]+", PLACEHOLDER.sub(lambda m: m["name"], rule))])


def details(route: RouteLike) -> str:
    """What the handler's docstring says after its first line."""
    return inspect.cleandoc(route.handler.__doc__ or "").partition("\n")[2].strip()


def is_internal(route: RouteLike) -> bool:
    """Whether the route is for Tasks, Workflows and Scheduler only."""
    return route.path.startswith(INTERNAL)
