"""What Google's infrastructure says about a request, of the Envoy that plays its part: a span of each listener.

Every span is sent; the stand-in of the Telemetry API keeps those whose trace the services keep (common/tracing.py), and
of each only what names nobody. Source: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/trace/v3/opentelemetry.proto
"""

from local.envoy_parts import Json, cluster, named, typed
from local.layout import Layout

CLUSTER = "telemetry"
SAMPLERS = "extensions.tracers.opentelemetry.samplers.v3."
RUNTIME = {"tracing.opentelemetry.flush_interval_ms": 1000}
# Else a request without an id of ours is not traced, and one with it gets another.
REQUEST_ID = typed(
    "extensions.request_id.uuid.v3.UuidRequestIdConfig",
    pack_trace_reason=False,
    use_request_id_for_trace_sampling=False,
)


def traced(bootstrap: Json, layout: Layout) -> Json:
    """The configuration with a tracer on each listener; a span is named by its route's template."""
    found: Json = bootstrap["static_resources"]
    for listener in found["listeners"]:
        for chain in listener["filter_chains"]:
            manager = chain["filters"][0]["typed_config"]
            manager["tracing"] = _tracer(layout, listener["name"])
            manager["request_id_extension"] = {"typed_config": REQUEST_ID}
            for host in manager["route_config"]["virtual_hosts"]:
                for route in host["routes"]:
                    route["decorator"] = {"operation": route["name"], "propagate": False}
    layer = bootstrap["layered_runtime"]["layers"][0]
    layer["static_layer"] = layer["static_layer"] | RUNTIME
    found["clusters"].append(cluster(CLUSTER, layout.ports["telemetry"]))
    return bootstrap


def _tracer(layout: Layout, listener: str) -> Json:
    uri = {"uri": layout.url("telemetry") + "/envoy/v1/traces", "cluster": CLUSTER, "timeout": "2s"}
    config = typed(
        "config.trace.v3.OpenTelemetryConfig",
        http_service={"http_uri": uri},
        service_name=listener,
        sampler=named("always_on", typed(SAMPLERS + "AlwaysOnSamplerConfig")),
    )
    return {"provider": named("envoy.tracers.opentelemetry", config), "spawn_upstream_span": False}
