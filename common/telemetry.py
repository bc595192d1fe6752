"""The way out of spans and numbers: OTLP over HTTP to TELEMETRY_ENDPOINT, from a thread of its own.

Requests never wait for it: what does not get through twice is lost and counted. Cloud Run takes the CPU away between
requests, so the thread goes on with the next one, and what is left leaves when the process ends. OpenTelemetry is
imported here, in that thread, with the first thing that there is to send.
Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp, https://cloud.google.com/stackdriver/docs/reference/telemetry/overview
"""

import atexit
import logging
import threading
import time
import uuid
from collections.abc import Callable
from functools import cache
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from common import log, metrics, tracing
from common.settings import settings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

BATCH = 512  # spans of one request
SPANS_SECONDS = 2.0  # between two looks at what waits
ANSWER_SECONDS = 2.0  # that the collector has, a second try included
END_SECONDS = 4.0  # for what is left when a process ends; Cloud Run gives it ten, and Sentry needs two of them
SCOPES = ("https://www.googleapis.com/auth/trace.append", "https://www.googleapis.com/auth/monitoring.write")
LIBRARY = "dev-context"
LAST = -10  # after what else ends with a process of `multiprocessing`


class Sender:
    """One process's thread, and what it has sent. Nobody else sends."""

    def __init__(self) -> None:
        self.since = time.time_ns()
        self.failing: set[str] = set()
        self._again: list[tracing.Span] = []  # did not get through: Cloud Run may have taken the CPU away meanwhile
        self._ended = threading.Event()
        self._counted = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)

    def start(self) -> None:
        """Begin, and arrange for a good end: Granian's workers are of `multiprocessing`, which knows no `atexit`."""
        metrics.Instrument.counts = True
        self._thread.start()
        atexit.register(self.end)
        Finalize(None, self.end, exitpriority=LAST)

    def _run(self) -> None:
        while not self._ended.wait(SPANS_SECONDS):
            self._send(numbers=time.monotonic() - self._counted >= settings().metrics_seconds)
        if not self.failing:
            self._send(numbers=True)

    def end(self) -> None:
        """Have what is left sent, unless the collector was away when last asked, and wait for it a little."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(END_SECONDS)

    def _send(self, *, numbers: bool) -> None:
        """Send the spans that wait and, when they are due, the numbers. Never raises."""
        while batch := self._again or _taken():
            second, self._again = bool(self._again), []
            if self._sent("spans", export_spans, batch):
                continue
            if second:
                metrics.SPANS_LOST.add(len(batch))
            else:
                self._again = batch
            break  # the rest waits for the next time, or falls off the other end
        if numbers:
            self._counted = time.monotonic()
            self._sent("metrics", export_numbers, self.since)

    def _sent(self, what: str, export: Callable[..., bool], *given: Any) -> bool:
        """Whether it got through; the log hears of it once when that begins to fail, and once when it works again."""
        try:
            done, why = export(*given), what
        except Exception as error:  # noqa: BLE001 - whatever fails here, requests go on
            done, why = False, type(error).__name__
        if done and what in self.failing:
            self.failing.discard(what)
            log.entry("INFO", "telemetry is sent again", what=what)
        elif not done and what not in self.failing:
            self.failing.add(what)
            log.entry("WARNING", "telemetry cannot be sent", what=what, why=why)
        return done


@cache
def _sender() -> Sender:
    return Sender()


def start() -> None:
    """Send from now on, where there is a collector. Belongs into the process that serves, not into its parent."""
    if settings().telemetry_endpoint:
        _sender().start()


def end() -> None:
    """Send what is left: for a process that ends without saying so to Python."""
    if settings().telemetry_endpoint:
        _sender().end()


def _taken() -> list[tracing.Span]:
    batch: list[tracing.Span] = []
    while tracing.finished and len(batch) < BATCH:
        batch.append(tracing.finished.popleft())
    return batch


@cache
def resource() -> "Resource":
    """Who sends. `instance` is the process: numbers of two would mix otherwise.

    Without `service.namespace`: Cloud Monitoring would put it before the service's name, in the label `job`.
    Source: https://cloud.google.com/stackdriver/docs/reference/telemetry/v1.metrics
    """
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - slow to import, only where there is a collector

    known = settings()
    platform = {"cloud.platform": "gcp_cloud_run"} if known.k_revision else {}
    return Resource(
        platform
        | {
            "service.name": known.service,
            "service.instance.id": uuid.uuid4().hex,
            "service.version": known.k_revision or "none",
            "cloud.provider": "gcp",
            "cloud.region": known.region or "none",
            "gcp.project_id": known.project_id,
        }
    )


@cache
def _scope() -> Any:
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

    return InstrumentationScope(LIBRARY)


def readable(found: tracing.Span) -> "ReadableSpan":
    """A span as OpenTelemetry's exporters take it, with the attributes that may leave the house."""
    from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415

    def context(span_id: str) -> SpanContext:
        return SpanContext(int(found.trace_id, 16), int(span_id, 16), True, TraceFlags(TraceFlags.SAMPLED))

    return ReadableSpan(
        found.name,
        context(found.span_id),
        context(found.parent_id) if found.parent_id else None,
        resource(),
        tracing.harmless(found.attributes),
        kind=SpanKind[found.kind],
        status=Status(StatusCode.ERROR if found.failed else StatusCode.UNSET),
        start_time=found.start,
        end_time=found.end,
        instrumentation_scope=_scope(),
    )


