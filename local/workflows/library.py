"""The part of the Workflows standard library that depends on its arguments only, and the signatures of the rest."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from local.workflows.evaluate import boolean
from local.workflows.values import INT_MAX, INT_MIN, Value, fault, integer, is_number, kind


@dataclass(frozen=True)
class Signature:
    """Parameter names in order; the first `required` must be given."""

    parameters: tuple[str, ...]
    required: int


def need(value: Value, *kinds: str) -> Value:
    """The value if its type is one of `kinds`, else TypeError of the language."""
    if kind(value) not in kinds:
        raise fault("TypeError", f"expected {' or '.join(kinds)}, got {kind(value)}")
    return value


def _length(value: Value) -> Value:
    return len(need(value, "string", "list", "map"))


def _int(value: Value) -> Value:
    need(value, "string", "double", "integer")
    try:
        return integer(int(value))
    except (ValueError, OverflowError) as error:
        raise fault("ValueError", "not an integer") from error


def _double(value: Value) -> Value:
    need(value, "string", "double", "integer")
    try:
        return float(value)
    except ValueError as error:
        raise fault("ValueError", "not a number") from error


def _string(value: Value) -> Value:
    need(value, "string", "double", "integer", "boolean")
    return value if isinstance(value, str) else json.dumps(value)


def _decode_json(data: Value) -> Value:
    try:
        return from_json(need(data, "bytes", "string"))
    except ValueError as error:
        raise fault("ValueError", "not JSON") from error


def from_json(text: str | bytes) -> Value:
    """The value of JSON text, integers beyond 64 bits as doubles. Raises ValueError, also for NaN and Infinity."""

    def whole(digits: str) -> int | float:
        number = int(digits) if len(digits) < 20 else INT_MAX + 1
        return number if INT_MIN <= number <= INT_MAX else finite(digits)

    def finite(digits: str) -> float:
        number = float(digits)
        if not math.isfinite(number):
            raise ValueError("not a number that JSON has")
        return number

    return json.loads(text, parse_int=whole, parse_float=finite, parse_constant=finite)


def to_json(value: Value) -> str:
    """The value as compact JSON; bytes cannot be encoded (TypeError of the language)."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        raise fault("TypeError", "bytes cannot be encoded as JSON") from error


def _get(source: Value, keys: Value) -> Value:
    """map.get: null instead of an error where a key, or a map on the way, is missing."""
    for key in keys if isinstance(keys, list) else [keys]:
        need(key, "string")
        if not isinstance(source, dict) or key not in source:
            return None
        source = source[key]
    return source


def _substring(source: Value, start: Value, end: Value) -> Value:
    need(source, "string")
    need(start, "integer")
    need(end, "integer")
    if not 0 <= start <= end <= len(source):
        raise fault("IndexError", "the substring is out of range")
    return source[start:end]


def _format(seconds: Value, timezone: Value = "UTC") -> Value:
    need(seconds, "integer", "double")
    try:
        zone = ZoneInfo(need(timezone, "string"))
        moment = datetime.fromtimestamp(seconds, UTC).astimezone(zone)
    except (ZoneInfoNotFoundError, ValueError, OverflowError) as error:
        raise fault("ValueError", "not a time or not a time zone") from error
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _number(value: Value) -> Value:
    return need(value, "integer", "double")


def _text(compute: Callable[..., Value]) -> Callable[..., Value]:
    return lambda *values: compute(*(need(each, "string") for each in values))


def _decoded(data: Value) -> Value:
    try:
        return need(data, "bytes").decode()
    except UnicodeDecodeError as error:
        raise fault("ValueError", "not UTF-8 text") from error


def _keys(source: Value) -> Value:
    return list(need(source, "map"))


