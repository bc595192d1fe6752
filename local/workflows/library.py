"""The functions of the Workflows standard library that our workflows use."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from local.workflows.values import INT_MAX, INT_MIN, Value, fault, kind


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


Pure = tuple[Signature, Callable[..., Value]]
PURE: dict[str, Pure] = {
    "get_type": (Signature(("value",), 1), kind),
    "map.get": (Signature(("map", "keys"), 2), _get),
}
GET_ENV = "sys.get_env"
_HTTP = Signature(("url", "timeout", "body", "headers", "query", "auth"), 1)
CALLS: dict[str, Signature] = {
    "http.delete": _HTTP,
    "http.get": Signature(("url", "timeout", "headers", "query", "auth"), 1),
    "http.patch": _HTTP,
    "http.post": _HTTP,
    "http.put": _HTTP,
}
FUNCTIONS: dict[str, Signature] = {
    **{name: signature for name, (signature, _) in PURE.items()},
    GET_ENV: Signature(("name", "default"), 1),
}
