"""Spans: what a request waited for, in the terms of OpenTelemetry. Whether a trace is kept, its id alone decides.

So every part of one trace decides alike without asking another, and no flag of a client, nor of a load balancer that
loses it, changes that. A request that is not kept costs one comparison; what is kept is noted here in plain objects,
and common/telemetry.py sends it later. Attributes are those of NAMES, their values ids of ours, numbers and classes:
nothing that tells a person, an organization, an address or a secret.
Sources: https://www.w3.org/TR/trace-context/, https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
"""

import os
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import cache, lru_cache, wraps
from types import TracebackType
from typing import ParamSpec, TypeAlias, TypeVar

from common import errors, log, metrics
from common.settings import settings

SERVER, CLIENT, PRODUCER, INTERNAL = "SERVER", "CLIENT", "PRODUCER", "INTERNAL"  # kinds, of OpenTelemetry
RANDOM_BITS = 56  # of a trace id, the last ones: W3C's second level, and OpenTelemetry's sampling by threshold
RANDOM_FROM = 18  # the hexadecimal digit at which they begin
PER_SECOND = 20  # traces that a process keeps: whoever chooses her own trace ids gets no more
WAITING = 4096  # spans that wait to be sent; beyond that the oldest are lost
MOST_BELOW = 500  # spans that a request remembers for whoever hears of it: a step of a job may make a hundred thousand
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
NAMES = frozenset(  # of attributes: nothing else is ever recorded
    {
        "context.events",  # how many of a session were appended or told
        "context.outbox.kind",  # mail, sms or workflow
        "context.problem",  # a code of docs/errors.md
        "context.rows",  # how many a COPY gave
        "db.operation.batch.size",
        "db.query.summary",
        "db.response.status_code",  # SQLSTATE
        "db.system.name",
        "error.type",  # the class of an exception, or a status
        "http.request.method",
        "http.response.status_code",
        "http.route",
    }
)
SECRET_SHAPES = re.compile(  # should one ever come by, it is not recorded: ids, addresses, tokens, long numbers
    r"[0-9a-f]{8}-[0-9a-f]{4}-|[0-9a-f]{32}|@|[0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-f:]*:[0-9a-f]*:[0-9a-f]*:"
    r"|[a-z0-9_-]{40}|[0-9]{7}",
    re.IGNORECASE,
)
LONGEST = 255  # characters of a value
Value: TypeAlias = str | int | float | bool
Given = ParamSpec("Given")
Found = TypeVar("Found")


class Span:
    """One piece of work. Times are nanoseconds since 1970, as OpenTelemetry has them."""

    __slots__ = (
        "above",
        "attributes",
        "below",
        "end",
        "failed",
        "kind",
        "name",
        "parent_id",
        "span_id",
        "start",
        "trace_id",
    )

    def __init__(
        self,
        name: str,
        kind: str,
        trace_id: str,
        parent_id: str,
        attributes: dict[str, Value],
        above: "Span | None" = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.span_id = _new_id(8)
        self.attributes = attributes
        self.above = above  # of this process and thread
        self.below: list[Span] | None = None  # of a request: what ended within it, where somebody wants to hear of it
        self.failed = False
        self.start = time.time_ns()
        self.end = 0

    def note(self, name: str, value: Value | None) -> None:
        """Remember an attribute; None is none."""
        if value is not None:
            self.attributes[name] = value


_here: ContextVar[Span | None] = ContextVar("span", default=None)
finished: deque[Span] = deque(maxlen=WAITING)
_hearing: list[Callable[[Span, list[Span]], None]] = []
NOTHING: AbstractContextManager[None] = nullcontext()


def tell(hears: Callable[[Span, list[Span]], None]) -> None:
    """Somebody hears of each request whose trace is kept from now on, and of what ended within it."""
    _hearing.append(hears)
    _sampled_from.cache_clear()


class _Allowance:
    """PER_SECOND traces in each second, of those that began without one of ours. A race of threads costs one more."""

    second = 0
    left = 0


def begin(method: str | None, place: tuple[str, str] | None) -> Span | None:
    """The span of a request, None unless its trace is kept. `place`: trace and parent, if `log.begin` found them.

    Without a method it is a message of a connection.
    """
    known = _sampled_from()
    if known is None:
        return None
    trace_id, parent_id = place or (_new_id(16), "")
    if int(trace_id[RANDOM_FROM:], 16) < known or not _allowed():
        _here.set(None)
        return None
    known_method = method if method in METHODS else "_OTHER"  # a client may send any text
    found = Span(known_method if method else "MESSAGE", SERVER, trace_id, parent_id, {})
    found.below = [] if _hearing else None
    if method:
        found.note("http.request.method", known_method)
    _here.set(found)
    log.continues(trace_id, found.span_id)
    return found


def end(found: Span, route: str, status: int, problem: str | None) -> None:
    """A request was answered: by `POST /v1/projects`, or `none`, with 201; `problem` is the code of a refusal."""
    method, _, path = route.partition(" ")
    if path:
        found.name = f"{method} {metrics.template(path)}"
        found.note("http.route", metrics.template(path))
    found.note("http.response.status_code", status)
    found.note("context.problem", problem)
    if status >= 500:
        found.failed = True
        found.note("error.type", problem or str(status))
    _here.set(None)
    _finish(found)
    for hears in _hearing:
        hears(found, found.below or [])


def here() -> Span | None:
    """The span that this thread works on, None where none is kept."""
    return _here.get()


def span(
    name: str, kind: str = CLIENT, attributes: dict[str, Value] | None = None
) -> AbstractContextManager[Span | None]:
    """A piece of work within the present one; nothing at all where that is not kept. What it raises is noted."""
    above = _here.get()
    if above is None:
        return NOTHING
    return _Open(Span(name, kind, above.trace_id, above.span_id, attributes or {}, above))


def following(
    parent: str | None, name: str, attributes: dict[str, Value] | None = None
) -> AbstractContextManager[Span | None]:
    """A message of an earlier request on its way: a span of that request's trace, if that is kept."""
    place = log.TRACEPARENT.fullmatch(parent or "")
    known = _sampled_from()
    if place is None or known is None or int(place[1][RANDOM_FROM:], 16) < known:
        return NOTHING
    return _Open(Span(name, PRODUCER, place[1], place[2], attributes or {}, _here.get()))


def traced(name: str) -> Callable[[Callable[Given, Found]], Callable[Given, Found]]:
    """Each call of the function is a span: a call of a service beyond our processes."""

    def wrap(function: Callable[Given, Found]) -> Callable[Given, Found]:
        @wraps(function)
        def call(*given: Given.args, **named: Given.kwargs) -> Found:
            with span(name):
                return function(*given, **named)

        return call

    return wrap


def traceparent() -> str | None:
    """The trace of the request that this thread works on, for what follows from it; None where there is none."""
    labels = log.trace.get() or {}
    if log.SPAN not in labels:
        return None
    return f"00-{labels[log.TRACE].rsplit('/', 1)[1]}-{labels[log.SPAN]}-{'01' if _here.get() else '00'}"


def carried(work: Callable[[], None]) -> Callable[[], None]:
    """The work for another thread, in its place in the trace and in the logs."""
    above, labels = _here.get(), log.trace.get()

    def carry() -> None:
        _here.set(above)
        log.trace.set(labels)
        work()

    return carry


class _Open:
    """A span for as long as its block lasts."""

    __slots__ = ("_span",)

    def __init__(self, opened: Span) -> None:
        self._span = opened

    def __enter__(self) -> Span:
        _here.set(self._span)
        return self._span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, places: TracebackType | None
    ) -> None:
        if _here.get() is self._span:  # else what began within it goes on: an upload, behind the rows it was made of
            above = self._span.above
            while above is not None and above.end:
                above = above.above
            _here.set(above)
        if kind is not None:
            self._span.failed = True
            code = getattr(error, "code", None)
            known = isinstance(code, str) and code in errors.CODES  # another's may be any text
            self._span.note("error.type", code if known else kind.__name__)
        _finish(self._span)


