"""Structured JSON logs in Cloud Logging's form: one line per entry on standard output, never personal data.

Source: https://cloud.google.com/logging/docs/structured-logging
"""

import json
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

from common.settings import settings

TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
TRACE, SPAN = "logging.googleapis.com/trace", "logging.googleapis.com/spanId"
LABELS = "logging.googleapis.com/labels"
SECURITY = {"log": "security"}  # by this label a sink keeps an entry in the bucket of security logs, for its time
UNEXPECTED = "unexpected error"
trace: ContextVar[dict[str, str] | None] = ContextVar("trace", default=None)


_hearing: list[Callable[[str, str], None]] = []


def tell(hears: Callable[[str, str], None]) -> None:
    """Somebody hears of every entry from now on: its severity and its message, which is a constant of the code."""
    _hearing.append(hears)


def begin(request_id: str, traceparent: str | None) -> tuple[str, str] | None:
    """Remember the request's ids for the entries that follow in this thread (W3C Trace Context, level 1).

    Answers the trace's id and the sender's span, None where there is no trace.
    """
    trace.set({"request_id": request_id})
    found = TRACEPARENT.fullmatch(traceparent or "")
    if not found:
        return None
    continues(found[1], found[2])
    return found[1], found[2]


def continues(trace_id: str, span_id: str) -> None:
    """What follows in this thread belongs to this span of a trace."""
    labels = {TRACE: f"projects/{settings().project_id}/traces/{trace_id}", SPAN: span_id}
    trace.set((trace.get() or {}) | labels)


def entry(severity: str, message: str, **fields: object) -> None:
    """Write one entry. Fields hold ids, codes, counts and times only."""
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    record = {"severity": severity, "message": message, "time": moment, "service": settings().service}
    line = json.dumps({**record, **(trace.get() or {}), **fields}, separators=(",", ":")) + "\n"
    with suppress(OSError):  # a full disk or a closed pipe must not take the answer with it
        sys.stdout.write(line)
        sys.stdout.flush()
    for hears in _hearing:
        hears(severity, message)


def security(severity: str, message: str, **fields: object) -> None:
    """Write an entry about a refusal, an attack or an operator's act: it is kept as long as security logs are."""
    entry(severity, message, **{LABELS: SECURITY}, **fields)


def failure(error: BaseException) -> None:
    """An unexpected error: its type and where it was raised. Its text may quote a person's data and is left out."""
    entry("ERROR", UNEXPECTED, error=type(error).__name__, code=sqlstate(error), stack=_places(error.__traceback__))


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of a database error."""
    first = error.args[0] if error.args else None
    return str(first.get("C", "")) if isinstance(first, dict) else ""


def _places(found: TracebackType | None) -> list[str]:
    return [f"{frame.filename.rsplit('/', 3)[-1]}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(found)]
