"""The expression parser and its operators, against a reference that never sees the text."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.workflows.evaluate import evaluate
from local.workflows.expressions import MAX_LENGTH, BadExpression, parse
from local.workflows.values import WorkflowError

LEVEL = {"or": 1, "and": 2, "==": 3, "!=": 3, ">=": 3, "+": 4}


@dataclass
class Operation:
    """An operation on two numbers, two truths or two further operations."""

    operator: str
    left: "Operation | int"
    right: "Operation | int"

    def text(self) -> str:
        """With the fewest parentheses that documented precedence needs."""
        level = LEVEL[self.operator]
        return f"{_side(self.left, level)} {self.operator} {_side(self.right, level + 1)}"

    def value(self) -> Any:
        left, right = (each.value() if isinstance(each, Operation) else each for each in (self.left, self.right))
        match self.operator:
            case "or":
                return left or right
            case "and":
                return left and right
            case "==":
                return left == right
            case "!=":
                return left != right
            case ">=":
                return left >= right
        return left + right


def _side(side: "Operation | int", level: int) -> str:
    if isinstance(side, Operation):
        return side.text() if LEVEL[side.operator] >= level else f"({side.text()})"
    return str(side)


class Variables:
    def read(self, name: str) -> Any:
        return {"a": 1, "m": {"k": {"x": "y"}}, "l": [1, 2]}.get(name)

    def call(self, function: str, arguments: list[Any]) -> Any:
        return [function, *arguments]


def operations(operators: list[str], sides: Any) -> Any:
    return st.builds(Operation, st.sampled_from(operators), sides, sides)


sums = st.recursive(st.integers(0, 99), lambda inner: operations(["+"], inner), max_leaves=4)
truths = st.recursive(
    operations(["==", "!=", ">="], sums), lambda inner: operations(["==", "!=", "and", "or"], inner), max_leaves=6
)


@given(st.one_of(sums, truths))
def test_values_agree_with_the_reference(operation: Operation | int) -> None:
    text = operation.text() if isinstance(operation, Operation) else str(operation)
    if len(text) > MAX_LENGTH:
        return
    expected = operation.value() if isinstance(operation, Operation) else operation
    found = evaluate(parse(text), Variables())
    assert (type(found), found) == (type(expected), expected)


FRAGMENTS = [*'().,+[$"é{\n-', "a", "m", "l", " and ", " or ", " in ", "==", "!=", ">=", "1", '"s"', "m.k", "f("]
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


@settings(max_examples=500)
@given(st.one_of(st.text(max_size=60), fragments))
def test_nothing_but_its_own_errors(text: str) -> None:
    with suppress(BadExpression, WorkflowError):
        evaluate(parse(text), Variables())


@pytest.mark.parametrize(
    "text",
    ["",
     "1 +", "(1", "a.", "f(1,", "f(1", "1 2", "a.1", "a.in", "$a", "{}", '"open', "in", "a = 1", "a != ", "1()", "a b",
     "9223372036854775808", "(" * 60 + "1" + ")" * 60, "a" * 401],
)  # fmt: skip
def test_no_expression(text: str) -> None:
    with pytest.raises(BadExpression):
        parse(text)


@pytest.mark.parametrize(
    "text",
    ["1 - 1", "1 * 1", "1 / 1", "1 // 1", "1 % 1", "-1", "1 < 2", "1 <= 2", "1 > 2", "not a", "l[0]", 'm["k"]', "[1]",
     "1.5", "1e3", "'s'", '"a\\n"', '"\\u0041"', "true", "false", "null", "True", "NULL", "a AND a", "a Or a", "1 IN l",
     "not", "f(-1)"],
)  # fmt: skip
def test_what_our_workflows_do_not_write_is_refused(text: str) -> None:
    with pytest.raises(BadExpression):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("m.k.x", "y"),
        ("f()", ["f"]),
        ("map.get(a, m.k)", ["map.get", 1, {"x": "y"}]),
        ("1 in l and a == 1", True),
        ('"x" in m.k', True),
        ('"a" + "" + "b"', "ab"),
        ("(1 + 2) == 3", True),
    ],
)
def test_read(text: str, value: Any) -> None:
    assert evaluate(parse(text), Variables()) == value
