"""The load balancer without the API Gateway: straight to the Cloud Run services, by the catalog's paths.

What terraform/load_balancer.tf makes of `edge = "run"` (docs/decisions/0025). The fronts are for callers inside; here
nobody brings an identity token, so the way leads past them, as Cloud Run lets it with the invoker check off.
"""

from collections.abc import Iterable
from typing import Any

from local.envoy_parts import BODY_BYTES, typed
from local.layout import catalog

Json = dict[str, Any]

ELSEWHERE = "auth"  # what no path names goes there, below an address that no route has
OFF = typed("config.route.v3.FilterConfig", disabled=True)


def fallback_routes(gateway_filters: Iterable[str]) -> list[Json]:
    """One route per path of the catalog, the longest first as in a URL map, and one for everything else."""
    off = dict.fromkeys(gateway_filters, OFF)
    named = {path: name for name, entry in catalog().items() for path in entry["paths"]}
    routes = [
        _route(path + "/{any}", {"path_separated_prefix": path}, named[path], off)
        for path in sorted(named, key=lambda path: -path.count("/"))
    ]
    elsewhere = _route("/{unknown}", {"prefix": "/"}, ELSEWHERE, off)
    elsewhere["route"]["prefix_rewrite"] = "/not-found/"
    return [*routes, elsewhere]


def _route(name: str, match: Json, service: str, off: Json) -> Json:
    action = {"cluster": f"function:{service}", "timeout": f"{catalog()[service]['timeout_seconds']}s"}
    limit = {"request_body_buffer_limit": BODY_BYTES}
    return {"name": name, "match": match, "route": action, "typed_per_filter_config": off} | limit
