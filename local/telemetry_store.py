"""What the stand-in of the Telemetry API keeps: the newest traces in SQLite, the last numbers in memory."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_SPANS = 20_000
MOST_SERIES = 20_000
SLACK = 500  # spans above the limit before the oldest go
KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
FAILED = 2  # status code ERROR

Json = dict[str, Any]


def spans(message: Any) -> list[Json]:
    """The spans of an ExportTraceServiceRequest, each with the service that sent it."""
    return [
        {
            "trace_id": span.trace_id.hex(),
            "span_id": span.span_id.hex(),
            "parent_id": span.parent_span_id.hex(),
            "service": resource.get("service.name", ""),
            "name": span.name,
            "kind": KINDS[span.kind],
            "start": span.start_time_unix_nano,
            "end": span.end_time_unix_nano,
            "failed": span.status.code == FAILED,
            "attributes": _attributes(span.attributes),
        }
        for resource, scoped in _resources(message.resource_spans)
        for part in scoped.scope_spans
        for span in part.spans
    ]


def points(message: Any) -> list[Json]:
    """The numbers of an ExportMetricsServiceRequest, one per series."""
    found = []
    for resource, scoped in _resources(message.resource_metrics):
        sender = {"service": resource.get("service.name", ""), "instance": resource.get("service.instance.id", "")}
        for part in scoped.scope_metrics:
            for metric in part.metrics:
                kind = metric.WhichOneof("data")
                about = {"name": metric.name, "unit": metric.unit, "kind": kind, "description": metric.description}
                found += [sender | about | _numbers(kind, each) for each in getattr(metric, kind).data_points]
    return found


def _numbers(kind: str, point: Any) -> Json:
    shared = {"labels": _attributes(point.attributes), "at": point.time_unix_nano, "since": point.start_time_unix_nano}
    if kind != "histogram":
        return shared | {"value": getattr(point, str(point.WhichOneof("value")))}
    numbers = {"count": point.count, "sum": point.sum, "min": point.min, "max": point.max}
    return shared | numbers | {"bounds": list(point.explicit_bounds), "buckets": list(point.bucket_counts)}


def _resources(parts: Any) -> Iterator[tuple[Json, Any]]:
    for part in parts:
        yield _attributes(part.resource.attributes), part


def _attributes(pairs: Any) -> Json:
    return {pair.key: getattr(pair.value, str(pair.value.WhichOneof("value"))) for pair in pairs}


class Store:
    """Spans on disk, so that a restart shows what led to it; numbers come again within the minute."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "spans.db", isolation_level=None)
        self._database.executescript(
            """
            PRAGMA journal_mode = WAL;
            PRAGMA synchronous = NORMAL;
            CREATE TABLE IF NOT EXISTS spans (
                place INTEGER PRIMARY KEY AUTOINCREMENT, trace_id TEXT, span_id TEXT UNIQUE, document TEXT
            );
            CREATE INDEX IF NOT EXISTS spans_by_trace ON spans (trace_id);
            """
        )
        self._points: dict[str, Json] = {}

    def close(self) -> None:
        """End."""
        self._database.close()

    def add_spans(self, found: list[Json]) -> None:
        """Keep spans; one that was sent twice is one."""
        rows = [(each["trace_id"], each["span_id"], json.dumps(each)) for each in found]
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO spans (trace_id, span_id, document) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", rows
        )
        self._database.execute("COMMIT")
        kept = self._database.execute("SELECT count(*) FROM spans").fetchone()[0]
        if kept > MOST_SPANS + SLACK:
            self._database.execute("DELETE FROM spans WHERE place <= (SELECT max(place) FROM spans) - ?", (MOST_SPANS,))

    def trace(self, trace_id: str) -> list[Json]:
        """The spans of a trace by their beginning."""
        rows = self._database.execute("SELECT document FROM spans WHERE trace_id = ?", (trace_id,))
        return sorted((json.loads(row[0]) for row in rows), key=lambda span: (span["start"], -span["end"]))

    def traces(self, limit: int) -> list[Json]:
        """The traces that were added to last, the newest first."""
        rows = self._database.execute(
            "SELECT trace_id FROM spans GROUP BY trace_id ORDER BY max(place) DESC LIMIT ?", (limit,)
        ).fetchall()
        return [_told(self.trace(row[0])) for row in rows]

    def add_points(self, found: list[Json]) -> None:
        """Keep the last numbers of each series."""
        for each in found:
            series = json.dumps([each["name"], each["service"], each["instance"], each["labels"]], sort_keys=True)
            self._points.pop(series, None)
            self._points[series] = each
        while len(self._points) > MOST_SERIES:
            del self._points[next(iter(self._points))]

    def points(self) -> list[Json]:
        """The last numbers of each series."""
        return sorted(self._points.values(), key=lambda each: (each["name"], each["service"], str(each["labels"])))


def _told(found: list[Json]) -> Json:
    """A trace in a line: the name is that of the first span whose parent is not in it."""
    known = {span["span_id"] for span in found}
    root = next((span for span in found if span["parent_id"] not in known), found[0])
    return {
        "trace_id": root["trace_id"],
        "name": root["name"],
        "start": min(span["start"] for span in found),
        "end": max(span["end"] for span in found),
        "services": sorted({span["service"] for span in found}),
        "spans": len(found),
        "failed": any(span["failed"] for span in found),
    }
