"""Evaluation of expression trees. Types are strict, as documented: only an integer becomes a double by itself."""

import math
from collections.abc import Callable
from typing import Protocol

from local.workflows.expressions import Binary, Call, Index, Literal, Member, Name, Node, Unary
from local.workflows.values import Value, fault, integer, is_number, kind, same


class Names(Protocol):
    """Where an expression finds its variables and functions."""

    def read(self, name: str) -> Value:
        """The value of a variable; KeyError of the language when it has none yet."""

    def call(self, function: str, arguments: list[Value]) -> Value:
        """The result of a library function."""


def evaluate(node: Node, names: Names) -> Value:  # noqa: C901 (one case per kind of node)
    """The value of an expression; WorkflowError for what the language calls a runtime error."""
    match node:
        case Literal(value):
            return value
        case Name(name):
            return names.read(name)
        case Member(owner, key):
            return item(evaluate(owner, names), key)
        case Index(owner, key_node):
            return item(evaluate(owner, names), evaluate(key_node, names))
        case Call(function, arguments):
            return names.call(function, [evaluate(each, names) for each in arguments])
        case Unary("not", operand):
            return not boolean(evaluate(operand, names), "not")
        case Unary(_, operand):
            return _negated(evaluate(operand, names))
        case Binary("and", left, right):
            return boolean(evaluate(left, names), "and") and boolean(evaluate(right, names), "and")
        case Binary("or", left, right):
            return boolean(evaluate(left, names), "or") or boolean(evaluate(right, names), "or")
        case Binary(operator, left, right):
            return OPERATORS[operator](evaluate(left, names), evaluate(right, names))


def item(owner: Value, key: Value) -> Value:
    """`owner[key]`: a map by string, a list by integer from 0."""
    if isinstance(owner, dict):
        if not isinstance(key, str):
            raise fault("TypeError", f"a map is read by string, not by {kind(key)}")
        if key not in owner:
            raise fault("KeyError", f"key not found: {key}")
        return owner[key]
    if isinstance(owner, list):
        return owner[position(owner, key)]
    raise fault("TypeError", f"cannot read {key!r} of a value of type {kind(owner)}")


def position(items: list[Value], key: Value) -> int:
    """The index if it is one of the list's, else TypeError or IndexError of the language."""
    if not isinstance(key, int) or isinstance(key, bool):
        raise fault("TypeError", f"a list is read by integer, not by {kind(key)}")
    if not 0 <= key < len(items):
        raise fault("IndexError", f"index {key} is out of range of a list of {len(items)}")
    return key


def boolean(value: Value, where: str) -> bool:
    """The value if it is a boolean; logic has no truthiness."""
    if not isinstance(value, bool):
        raise fault("TypeError", f"{where} needs a boolean, not {kind(value)}")
    return value


def _negated(value: Value) -> Value:
    if not is_number(value):
        raise fault("TypeError", f"cannot negate a value of type {kind(value)}")
    return integer(-value) if isinstance(value, int) else -value


def _numbers(symbol: str, left: Value, right: Value) -> None:
    if not (is_number(left) and is_number(right)):
        raise fault("TypeError", f"{kind(left)} {symbol} {kind(right)} is not defined")


def _result(value: int | float) -> Value:
    if isinstance(value, int):
        return integer(value)
    if not math.isfinite(value):
        raise fault("ValueError", "the result does not fit in a double")
    return value


def add(left: Value, right: Value) -> Value:
    """Sum of numbers or concatenation of strings."""
    if isinstance(left, str) and isinstance(right, str):
        return left + right
    _numbers("+", left, right)
    return _result(left + right)


def _arithmetic(symbol: str, compute: Callable[[Value, Value], int | float]) -> Callable[[Value, Value], Value]:
    def operation(left: Value, right: Value) -> Value:
        _numbers(symbol, left, right)
        if symbol in ("/", "//", "%") and right == 0:
            raise fault("ZeroDivisionError", "division by zero")
        try:
            return _result(compute(left, right))
        except OverflowError as error:
            raise fault("ValueError", "the result does not fit in a double") from error

    return operation


def _comparison(symbol: str, compare: Callable[[Value, Value], bool]) -> Callable[[Value, Value], Value]:
    def operation(left: Value, right: Value) -> Value:
        if not (isinstance(left, str) and isinstance(right, str)):
            _numbers(symbol, left, right)
        return compare(left, right)

    return operation


def contains(needle: Value, haystack: Value) -> Value:
    """`needle in haystack`: an element of a list, or a key of a map."""
    if isinstance(haystack, list):
        return any(same(needle, each) for each in haystack)
    if isinstance(haystack, dict):
        return isinstance(needle, str) and needle in haystack
    raise fault("TypeError", f"in needs a list or a map, not {kind(haystack)}")


OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    "+": add,
    "-": _arithmetic("-", lambda a, b: a - b),
    "*": _arithmetic("*", lambda a, b: a * b),
    "/": _arithmetic("/", lambda a, b: a / b),
    "//": _arithmetic("//", lambda a, b: a // b),
    "%": _arithmetic("%", lambda a, b: a % b),
    "<": _comparison("<", lambda a, b: bool(a < b)),
    "<=": _comparison("<=", lambda a, b: bool(a <= b)),
    ">": _comparison(">", lambda a, b: bool(a > b)),
    ">=": _comparison(">=", lambda a, b: bool(a >= b)),
    "==": same,
    "!=": lambda a, b: not same(a, b),
    "in": contains,
}
