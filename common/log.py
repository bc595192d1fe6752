"""Structured JSON logs in Cloud Logging's form: one line per entry on standard output, never personal data.

Source: https://cloud.google.com/logging/docs/structured-logging
"""

import json
import re
import sys
import traceback
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType

from common.settings import settings

TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
TRACE, SPAN = "logging.googleapis.com/trace", "logging.googleapis.com/spanId"
LABELS = "logging.googleapis.com/labels"
SECURITY = {"log": "security"}  # by this label a sink keeps an entry in the bucket of security logs, for its time
trace: ContextVar[dict[str, str] | None] = ContextVar("trace", default=None)


def begin(request_id: str, traceparent: str | None) -> None:
    """Remember the request's ids for the entries that follow in this thread (W3C Trace Context, level 1)."""
    labels = {"request_id": request_id}
    found = TRACEPARENT.fullmatch(traceparent or "")
    if found:
        labels[TRACE] = f"projects/{settings().project_id}/traces/{found[1]}"
        labels[SPAN] = found[2]
    trace.set(labels)


def traceparent() -> str | None:
    """The trace of the request that this thread works on, for what follows from it; None where there is none."""
    labels = trace.get() or {}
    if SPAN not in labels:
        return None
    return f"00-{labels[TRACE].rsplit('/', 1)[1]}-{labels[SPAN]}-01"


def entry(severity: str, message: str, **fields: object) -> None:
    """Write one entry. Fields hold ids, codes, counts and times only."""
    moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    record = {"severity": severity, "message": message, "time": moment, "service": settings().service}
    line = json.dumps({**record, **(trace.get() or {}), **fields}, separators=(",", ":")) + "\n"
    with suppress(OSError):  # a full disk or a closed pipe must not take the answer with it
        sys.stdout.write(line)
        sys.stdout.flush()


def security(severity: str, message: str, **fields: object) -> None:
    """Write an entry about a refusal, an attack or an operator's act: it is kept as long as security logs are."""
    entry(severity, message, **{LABELS: SECURITY}, **fields)


def failure(error: BaseException) -> None:
    """An unexpected error: its type and where it was raised. Its text may quote a person's data and is left out."""
    entry(
        "ERROR", "unexpected error", error=type(error).__name__, code=_code(error), stack=_places(error.__traceback__)
    )


def _code(error: BaseException) -> str:
    """The SQLSTATE of a database error."""
    first = error.args[0] if error.args else None
    return str(first.get("C", "")) if isinstance(first, dict) else ""


def _places(found: TracebackType | None) -> list[str]:
    return [f"{frame.filename.rsplit('/', 3)[-1]}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(found)]