def _metric(instrument: metrics.Instrument, since: int) -> "Metric":
    """An instrument's series as they are now: sums since the process began."""
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
        AggregationTemporality,
        Gauge,
        Histogram,
        HistogramDataPoint,
        Metric,
        NumberDataPoint,
        Sum,
    )

    now, points = time.time_ns(), instrument.snapshot()
    labelled = [(dict(zip(instrument.labels, values, strict=True)), numbers) for values, numbers in points.items()]
    data: Any
    if isinstance(instrument, metrics.Histogram):
        buckets = [
            HistogramDataPoint(
                labels,
                since,
                now,
                int(sum(numbers[3:])),
                numbers[0],
                [int(each) for each in numbers[3:]],
                instrument.bounds,
                numbers[1],
                numbers[2],
            )
            for labels, numbers in labelled
        ]
        data = Histogram(buckets, AggregationTemporality.CUMULATIVE)
    else:
        plain = [NumberDataPoint(labels, since, now, numbers[0]) for labels, numbers in labelled]
        data = Gauge(plain)
        if isinstance(instrument, metrics.Counter):
            data = Sum(plain, AggregationTemporality.CUMULATIVE, True)
    return Metric(instrument.name, instrument.says, instrument.unit, data)


def export_spans(batch: list[tracing.Span]) -> bool:
    """Whether the collector has taken them."""
    return bool(spans_exporter().export([readable(each) for each in batch]).name == "SUCCESS")


def export_numbers(since: int) -> bool:
    """Whether the collector has taken what was counted, sums since then, or there was nothing."""
    found = [_metric(each, since) for each in metrics.Instrument.known.values() if each.points]
    if not found:
        return True
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics  # noqa: PLC0415

    data = MetricsData([ResourceMetrics(resource(), [ScopeMetrics(_scope(), found, "")], "")])
    return bool(numbers_exporter().export(data).name == "SUCCESS")


@cache
def _session() -> Any:
    """Google's own credentials of this service; one for both exporters, as tokens cost."""
    import google.auth  # noqa: PLC0415
    from google.auth.transport.requests import AuthorizedSession  # noqa: PLC0415

    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # what fails, Sender says in our own form
    return AuthorizedSession(google.auth.default(scopes=SCOPES)[0])  # type: ignore[no-untyped-call]


@cache
def spans_exporter() -> Any:
    """OpenTelemetry's exporter of spans."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    return OTLPSpanExporter(f"{settings().telemetry_endpoint}/v1/traces", timeout=ANSWER_SECONDS, session=_session())


@cache
def numbers_exporter() -> Any:
    """OpenTelemetry's exporter of numbers."""
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415

    return OTLPMetricExporter(f"{settings().telemetry_endpoint}/v1/metrics", timeout=ANSWER_SECONDS, session=_session())
