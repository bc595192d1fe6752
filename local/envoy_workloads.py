"""What the load balancer sends straight to a workload of the cluster, past the API Gateway: streams and sockets.

Sources: https://cloud.google.com/load-balancing/docs/https (timeouts, retries, WebSocket) for what is played here, and
https://www.envoyproxy.io/docs/envoy/latest/api-v3/ for the options it is played with.
"""

from collections.abc import Iterable
from typing import Any

from local.envoy_parts import cluster, named, typed
from local.layout import Layout, replicas, workloads

Json = dict[str, Any]

STREAM_BYTES = 64 * 1024  # held for a client that does not read; beyond it the replica has to wait
TIMEOUT = "3600s"  # of a whole answer, a stream's or socket's too
OFF = typed("config.route.v3.FilterConfig", disabled=True)


def workload_routes(gateway_filters: Iterable[str]) -> list[Json]:
    """One route per path prefix of a workload, on which the filters that play the API Gateway are off.

    Every method and path below the prefix arrives: what there is, the workload knows.
    """
    off = dict.fromkeys(gateway_filters, OFF)
    return [
        {
            "name": path + "/{any}",
            "match": {"path_separated_prefix": path},
            "route": _action(name),
            "typed_per_filter_config": off,
        }
        for name, entry in workloads().items()
        for path in entry["paths"]
    ]


def workload_clusters(layout: Layout) -> list[Json]:
    """One cluster per workload: all its replicas."""
    found = []
    for name in workloads():
        ports = [layout.ports[replica] for replica, workload in replicas().items() if workload == name]
        found.append(cluster(f"workload:{name}", *ports) | _among_replicas())
    return found


def _action(name: str) -> Json:
    # Only what no replica has heard of is sent again, and to another one.
    retries = {
        "retry_on": "connect-failure,reset-before-request",
        "num_retries": 10,
        "retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"},
        "retry_host_predicate": [
            named(
                "envoy.retry_host_predicates.previous_hosts",
                typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
            )
        ],
        "host_selection_retry_max_attempts": 3,
    }
    return {
        "cluster": f"workload:{name}",
        "timeout": TIMEOUT,
        "max_stream_duration": {"max_stream_duration": TIMEOUT},  # `timeout` ends with the answer 101 to a handshake
        "retry_policy": retries,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
    }


def _among_replicas() -> Json:
    """Streams are spread evenly; a replica that drains, or does not answer, gets no more of them."""
    check = {
        "timeout": "1s",
        "interval": "0.5s",
        "no_traffic_interval": "0.5s",
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/health/serving"},
    }
    least = typed("extensions.load_balancing_policies.least_request.v3.LeastRequest", selection_method="FULL_SCAN")
    return {
        "per_connection_buffer_limit_bytes": STREAM_BYTES,
        "load_balancing_policy": {"policies": [{"typed_extension_config": named("least_request", least)}]},
        "health_checks": [check],
        "outlier_detection": {
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 2,
            "enforcing_consecutive_local_origin_failure": 100,
            "consecutive_5xx": 0,
            "consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "interval": "0.5s",
            "base_ejection_time": "0.5s",
            "max_ejection_percent": 50,
        },
    }
