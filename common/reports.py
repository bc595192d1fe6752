"""What Sentry is told: events made of types, places, codes and ids of ours, and the allowlist that each has to pass.

No text of an exception, no value of a variable, no part of a request: whose data those are, nobody knows here. People
and organizations are pseudonyms that this service's own key makes, so Sentry counts how many an error meets and can
name none; a turned key ends them.
Source: https://develop.sentry.dev/sdk/data-model/event-payloads/
"""

import hmac
import re
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common import log, metrics, secrets, tracing
from common.settings import settings
from common.tokens import Claim, database_role

ROOT = Path(__file__).parent.parent
OURS = ("common", "functions", "sessions", "migrations")
MOST_FRAMES, MOST_CAUSES = 100, 5
Json = dict[str, Any]

HEX = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")
PSEUDONYM = re.compile(r"[0-9a-f]{16}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAME = re.compile(r"[A-Za-z_<][A-Za-z0-9_.<>]{0,99}")
FILE = re.compile(r"([A-Za-z0-9_.-]{1,60}/){0,6}[A-Za-z0-9_-]{1,60}\.py|<[a-z_. ]{1,60}>")
WORDS = re.compile(r"[A-Za-z][A-Za-z ,.':-]{0,99}")  # of our own lines of the log
TITLE = re.compile(r"[A-Za-z_][A-Za-z0-9_ ,;/{}.-]{0,199}")  # routes as templates, names of spans
ATTRIBUTE = re.compile(r"[A-Za-z0-9_ ,;/{}.-]{1,255}")
SQLSTATE = re.compile(r"[A-Z0-9]{5}")
RELEASE = re.compile(r"dev-context@[A-Za-z0-9_.-]{1,80}")
PLACE = re.compile(r"[a-z][a-z0-9-]{0,40}")  # a project, a service
VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}")
STATUSES = {400: "invalid_argument", 401: "unauthenticated", 403: "permission_denied", 404: "not_found"}
STATUSES |= {409: "already_exists", 429: "resource_exhausted", 503: "unavailable", 504: "deadline_exceeded"}


def failure(error: BaseException, route: str, claim: Claim | None) -> Json:
    """The event of an unexpected error: the types of it and its causes, and where in the code each was raised."""
    found = _event("error") | {"transaction": _title(route), "exception": {"values": _causes(error)}}
    found["tags"] |= {"sqlstate": log.sqlstate(error)}
    if claim is not None and claim.kind != "s":
        found["user"] = {"id": pseudonym("user", claim.principal_id)}
    if claim is not None:
        found["tags"]["organization"] = pseudonym("organization", claim.tenant_id)
    return allowed(found)


def line(severity: str, message: str) -> Json:
    """The event of a line of the log that is ERROR or CRITICAL: its message, which is a constant of the code."""
    level = "fatal" if severity == "CRITICAL" else "error"
    return allowed(_event(level) | {"logentry": {"message": message}})


def transaction(root: tracing.Span, parts: list[tracing.Span]) -> Json:
    """The event of a request whose trace is kept, with what it waited for. Times are seconds since 1970."""
    attributes = tracing.harmless(root.attributes)
    status = int(attributes.get("http.response.status_code", 200))
    where = {"trace_id": root.trace_id, "span_id": root.span_id, "parent_span_id": root.parent_id, "data": attributes}
    where |= {"op": "http.server", "status": STATUSES.get(status, "ok" if status < 400 else "internal_error")}
    return allowed(
        _event("info")
        | _times(root)
        | {
            "type": "transaction",
            "transaction": root.name,
            "transaction_info": {"source": "route"},
            "contexts": {"trace": where},
            "spans": [_part(each) for each in parts[: tracing.MOST_BELOW]],
        }
    )


def _event(level: str) -> Json:
    """What every event tells: when, which service, and by which id the entries of the log are found."""
    labels = log.trace.get() or {}
    found: Json = {
        "event_id": uuid.uuid4().hex,
        "timestamp": time.time(),
        "platform": "python",
        "level": level,
        "release": f"dev-context@{settings().release or settings().k_revision or 'unknown'}",
        "environment": settings().project_id or "none",
        "tags": {"service": settings().service, "request_id": labels.get("request_id")},
    }
    if log.SPAN in labels:
        found["contexts"] = {
            "trace": {"trace_id": labels[log.TRACE].rsplit("/", 1)[1], "span_id": labels[log.SPAN]},
        }
    return found


def pseudonym(kind: str, id: str) -> str | None:
    """16 hexadecimal digits that stand for somebody until this service's key is turned; none of nobody.

    None without the key, too: an error is told when the secrets are what is broken.
    """
    try:
        key = secrets.ring(f"context-key-{database_role()}").signer.secret
    except (OSError, LookupError, ValueError):
        return None
    return hmac.digest(key, f"sentry {kind} {id}".encode(), "sha256").hex()[:16] if id and key else None


