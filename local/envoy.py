"""The configuration of the one Envoy that plays load balancer, API Gateway and the front of every Cloud Run service."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from local.envoy_armor import CLIENT_ADDRESS, balancer_log, proxied, refusing
from local.envoy_fallback import fallback_routes
from local.envoy_parts import (
    BODY_BYTES,
    access_log,
    cluster,
    header_mutation,
    lua,
    manager,
    named,
    router,
    set_header,
    typed,
)
from local.envoy_workloads import STREAM_BYTES, workload_clusters, workload_routes
from local.identity import ISSUER
from local.layout import Layout, service_account

Json = dict[str, Any]

CLIENT_MAY_NOT_SEND = {
    "prefix": ("x-forwarded-", "x-envoy-", "x-cloudtasks-", "x-goog-", "x-apigateway-", "x-endpoint-"),
    "exact": ("x-client-ip", "x-edge-key", "x-serverless-authorization", "forwarded"),
}
RUNTIME = {"re2.max_program_size.error_level": 1000}
GATEWAY_AUTHN = "extensions.filters.http.gcp_authn.v3."
PLACEHOLDER = re.compile(r"\{(\w+)\}")

# Without a token of its own the gateway could only send a request that the front refuses. An answer whose length is
# not known is held until it is whole, so that one over the limit (the listener's buffer) becomes an error, not a stump.
GATEWAY_LUA = """
function envoy_on_request(handle)
  if handle:streamInfo():routeName() ~= "" and handle:headers():get("authorization") == nil then
    handle:respond({[":status"] = "503"}, "")
  end
end
function envoy_on_response(handle)
  local length = tonumber(handle:headers():get("content-length") or "")
  if length == nil or length > %d then
    handle:body()
  end
end
"""
SIGNATURE_LUA = """
function envoy_on_request(handle)
  local value = handle:headers():get("authorization")
  handle:headers():replace("authorization", value:gsub("%.[^.]*$", ".SIGNATURE_REMOVED_BY_GOOGLE"))
end
"""


@dataclass(frozen=True)
class Target:
    """A backend of the gateway document."""

    name: str
    address: str
    audience: str
    deadline: float
    constant: bool

    @property
    def cluster(self) -> str:
        """The Envoy cluster that leads there."""
        return f"backend:{self.name}"


def configuration(
    layout: Layout, document: Json, catalog: dict[str, Json], *, platform_checks_identity: bool = False, edge: str
) -> Json:
    """The whole bootstrap: one gateway listener for `document`, one front per service of the catalog.

    With `edge` "run" the listener is the load balancer alone: no gateway, no document (docs/decisions/0025).
    """
    targets = _targets(document)
    fronts = [_front(layout, name, entry, platform_checks_identity) for name, entry in catalog.items()]
    return {
        "node": {"id": "gateway", "cluster": "local"},
        "layered_runtime": {"layers": [{"name": "ours", "static_layer": RUNTIME}]},
        "static_resources": {
            "listeners": [_gateway(layout, document, targets, edge), *fronts],
            "clusters": [
                cluster("metadata", layout.ports["metadata:gateway"]),
                *(_backend_cluster(target) for target in targets.values()),
                *workload_clusters(layout),
                *(cluster(f"function:{name}", layout.ports[f"function:{name}"]) for name in catalog),
            ],
        },
    }


def edge_key_discovery(layout: Layout) -> Json:
    """The file by which Envoy finds the edge key; it looks again whenever the secret's folder changes."""
    secret = {"secret": {"filename": str(layout.path("secrets", "edge-key", "latest"))}}
    found = typed("extensions.transport_sockets.tls.v3.Secret", name="edge-key", generic_secret=secret)
    return {"resources": [found]}


def _targets(document: Json) -> dict[str, Target]:
    backends = document["x-google-api-management"]["backends"]
    return {
        name: Target(
            name,
            backend["address"],
            backend["jwtAudience"],
            backend["deadline"],
            backend["pathTranslation"] == "CONSTANT_ADDRESS",
        )
        for name, backend in backends.items()
    }


def _backend_cluster(target: Target) -> Json:
    port = urlsplit(target.address).port
    if port is None:
        raise ValueError(f"{target.address} names no port")
    audience = typed(GATEWAY_AUTHN + "Audience", url=target.audience)
    metadata = {"typed_filter_metadata": {"envoy.filters.http.gcp_authn": audience}}
    return cluster(target.cluster, port) | {"metadata": metadata}


def _gateway(layout: Layout, document: Json, targets: dict[str, Target], edge: str) -> Json:
    load_balancer = [
        refusing(layout),
        header_mutation("client", set_header("x-client-ip", CLIENT_ADDRESS)),
        _edge_key(layout),
    ]
    api_gateway = [
        header_mutation(
            "authorization",
            set_header("x-forwarded-authorization", "%REQ(AUTHORIZATION)%"),
            {"remove": "authorization"},
        ),
        named(
            "body_size_limit",
            typed("extensions.filters.http.body_size_limit.v3.BodySizeLimit", max_request_bytes=BODY_BYTES),
        ),
        _own_token(),
        lua(GATEWAY_LUA % BODY_BYTES),
    ]
    spoofable = [
        {"remove_on_match": {"key_matcher": {kind: text, "ignore_case": True}}}
        for kind, texts in CLIENT_MAY_NOT_SEND.items()
        for text in texts
    ]
    early = typed("extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation", mutations=spoofable)
    names = [each["name"] for each in api_gateway]
    behind = fallback_routes(names) if edge == "run" else _routes(document, targets)
    routes = [*workload_routes(names), *behind]
    return manager(
        "gateway",
        layout.ports["gateway"],
        routes,
        [*load_balancer, *api_gateway, router()],
        logs=[access_log("gateway"), balancer_log(layout)],
        first=[proxied()],
        early=[named("spoofable", early)],
        buffer_bytes=STREAM_BYTES,
    )