Pure = tuple[Signature, Callable[..., Value]]
PURE: dict[str, Pure] = {
    "default": (Signature(("value", "default"), 2), lambda value, other: other if value is None else value),
    "double": (Signature(("value",), 1), _double),
    "get_type": (Signature(("value",), 1), kind),
    "if": (Signature(("condition", "ifTrue", "ifFalse"), 3), lambda test, a, b: a if boolean(test, "if") else b),
    "int": (Signature(("value",), 1), _int),
    "keys": (Signature(("map",), 1), _keys),
    "len": (Signature(("value",), 1), _length),
    "string": (Signature(("value",), 1), _string),
    "json.decode": (Signature(("data",), 1), _decode_json),
    "json.encode": (Signature(("data",), 1), lambda data: to_json(data).encode()),
    "json.encode_to_string": (Signature(("data",), 1), to_json),
    "list.concat": (Signature(("objs", "val"), 2), lambda objs, val: [*need(objs, "list"), val]),
    "list.prepend": (Signature(("objs", "val"), 2), lambda objs, val: [val, *need(objs, "list")]),
    "map.get": (Signature(("map", "keys"), 2), _get),
    "math.abs": (Signature(("x",), 1), lambda x: _checked(abs(_number(x)))),
    "math.floor": (Signature(("x",), 1), lambda x: integer(math.floor(_number(x)))),
    "math.max": (Signature(("x", "y"), 2), lambda x, y: max(_number(x), _number(y))),
    "math.min": (Signature(("x", "y"), 2), lambda x, y: min(_number(x), _number(y))),
    "text.decode": (Signature(("data",), 1), _decoded),
    "text.encode": (Signature(("text",), 1), _text(str.encode)),
    "text.replace_all": (Signature(("source", "substr", "repl"), 3), _text(str.replace)),
    "text.split": (Signature(("source", "separator"), 2), _text(lambda a, b: a.split(b) if b else list(a))),
    "text.substring": (Signature(("source", "start", "end"), 3), _substring),
    "text.to_lower": (Signature(("source",), 1), _text(str.lower)),
    "text.to_upper": (Signature(("source",), 1), _text(str.upper)),
    "text.url_encode": (Signature(("source",), 1), _text(lambda text: quote(text, safe=""))),
    "time.format": (Signature(("seconds", "timezone"), 1), _format),
}
IMPURE: dict[str, Signature] = {
    "sys.get_env": Signature(("name", "default"), 1),
    "sys.now": Signature((), 0),
    "uuid.generate": Signature((), 0),
}
_HTTP = ("url", "timeout", "body", "headers", "query", "auth")
BLOCKING: dict[str, Signature] = {
    "http.delete": Signature(_HTTP, 1),
    "http.get": Signature(("url", "timeout", "headers", "query", "auth"), 1),
    "http.patch": Signature(_HTTP, 1),
    "http.post": Signature(_HTTP, 1),
    "http.put": Signature(_HTTP, 1),
    "http.request": Signature(("url", "method", "timeout", "body", "headers", "query", "auth"), 2),
    "sys.log": Signature(("data", "severity", "text", "json"), 0),
    "sys.sleep": Signature(("seconds",), 1),
}


def _checked(value: Value) -> Value:
    return integer(value) if isinstance(value, int) else value


def retries(error: Value, codes: frozenset[int], tags: frozenset[str]) -> bool:
    """What the default predicates share: an HttpError with one of the codes, or an error with one of the tags."""
    if not isinstance(error, dict) or not isinstance(error.get("tags"), list):
        return False
    given = {tag for tag in error["tags"] if isinstance(tag, str)}
    code = error.get("code")
    return bool(given & tags) or ("HttpError" in given and is_number(code) and code in codes)


PREDICATES: dict[str, Callable[[Value], bool]] = {
    "http.default_retry_predicate": lambda error: retries(
        error, frozenset({429, 502, 503, 504}), frozenset({"ConnectionError", "ConnectionFailedError", "TimeoutError"})
    ),
    "http.default_retry_predicate_non_idempotent": lambda error: retries(
        error, frozenset({429, 503}), frozenset({"ConnectionFailedError"})
    ),
}
POLICIES = {
    "http.default_retry": "http.default_retry_predicate",
    "http.default_retry_non_idempotent": "http.default_retry_predicate_non_idempotent",
}
POLICY_MAX_RETRIES = 5
DEFAULT_BACKOFF = {"initial_delay": 1.0, "max_delay": 60.0, "multiplier": 1.25}


def signature(function: str) -> Signature | None:
    """The signature of a library function that an expression may call; None when there is none of the name."""
    if function in PURE:
        return PURE[function][0]
    return IMPURE.get(function)


def ordered(parameters: tuple[str, ...], arguments: dict[str, Value]) -> list[Value]:
    """Arguments in the order of the parameters; those after the last given one are left out."""
    last = max((number for number, name in enumerate(parameters) if name in arguments), default=-1)
    return [arguments.get(name) for name in parameters[: last + 1]]
