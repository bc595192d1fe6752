"""API Gateway's OpenAPI document, from the same route tables as the public one."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from local.openapi.route import INTERNAL, operation_id, template

Json = dict[str, Any]

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
DEADLINE_SECONDS = 15.0
SESSIONS = "/v1/sessions"
NOWHERE = "/not-found"
HEALTH = "/health/"  # every service has these; through the gateway one answers for all


class LineLike(Protocol):
    """All that the gateway knows of a route."""

    @property
    def path(self) -> str: ...


class TableLike(Protocol):
    """The routes of one service."""

    @property
    def service(self) -> str: ...
    @property
    def routes(self) -> Sequence[LineLike]: ...


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
            if route.path.startswith((INTERNAL, SESSIONS)):
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
