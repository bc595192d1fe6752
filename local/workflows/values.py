"""The values of the Workflows language: JSON types and bytes, their sizes, equality, and its errors."""

from typing import Any

MAX_MEMORY = 512 * 1024
MAX_STEPS = 100_000
INT_MAX = 2**63 - 1
INT_MIN = -(2**63)

Value = Any
"""None, bool, int, float, str, bytes, list of values or dict of str to value."""


class WorkflowError(Exception):
    """An error that a workflow can catch; `payload` is what `except … as e` receives: a map or a string."""

    def __init__(self, payload: Value) -> None:
        super().__init__(payload)
        self.payload = payload
        self.trace: list[tuple[str, str, int, int]] = []


def fault(tag: str, message: str, **more: Value) -> WorkflowError:
    """A runtime error as its documented map: `message`, `tags` and, for HttpError, `code`, `headers`, `body`."""
    return WorkflowError({"message": f"{tag}: {message}", "tags": [tag], **more})


def kind(value: Value) -> str:
    """The name of a value's type, as get_type names it."""
    if value is None:
        return "null"
    names = {bool: "boolean", int: "integer", float: "double", str: "string", bytes: "bytes", list: "list", dict: "map"}
    return names[type(value)]


def is_number(value: Value) -> bool:
    """True for integers and doubles; a boolean is not a number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def integer(value: int) -> int:
    """The value itself if it is a signed 64-bit integer, else a ValueError of the language."""
    if not INT_MIN <= value <= INT_MAX:
        raise fault("ValueError", "the result does not fit in a 64-bit integer")
    return value


def same(left: Value, right: Value) -> bool:
    """Equality of the language: numbers compare by value, other types only with their own."""
    if is_number(left) and is_number(right):
        return bool(left == right)
    if type(left) is not type(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def size(value: Value) -> int:
    """Memory of a value in bytes, by the table of the Variables page: 8 for a scalar, 8 + content for the rest."""
    if isinstance(value, str):
        return 8 + len(value.encode())
    if isinstance(value, bytes):
        return 8 + len(value)
    if isinstance(value, list):
        return 8 + sum(size(each) for each in value)
    if isinstance(value, dict):
        return 8 + sum(size(key) + size(each) for key, each in value.items())
    return 8