def _edge_key(layout: Layout) -> Json:
    source = {
        "path": str(layout.path("gateway", "edge-key.json")),
        "watched_directory": {"path": str(layout.path("secrets", "edge-key"))},
    }
    credential = typed(
        "extensions.http.injected_credentials.generic.v3.Generic",
        credential={"name": "edge-key", "sds_config": {"path_config_source": source}},
        header="X-Edge-Key",
    )
    return named(
        "edge_key",
        typed(
            "extensions.filters.http.credential_injector.v3.CredentialInjector",
            overwrite=True,
            credential=named("generic", credential),
        ),
    )


def _own_token() -> Json:
    retries = {"num_retries": 3, "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
    return named(
        "envoy.filters.http.gcp_authn",
        typed(
            GATEWAY_AUTHN + "GcpAuthnFilterConfig",
            cluster="metadata",
            timeout="5s",
            retry_policy=retries,
            cache_config={"cache_size": 100},
        ),
    )


def _routes(document: Json, targets: dict[str, Target]) -> list[Json]:
    """One route per path and backend, the most exact first, named by its template: what the access log shows."""
    routes = []
    for path in sorted(document["paths"], key=lambda path: _rank(path, document)):
        methods: dict[str, list[str]] = {}
        for method, operation in document["paths"][path].items():
            methods.setdefault(operation["x-google-backend"], []).append(method.upper())
        for backend, names in methods.items():
            routes.append(_route(path, _match(path, document, names), targets[backend]))
    return routes


def _rank(path: str, document: Json) -> list[int]:
    double = _double_wildcards(path, document)
    return [
        0 if (found := PLACEHOLDER.fullmatch(part)) is None else 2 if found[1] in double else 1
        for part in path.split("/")
    ]


def _double_wildcards(path: str, document: Json) -> set[str]:
    operation = next(iter(document["paths"][path].values()))
    parameters: Iterable[Json] = operation.get("parameters", ())
    return {each["name"] for each in parameters if each.get("x-google-parameter", {}).get("pattern") == "**"}


def _match(path: str, document: Json, methods: list[str]) -> Json:
    match: Json = {"headers": [{"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(methods)}}}]}
    if not PLACEHOLDER.search(path):
        return match | {"path": path}
    double = _double_wildcards(path, document)
    parts = [
        re.escape(part) if (found := PLACEHOLDER.fullmatch(part)) is None else ".*" if found[1] in double else "[^/]+"
        for part in path.split("/")
    ]
    return match | {"safe_regex": {"regex": "/".join(parts) + "/?"}}


def _route(name: str, match: Json, target: Target) -> Json:
    parts = urlsplit(target.address)
    action: Json = {
        "cluster": target.cluster,
        "timeout": f"{target.deadline}s",
        "host_rewrite_literal": parts.netloc,
        "append_x_forwarded_host": True,
    }
    if target.constant:
        action["regex_rewrite"] = {"pattern": {"regex": "^.*$"}, "substitution": parts.path}
    # The API Gateway collects whole answers; the load balancer before it collects nothing.
    return {"name": name, "match": match, "route": action, "request_body_buffer_limit": BODY_BYTES}


def _front(layout: Layout, name: str, entry: Json, platform_checks_identity: bool) -> Json:
    filters = [
        _verified(layout, layout.run_url(name)),
        _invokers([service_account(invoker) for invoker in entry["invokers"]]),
        *([lua(SIGNATURE_LUA)] if platform_checks_identity else []),
        router(),
    ]
    # A refused connection was never a request: it is tried again while a function starts, and nothing else is.
    retries = {
        "retry_on": "connect-failure",
        "num_retries": 10,
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
    }
    action = {"cluster": f"function:{name}", "timeout": f"{entry['timeout_seconds']}s", "retry_policy": retries}
    routes = [{"name": name, "match": {"prefix": "/"}, "route": action}]
    return manager(f"run:{name}", layout.ports[f"run:{name}"], routes, filters, logs=[access_log(f"run:{name}")])


def _verified(layout: Layout, audience: str) -> Json:
    provider = {
        "issuer": ISSUER,
        "audiences": [audience],
        "forward": True,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "payload_in_metadata": "jwt",
        "jwt_cache_config": {"jwt_cache_size": 100},
        "local_jwks": {"filename": str(layout.path("identity", "jwks.json"))},
    }
    rules = [{"match": {"prefix": "/"}, "requires": {"provider_name": "google"}}]
    config = typed(
        "extensions.filters.http.jwt_authn.v3.JwtAuthentication", providers={"google": provider}, rules=rules
    )
    return named("envoy.filters.http.jwt_authn", config)


def _invokers(emails: list[str]) -> Json:
    principals = [_claim("email", {"string_match": {"exact": email}}) for email in emails]
    known = {"and_ids": {"ids": [_claim("email_verified", {"bool_match": True}), {"or_ids": {"ids": principals}}]}}
    policies = {"invokers": {"permissions": [{"any": True}], "principals": [known]}}
    return named("rbac", typed("extensions.filters.http.rbac.v3.RBAC", rules={"action": "ALLOW", "policies": policies}))


def _claim(name: str, value: Json) -> Json:
    path = [{"key": "jwt"}, {"key": name}]
    matcher = {"filter": "envoy.filters.http.jwt_authn", "path": path, "value": value}
    return {"sourced_metadata": {"metadata_matcher": matcher}}
