"""Evaluation of expression trees. Types are strict, as documented: only an integer becomes a double by itself."""

import math
from collections.abc import Callable
from typing import Protocol

from local.workflows.expressions import Binary, Call, Literal, Member, Name, Node
from local.workflows.values import Value, fault, integer, is_number, kind, same


class Names(Protocol):
    """Where an expression finds its variables and functions."""

    def read(self, name: str) -> Value:
        """The value of a variable; KeyError of the language when it has none yet."""

    def call(self, function: str, arguments: list[Value]) -> Value:
        """The result of a library function."""


def evaluate(node: Node, names: Names) -> Value:
    """The value of an expression; WorkflowError for what the language calls a runtime error."""
    match node:
        case Literal(value):
            return value
        case Name(name):
            return names.read(name)
        case Member(owner, key):
            return item(evaluate(owner, names), key)
        case Call(function, arguments):
            return names.call(function, [evaluate(each, names) for each in arguments])
        case Binary("and", left, right):
            return boolean(evaluate(left, names), "and") and boolean(evaluate(right, names), "and")
        case Binary("or", left, right):
            return boolean(evaluate(left, names), "or") or boolean(evaluate(right, names), "or")
        case Binary(operator, left, right):
            return OPERATORS[operator](evaluate(left, names), evaluate(right, names))


def item(owner: Value, key: str) -> Value:
    """`owner.key` of a map."""
    if not isinstance(owner, dict):
        raise fault("TypeError", f"cannot read {key!r} of a value of type {kind(owner)}")
    if key not in owner:
        raise fault("KeyError", f"key not found: {key}")
    return owner[key]


def boolean(value: Value, where: str) -> bool:
    """The value if it is a boolean; logic has no truthiness."""
    if not isinstance(value, bool):
        raise fault("TypeError", f"{where} needs a boolean, not {kind(value)}")
    return value


def _numbers(symbol: str, left: Value, right: Value) -> None:
    if not (is_number(left) and is_number(right)):
        raise fault("TypeError", f"{kind(left)} {symbol} {kind(right)} is not defined")


def add(left: Value, right: Value) -> Value:
    """Sum of numbers or concatenation of strings."""
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    _numbers("+", left, right)
    total = left + right
    if isinstance(total, int):
        return integer(total)
    if not math.isfinite(total):
        raise fault("ValueError", "the result does not fit in a double")
    return total


def at_least(left: Value, right: Value) -> Value:
    """`left >= right`, of numbers or of strings."""
    if not (isinstance(left, str) and isinstance(right, str)):
        _numbers(">=", left, right)
    return bool(left >= right)


def contains(needle: Value, haystack: Value) -> Value:
    """`needle in haystack`: an element of a list, or a key of a map."""
    if isinstance(haystack, list):
        return any(same(needle, each) for each in haystack)
    if isinstance(haystack, dict):
        return isinstance(needle, str) and needle in haystack
    raise fault("TypeError", f"in needs a list or a map, not {kind(haystack)}")


OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    "+": add,
    ">=": at_least,
    "==": same,
    "!=": lambda a, b: not same(a, b),
    "in": contains,
}
