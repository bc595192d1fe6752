"""The pieces of Envoy configuration that every listener shares: connection manager, clusters, errors, access log."""

from typing import Any

from common.errors import CODES
from local.layout import HOST

Json = dict[str, Any]

TYPES = "type.googleapis.com/envoy."
BODY_BYTES = 32 * 1024 * 1024
REQUEST_ID = "[A-Za-z0-9._-]{1,64}"

# What Envoy itself may have to say: its status → the product's status, code and sentence; one error shape for clients.
PROBLEMS = {
    400: (400, "malformed_request", "The request is malformed."),
    401: (401, "invalid_token", "The caller's identity token is missing or not valid."),
    403: (403, "forbidden", "The caller may not invoke this service."),
    404: (404, "not_found", "There is nothing here."),
    405: (405, "method_not_allowed", "This method is not known here."),
    408: (400, "malformed_request", "The request took too long to arrive."),
    413: (413, "body_too_large", "The body is too large."),
    426: (400, "malformed_request", "This protocol version is not spoken here."),
    431: (400, "malformed_request", "The headers are too large."),
    500: (500, "internal_error", "The answer could not be passed on."),
    502: (503, "unavailable", "The service broke off its answer."),
    503: (503, "unavailable", "The service is not available; try again."),
    504: (504, "gateway_timeout", "The service did not answer in time."),
}
TITLES = {code: title for code, (_, title) in CODES.items()} | {"gateway_timeout": "The service took too long"}


def typed(name: str, /, **fields: Any) -> Json:
    """A typed message of Envoy's API by its name after `envoy.`."""
    return {"@type": TYPES + name, **fields}


def named(name: str, config: Json) -> Json:
    """An extension: its name and its typed configuration."""
    return {"name": name, "typed_config": config}


def set_header(name: str, value: str) -> Json:
    """A mutation that replaces a header; an empty value removes nothing and adds nothing."""
    return {"append": {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}}


def header_mutation(name: str, *mutations: Json) -> Json:
    """A filter that changes the request's headers, in order."""
    changes = {"request_mutations": list(mutations)}
    return named(name, typed("extensions.filters.http.header_mutation.v3.HeaderMutation", mutations=changes))


def lua(source: str) -> Json:
    """A filter in Lua."""
    return named("lua", typed("extensions.filters.http.lua.v3.Lua", default_source_code={"inline_string": source}))


def router() -> Json:
    """The last filter; no `x-envoy-…` headers on what it sends."""
    return named("router", typed("extensions.filters.http.router.v3.Router", suppress_envoy_headers=True))


def manager(
    name: str,
    port: int,
    routes: list[Json],
    filters: list[Json],
    *,
    logs: list[Json],
    early: list[Json] | None = None,
    first: list[Json] | None = None,
    buffer_bytes: int = BODY_BYTES,
) -> Json:
    """A listener on a loopback port with one HTTP connection manager.

    `buffer_bytes`: what a connection may hold of an answer that its client does not take (with what a filter collects,
    whole bodies of BODY_BYTES, unless the route says otherwise). `first`: filters of the connection itself.
    """
    host = {"name": name, "domains": ["*"], "routes": routes}
    config = typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        route_config={"name": name, "virtual_hosts": [host]},
        http_filters=filters,
        early_header_mutation_extensions=early or [],
        access_log=logs,
        local_reply_config={"mappers": _problems()},
        skip_xff_append=True,
        generate_request_id=False,
        preserve_external_request_id=True,
        normalize_path=True,
        path_with_escaped_slashes_action="KEEP_UNCHANGED",
        server_header_transformation="PASS_THROUGH",
        common_http_protocol_options={"headers_with_underscores_action": "DROP_HEADER"},
        request_headers_timeout="10s",
        request_timeout="60s",
    )
    return {
        "name": name,
        "address": {"socket_address": {"address": HOST, "port_value": port}},
        "per_connection_buffer_limit_bytes": buffer_bytes,
        "listener_filters": first or [],
        "filter_chains": [{"filters": [named("http", config)]}],
    }


def _problems() -> list[Json]:
    own = {"header": {"key": "x-request-id", "value": "%UNIQUE_ID%"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    clients = own | {"header": {"key": "x-request-id", "value": "%REQ(X-REQUEST-ID)%"}}
    good_id = {"header": {"name": "x-request-id", "string_match": {"safe_regex": {"regex": REQUEST_ID}}}}
    mappers = []
    for status in PROBLEMS:
        comparison = {"op": "EQ", "value": {"default_value": status, "runtime_key": "none"}}
        this = {"status_code_filter": {"comparison": comparison}}
        both = {"and_filter": {"filters": [this, {"header_filter": good_id}]}}
        mappers.append(_problem(status, both, clients))
        mappers.append(_problem(status, this, own))
    return mappers


def _problem(given: int, condition: Json, request_id: Json) -> Json:
    status, code, detail = PROBLEMS[given]
    body = {
        "type": f"/docs/errors/{code}",
        "title": TITLES[code],
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": "%RESP(X-REQUEST-ID)%",  # set by headers_to_add, which comes first
    }
    no_store = {"header": {"key": "cache-control", "value": "no-store"}}
    return {
        "filter": condition,
        "status_code": status,
        "headers_to_add": [request_id, no_store],
        "body_format_override": {"json_format": body, "content_type": "application/problem+json"},
    }


def access_log(listener: str) -> Json:
    """One JSON line per request on standard output: the route's template, never the path, an address or a token."""
    line = {
        "at": "%START_TIME%",
        "listener": listener,
        "method": "%REQ(:METHOD)%",
        "route": "%ROUTE_NAME%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "milliseconds": "%DURATION%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "request_id": "%RESP(X-REQUEST-ID)%",
    }
    return named(
        "stdout", typed("extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": line})
    )


def cluster(name: str, *ports: int) -> Json:
    """HTTP/1.1 servers on loopback ports. Idle connections are given up before a server would close them."""
    addresses = [{"socket_address": {"address": HOST, "port_value": port}} for port in ports]
    options = typed(
        "extensions.upstreams.http.v3.HttpProtocolOptions",
        common_http_protocol_options={"idle_timeout": "20s"},
        explicit_http_config={"http_protocol_options": {}},
    )
    room = {"max_connections": 8192, "max_pending_requests": 8192, "max_requests": 8192, "max_retries": 8192}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [room]},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}} for address in addresses]}],
        },
    }