def _causes(error: BaseException) -> list[Json]:
    """The error and what it came of, the first cause first, as Sentry wants them."""
    found: list[Json] = []
    each: BaseException | None = error
    while each is not None and len(found) < MOST_CAUSES:
        frames = traceback.StackSummary.extract(traceback.walk_tb(each.__traceback__), lookup_lines=False)
        kind = {"type": type(each).__name__, "module": type(each).__module__}
        found.append(kind | {"stacktrace": {"frames": [_frame(frame) for frame in frames[-MOST_FRAMES:]]}})
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return found[::-1]


def _frame(frame: traceback.FrameSummary) -> Json:
    path = Path(frame.filename)
    if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in OURS:
        return {"filename": str(path.relative_to(ROOT)), "function": frame.name, "lineno": frame.lineno, "in_app": True}
    file = "/".join(path.parts[-3:]).lstrip("/")
    return {"filename": file, "function": frame.name, "lineno": frame.lineno, "in_app": False}


def _part(span: tracing.Span) -> Json:
    attributes = tracing.harmless(span.attributes)
    op = "db" if "db.system.name" in attributes else "http.client" if span.kind == tracing.CLIENT else "function"
    ids = {"trace_id": span.trace_id, "span_id": span.span_id, "parent_span_id": span.parent_id}
    told = {"op": op, "description": span.name, "status": "internal_error" if span.failed else "ok", "data": attributes}
    return ids | told | _times(span)


def _times(span: tracing.Span) -> Json:
    return {"start_timestamp": span.start / 1e9, "timestamp": span.end / 1e9}


def _title(route: str) -> str:
    method, _, path = route.partition(" ")
    return f"{method} {metrics.template(path)}" if path else "none"


# The allowlist: what stands here and has the shape that stands here may leave the house, and nothing else.

Rule = Callable[[Any], Any]  # what may be told of a value, None for nothing


def _text(shape: re.Pattern[str]) -> Rule:
    return lambda value: value if isinstance(value, str) and shape.fullmatch(value) else None


def _named(shape: re.Pattern[str]) -> Rule:
    """A text of this shape that does not look like anybody's."""
    return lambda value: value if _text(shape)(value) and not tracing.SECRET_SHAPES.search(value) else None


def _one_of(*known: str) -> Rule:
    return lambda value: value if isinstance(value, str) and value in known else None


def _number(value: Any) -> int | float | None:
    return value if isinstance(value, int | float) and 0 <= value < 1e11 else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _only(**rules: Rule) -> Rule:
    """An object with these members alone, each by its rule."""

    def told(value: Any) -> Json | None:
        if not isinstance(value, Mapping):
            return None
        found = {name: rule(value.get(name)) for name, rule in rules.items()}
        return {name: each for name, each in found.items() if each is not None}

    return told


def _each(rule: Rule, most: int) -> Rule:
    return lambda value: [rule(each) or {} for each in value[:most]] if isinstance(value, list) else None


def _attributes(value: Any) -> Json | None:
    """Of a span: those of tracing.NAMES, as traces have them."""
    if not isinstance(value, Mapping):
        return None
    simple = {name: each for name, each in value.items() if isinstance(each, str | int | float | bool)}
    return {name: each for name, each in tracing.harmless(simple).items() if _attribute(each)}


def _attribute(value: tracing.Value) -> bool:
    return not isinstance(value, str) or ATTRIBUTE.fullmatch(value) is not None


_STATUS = _one_of("ok", "internal_error", *STATUSES.values())
_IDS: dict[str, Rule] = {"trace_id": _text(HEX), "span_id": _text(HEX), "parent_span_id": _text(HEX)}
_SPAN: dict[str, Rule] = {"op": _one_of("http.server", "http.client", "db", "function"), "status": _STATUS}
_WHEN: dict[str, Rule] = {"start_timestamp": _number, "timestamp": _number}
_FRAME = _only(filename=_text(FILE), function=_named(NAME), lineno=_number, in_app=_flag)
_EXCEPTION = _only(
    type=_named(NAME), module=_named(NAME), stacktrace=_only(frames=_each(_FRAME, MOST_FRAMES))
)  # `value`, the text, is missing on purpose
_allowed: Rule = _only(
    event_id=_text(HEX),
    type=_one_of("transaction"),
    platform=_one_of("python"),
    level=_one_of("fatal", "error", "info"),
    release=_text(RELEASE),
    environment=_named(PLACE),
    transaction=_named(TITLE),
    transaction_info=_only(source=_one_of("route")),
    logentry=_only(message=_named(WORDS)),
    tags=_only(service=_named(PLACE), request_id=_text(UUID), sqlstate=_text(SQLSTATE), organization=_text(PSEUDONYM)),
    user=_only(id=_text(PSEUDONYM)),
    exception=_only(values=_each(_EXCEPTION, MOST_CAUSES)),
    contexts=_only(trace=_only(**_IDS, **_SPAN, data=_attributes)),
    spans=_each(_only(**_IDS, **_SPAN, **_WHEN, description=_named(TITLE), data=_attributes), tracing.MOST_BELOW),
    sdk=_only(name=_one_of("sentry.python"), version=_text(VERSION)),
    **_WHEN,
)


def allowed(event: Mapping[str, Any]) -> Json:
    """What of an event may leave the house."""
    found: Json = _allowed(event)
    return found