def _finish(found: Span) -> None:
    found.end = time.time_ns()
    if settings().telemetry_endpoint:
        if len(finished) == WAITING:
            metrics.SPANS_LOST.add(1)  # the oldest falls off
        finished.append(found)
    root = found.above
    while root is not None and root.above is not None:
        root = root.above
    if root is None or root.below is None or root.end or root.trace_id != found.trace_id:
        return
    if len(root.below) < MOST_BELOW:
        root.below.append(found)


def _new_id(size: int) -> str:
    return os.urandom(size).hex()


@cache
def _sampled_from() -> int | None:
    """The lowest value of a trace id's random part that is kept; None where nothing is."""
    ratio = settings().trace_sample_ratio
    if not (settings().telemetry_endpoint or _hearing) or ratio <= 0:
        return None
    return int((1 - min(ratio, 1.0)) * (1 << RANDOM_BITS))


def is_kept(trace_id: str, ratio: float) -> bool:
    """Whether a trace of this id is kept at a ratio: for whoever plays Google's part."""
    return ratio > 0 and int(trace_id[RANDOM_FROM:], 16) >= int((1 - min(ratio, 1.0)) * (1 << RANDOM_BITS))


def _allowed() -> bool:
    second = int(time.monotonic())
    if second != _Allowance.second:
        _Allowance.second, _Allowance.left = second, PER_SECOND
    _Allowance.left -= 1
    return _Allowance.left >= 0


def harmless(attributes: dict[str, Value]) -> dict[str, Value]:
    """What of the attributes may leave the house: the names of NAMES, and no text that looks like anybody's."""
    return {
        name: value[:LONGEST] if isinstance(value, str) else value
        for name, value in attributes.items()
        if name in NAMES and not (isinstance(value, str) and SECRET_SHAPES.search(value))
    }


VERB = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|MERGE|COPY|CALL|BEGIN|COMMIT|ROLLBACK|LOCK|SET|RESET)\b", re.IGNORECASE
)
TARGET = re.compile(r"\b(?:app|identity|platform)\.([a-z_]{1,63})")
SOURCE = re.compile(rf"\b(?:FROM|INTO|UPDATE|JOIN)\s+(?:ONLY\s+)?{TARGET.pattern}", re.IGNORECASE)
OF_POSTGRES = re.compile(r"\bpg_catalog\.(set_config|pg_logical_emit_message)\b")
STRING = re.compile(r"'[^']*'")


@lru_cache(maxsize=2048)
def summary(sql: str) -> str:
    """A statement in two words, such as `SELECT projects`: its verb, and the first thing of ours that it names.

    Source: https://opentelemetry.io/docs/specs/semconv/database/database-spans/#generating-a-summary-of-the-query
    """
    plain = STRING.sub("", sql).strip()
    verb = VERB.search(plain)
    target = SOURCE.search(plain) or TARGET.search(plain) or OF_POSTGRES.search(plain)
    words = [verb[0].upper() if verb else "OTHER", *([target[1]] if target else [])]
    return " ".join(words)
