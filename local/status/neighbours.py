"""What other stand-ins tell over HTTP: traces, errors, alerts; and the run of a job that somebody wants now."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from local.layout import PROJECT, REGION, Layout, service_account

ANSWER_SECONDS = 2.0
ACT_SECONDS = 20.0  # what somebody asked for is not given up for a busy machine
ASKED, TRACES = 150, 40
PROBES = "/health/"  # asked by this page itself, and by whoever starts the stack
OPEN_STREAMS = "context.streams.open"
NANOSECONDS = 1e9


def fetch(
    url: str, method: str = "GET", headers: dict[str, str] | None = None, *, seconds: float = ANSWER_SECONDS
) -> tuple[int, Any]:
    """Status and JSON of an answer; 0 and None where nobody answers, None for what is not JSON."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=seconds)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    except (OSError, http.client.HTTPException):
        return 0, None
    except ValueError:
        return answer.status, None
    finally:
        connection.close()


def alerts(layout: Layout) -> dict[str, Any] | None:
    """What Cloud Monitoring counts and has found; None without it."""
    if "monitoring" not in layout.ports:
        return None
    status, document = fetch(layout.url("monitoring") + "/alerts")
    return document if status == 200 and isinstance(document, dict) else None


def traces(layout: Layout) -> dict[str, Any]:
    """The newest traces: `kept` False where none are kept. Times in seconds since 1970 and milliseconds."""
    found = _telemetry(layout, f"/traces?limit={ASKED}")
    if found is None:
        return {"kept": False, "traces": [], "streams": None}
    numbers = _telemetry(layout, "/metrics") or {}
    open_streams = [point.get("value", 0) for point in numbers.get("metrics", []) if point.get("name") == OPEN_STREAMS]
    return {
        "kept": True,
        "traces": [_trace(each) for each in found["traces"] if PROBES not in each["name"]][:TRACES],
        "streams": sum(open_streams) if open_streams else None,
    }


def _trace(each: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": each["trace_id"],
        "name": each["name"],
        "started": each["start"] / NANOSECONDS,
        "milliseconds": round((each["end"] - each["start"]) / 1e6, 2),
        "services": each["services"],
        "spans": each["spans"],
        "failed": each["failed"],
    }


def trace(layout: Layout, trace_id: str) -> dict[str, Any] | None:
    """The spans of a trace as a tree that is read from the top, with times in milliseconds from its beginning."""
    found = _telemetry(layout, f"/traces/{trace_id}")
    if found is None:
        return None
    spans = sorted(found["spans"], key=lambda span: (span["start"], -span["end"]))
    first = min(span["start"] for span in spans)
    return {
        "id": trace_id,
        "started": first / NANOSECONDS,
        "milliseconds": round((max(span["end"] for span in spans) - first) / 1e6, 2),
        "spans": [_span(span, depth, first) for span, depth in in_order(spans)],
    }


def in_order(spans: list[dict[str, Any]]) -> list[tuple[dict[str, Any], int]]:
    """Each span below its parent, with its depth. One whose parent is not there stands at the top."""
    known = {span["span_id"] for span in spans}
    below: dict[str, list[dict[str, Any]]] = {}
    for span in spans:
        below.setdefault(span["parent_id"] if span["parent_id"] in known else "", []).append(span)
    waiting = [(span, 0) for span in reversed(below.get("", []))]
    ordered = []
    while waiting:
        span, depth = waiting.pop()
        ordered.append((span, depth))
        waiting += [(child, depth + 1) for child in reversed(below.pop(span["span_id"], []))]
    return ordered


def _span(span: dict[str, Any], depth: int, first: int) -> dict[str, Any]:
    return {
        "id": span["span_id"],
        "depth": depth,
        "service": span["service"],
        "name": span["name"],
        "kind": span["kind"],
        "at": round((span["start"] - first) / 1e6, 3),
        "milliseconds": round((span["end"] - span["start"]) / 1e6, 3),
        "failed": span["failed"],
        "attributes": span["attributes"],
    }


def errors(layout: Layout) -> list[dict[str, Any]] | None:
    """What Sentry was told of, like ones together, the latest first; None without it. Of whom it tells is left out."""
    found = _telemetry(layout, f"/events?limit={ASKED}")
    if found is None:
        return None
    kinds: dict[tuple[Any, ...], dict[str, Any]] = {}
    for each in found["events"]:
        if each["type"] == "transaction":
            continue
        key = (each["service"], each["title"], each["place"])
        known = ("service", "title", "place", "transaction", "level", "at")
        kind = kinds.setdefault(key, {**{name: each[name] for name in known}, "trace": each["trace_id"], "count": 0})
        kind["count"] += 1
    return list(kinds.values())


def _telemetry(layout: Layout, path: str) -> Any:
    if "telemetry" not in layout.ports:
        return None
    status, document = fetch(layout.url("telemetry") + path)
    return document if status == 200 else None


def run_now(layout: Layout, job: str) -> int:
    """Start a job of Cloud Scheduler as its REST API does it; the status of its answer, 0 without one.

    In the name of the person who looks at the page, which is no account of the cloud's services.
    """
    from local.identity import Issuer

    token = Issuer(layout.root).access_token(service_account("person"))
    path = f"/v1/projects/{PROJECT}/locations/{REGION}/jobs/{job}:run"
    status, _ = fetch(layout.url("scheduler") + path, "POST", {"Authorization": f"Bearer {token}"}, seconds=ACT_SECONDS)
    return status
