"""Google's Telemetry API, and what Cloud Trace and Cloud Monitoring would show of it: OTLP over HTTP, read as JSON.

`POST /v1/traces` and `/v1/metrics` take what services send with their credentials, `POST /envoy/v1/traces` the spans of
Envoy, which plays the part of Google's own infrastructure: of them it keeps those of traces that the services keep.
`GET /traces`, `/traces/<id>` and `/metrics` show it. The newest traces survive a restart; Google keeps 30 days. The
same port plays Sentry: local/sentry.py.
Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import asyncio
from typing import Any

from aiohttp import web
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from common.tracing import is_kept
from local import grants, sentry
from local.identity import Issuer
from local.layout import Layout
from local.serving import arguments, bearer, http, refusal, stopped
from local.telemetry_store import Store, points, spans

LARGEST = 64 * 1024 * 1024  # of a request, unpacked: the exporter's own limit
PROTOBUF = "application/x-protobuf"
MOST = 500  # traces of a list
GATEWAY_SECONDS = 20  # everything else is answered or given up before
ENVOY_KEEPS = {"http.method", "http.status_code", "response_flags"}  # not the address, the path or the client


class Collector:
    """The two methods of the API, and Envoy's."""

    def __init__(self, store: Store, ratio: float) -> None:
        self.store = store
        self.ratio = ratio
        self.refused = grants.known() - grants.sending()

    async def traces(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Spans of a service."""
        return await self._taken(request, caller, ExportTraceServiceRequest(), ExportTraceServiceResponse())

    async def metrics(self, request: web.Request, caller: str) -> web.StreamResponse:
        """Numbers of a service."""
        return await self._taken(request, caller, ExportMetricsServiceRequest(), ExportMetricsServiceResponse())

    async def envoy(self, request: web.Request) -> web.StreamResponse:
        """Spans of Envoy."""
        message = ExportTraceServiceRequest()
        if not await _parsed(request, message):
            return refusal(400, "The body is no OTLP message.")
        found = [each for each in spans(message) if is_kept(each["trace_id"], self.ratio) and not _is_stream(each)]
        for each in found:
            each["name"] = f"{each['attributes'].get('http.method', '')} {each['name']}".strip()
            each["attributes"] = {name: value for name, value in each["attributes"].items() if name in ENVOY_KEEPS}
        self.store.add_spans(found)
        return _answered(ExportTraceServiceResponse())

    async def _taken(self, request: web.Request, caller: str, message: Any, answer: Any) -> web.StreamResponse:
        if caller in self.refused:
            grants.refuse(caller, "telemetry write", request.path)
            return refusal(403, "Permission denied")
        if not await _parsed(request, message):
            return refusal(400, "The body is no OTLP message.")
        try:
            if isinstance(message, ExportTraceServiceRequest):
                self.store.add_spans(spans(message))
            else:
                self.store.add_points(points(message))
        except (AttributeError, TypeError):  # a number or an attribute without its value
            return refusal(400, "The message lacks a value.")
        return _answered(answer)


def _is_stream(span: dict[str, Any]) -> bool:
    """Whether it is a stream of the session API: hours of waiting are no span."""
    return bool(span["service"] == "gateway" and span["end"] - span["start"] > GATEWAY_SECONDS * 10**9)


async def _parsed(request: web.Request, message: Any) -> bool:
    body = await request.read()
    try:
        message.ParseFromString(body)
    except DecodeError:
        return False
    return request.content_type == PROTOBUF


def _answered(message: Any) -> web.Response:
    return web.Response(body=message.SerializeToString(), content_type=PROTOBUF)


def application(layout: Layout, store: Store, errors: sentry.Store, ratio: float) -> web.Application:
    """The routes: what services send is checked, what people read stays on loopback."""
    made = web.Application(client_max_size=LARGEST)
    sentry.add_routes(made, layout, errors)
    collector, issuer = Collector(store, ratio), Issuer(layout.root)
    made.router.add_post("/v1/traces", bearer(issuer, collector.traces))
    made.router.add_post("/v1/metrics", bearer(issuer, collector.metrics))
    made.router.add_post("/envoy/v1/traces", collector.envoy)

    async def traces(request: web.Request) -> web.StreamResponse:
        """The newest traces, each with its root's name, its services, times and whether anything failed."""
        limit = request.query.get("limit", "100")
        return web.json_response({"traces": store.traces(min(int(limit) if limit.isdecimal() else 100, MOST))})

    async def trace(request: web.Request) -> web.StreamResponse:
        """The spans of a trace, in the order of their beginning."""
        found = store.trace(request.match_info["id"])
        if not found:
            return refusal(404, "There is no such trace.")
        return web.json_response({"trace_id": request.match_info["id"], "spans": found})

    async def metrics(_request: web.Request) -> web.StreamResponse:
        """The last numbers of each series."""
        return web.json_response({"metrics": store.points()})

    made.router.add_get("/traces", traces)
    made.router.add_get("/traces/{id:[0-9a-f]{32}}", trace)
    made.router.add_get("/metrics", metrics)
    return made


async def serve(layout: Layout, ratio: float) -> None:
    """Answer until asked to stop."""
    store, errors = Store(layout.path("telemetry")), sentry.Store(layout.path("sentry"))
    async with http(application(layout, store, errors, ratio), layout.ports["telemetry"]):
        await stopped()
    store.close()
    errors.close()


def main() -> None:
    """Read the arguments and serve."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--ratio", type=float, default=1.0, help="the share of traces that services keep")
    chosen = parser.parse_args()
    asyncio.run(serve(chosen.layout, chosen.ratio))


if __name__ == "__main__":
    main()
