"""Numbers over time, in the terms of OpenTelemetry: counted here in plain lists, sent by common/telemetry.py.

Labels come from closed sets (routes, codes, kinds): nothing that tells a person, an organization or an address. Without
a collector nothing is counted. Names fit Cloud Monitoring, where each becomes `prometheus.googleapis.com/<name>/…`.
Source: https://opentelemetry.io/docs/specs/otel/metrics/data-model/
"""

import re
import threading
from bisect import bisect_left
from functools import lru_cache
from typing import ClassVar

MOST_SERIES = 1000  # of one instrument and process; what comes beyond them is counted under OTHER
OTHER = "other"
CONVERTER = re.compile(r"<(?:[^<>]*:)?(\w+)>")  # of werkzeug
STEPS_OF = ("/internal/exports/", "/internal/deletions/")  # of workflows
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
FLIGHT_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0)
STEP_SECONDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0)


class Instrument:
    """What is measured under one name. `labels` name the values that every measurement tells."""

    known: ClassVar["dict[str, Instrument]"] = {}
    counts: ClassVar[bool] = False  # once there is somebody who sends it: common/telemetry.py

    def __init__(self, name: str, unit: str, says: str, labels: tuple[str, ...] = ()) -> None:
        self.name, self.unit, self.says, self.labels = name, unit, says, labels
        self.points: dict[tuple[str, ...], list[float]] = {}
        self.lock = threading.Lock()
        Instrument.known[name] = self

    def _point(self, values: tuple[str, ...], size: int) -> list[float]:
        """The numbers of a series, made where it is new. Under the lock."""
        found = self.points.get(values)
        if found is None:
            if len(self.points) >= MOST_SERIES:
                values = (OTHER,) * len(self.labels)
            found = self.points.setdefault(values, [0.0] * size)
        return found

    def snapshot(self) -> dict[tuple[str, ...], list[float]]:
        """A copy of all series."""
        with self.lock:
            return {values: list(point) for values, point in self.points.items()}


class Counter(Instrument):
    """A number that only grows."""

    def add(self, number: float, *values: str) -> None:
        """Count so many more."""
        if Instrument.counts:
            with self.lock:
                self._point(values, 1)[0] += number


class Gauge(Instrument):
    """A number as it is now."""

    def set(self, number: float, *values: str) -> None:
        """It is so many now."""
        if Instrument.counts:
            with self.lock:
                self._point(values, 1)[0] = number


class Histogram(Instrument):
    """How often a number was how large. A series is: sum, least, most, then how often up to each bound and beyond."""

    def __init__(
        self, name: str, unit: str, says: str, bounds: tuple[float, ...], labels: tuple[str, ...] = ()
    ) -> None:
        super().__init__(name, unit, says, labels)
        self.bounds = bounds

    def record(self, number: float, *values: str) -> None:
        """One measurement."""
        if not Instrument.counts:
            return
        with self.lock:
            point = self._point(values, len(self.bounds) + 4)
            first = not any(point[3:])
            point[0] += number
            point[1] = number if first else min(point[1], number)
            point[2] = max(point[2], number)
            point[3 + bisect_left(self.bounds, number)] += 1


REQUESTS = Histogram(
    "http.server.request.duration",
    "s",
    "How long requests took",
    REQUEST_SECONDS,
    ("http.request.method", "http.route", "status_class"),
)
FLIGHTS = Histogram(
    "db.client.operation.duration", "s", "How long round trips to the database took", FLIGHT_SECONDS, ("outcome",)
)
POOL_WAITS = Histogram(
    "db.client.connection.wait_time", "s", "How long requests waited for a connection of the pool", FLIGHT_SECONDS
)
POOL_TIMEOUTS = Counter("db.client.connection.timeouts", "1", "Requests that got no connection in time")
STEPS = Histogram(
    "context.job.step.duration", "s", "How long steps of jobs took", STEP_SECONDS, ("http.route", "status_class")
)
OUTBOX_AGE = Gauge("context.outbox.age", "s", "How old the oldest message is that waits in the outbox")
OUTBOX_WAITING = Gauge("context.outbox.waiting", "1", "How many messages wait in the outbox")
STREAMS = Gauge("context.streams.open", "1", "Streams and WebSockets that are open")
STREAMS_ENDED = Counter("context.streams.ended", "1", "Streams that ended, by the reason", ("reason",))
SPANS_LOST = Counter("context.telemetry.spans.lost", "1", "Spans that a full queue or a collector that is away cost")


def request(route: str, status: int, seconds: float) -> None:
    """A request was answered; `route` is `POST /v1/projects`, or `none` where nothing fits the address."""
    if Instrument.counts:
        method, path = _parts(route)
        status_class = f"{status // 100}xx"
        REQUESTS.record(seconds, method, path, status_class)
        if path.startswith(STEPS_OF):
            STEPS.record(seconds, path, status_class)


@lru_cache(maxsize=1024)
def _parts(route: str) -> tuple[str, str]:
    """Method and path template of a route."""
    method, _, path = route.partition(" ")
    return (method, template(path)) if path else (OTHER, OTHER)


def template(path: str) -> str:
    """A path as OpenTelemetry has it: `/v1/projects/{project_id}`."""
    return CONVERTER.sub(r"{\1}", path)
