"""The expression parser and its arithmetic, against a reference that never sees the text."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.workflows.evaluate import evaluate
from local.workflows.expressions import MAX_LENGTH, BadExpression, parse
from local.workflows.values import WorkflowError

LEVEL = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2}


@dataclass
class Sum:
    """A number, or an operation on two sums."""

    operator: str
    left: "Sum | int"
    right: "Sum | int"

    def text(self) -> str:
        """With the fewest parentheses that documented precedence needs."""
        level = LEVEL[self.operator]
        return f"{_side(self.left, level)} {self.operator} {_side(self.right, level + 1)}"

    def value(self) -> Any:
        left, right = (each.value() if isinstance(each, Sum) else each for each in (self.left, self.right))
        match self.operator:
            case "+":
                return left + right
            case "-":
                return left - right
            case "*":
                return left * right
            case "/":
                return left / right
            case "//":
                return left // right
        return left % right


def _side(side: "Sum | int", level: int) -> str:
    if isinstance(side, Sum):
        return side.text() if LEVEL[side.operator] >= level else f"({side.text()})"
    return str(side)


class Variables:
    def read(self, name: str) -> Any:
        return {"a": 1, "m": {"k": [1, {"x": "y"}]}, "l": [1, 2]}.get(name)

    def call(self, function: str, arguments: list[Any]) -> Any:
        return [function, *arguments]


sums = st.recursive(
    st.integers(-99, 99),
    lambda inner: st.builds(Sum, st.sampled_from(sorted(LEVEL)), inner, inner),
    max_leaves=12,
)


@given(sums)
def test_arithmetic_agrees_with_the_reference(sum_: Sum | int) -> None:
    text = sum_.text() if isinstance(sum_, Sum) else str(sum_)
    if len(text) > MAX_LENGTH:
        return
    try:
        expected = sum_.value() if isinstance(sum_, Sum) else sum_
    except ZeroDivisionError:
        expected = "ZeroDivisionError"
    try:
        found = evaluate(parse(text), Variables())
    except WorkflowError as error:
        found = error.payload["tags"][0]
    if found == "ValueError":
        assert not -(2**63) <= expected < 2**63 or isinstance(expected, float)
    elif expected != "ZeroDivisionError" or found != "ValueError":
        assert (type(found), found) == (type(expected), expected)


FRAGMENTS = [*'()[].,<%$\\"é{\n-', "a", "m", "l", "not ", " and ", " or ", " in ", "==", "//", "1", "2.5", '"s"', "'t'"]
FRAGMENTS += ["true", "null", "m.k", "l[0]", "f(", "1e999"]
fragments = st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join)


@settings(max_examples=500)
@given(st.one_of(st.text(max_size=60), fragments))
def test_nothing_but_its_own_errors(text: str) -> None:
    with suppress(BadExpression, WorkflowError):
        evaluate(parse(text), Variables())


@pytest.mark.parametrize(
    "text",
    ["",
     "1 +", "(1", "a.", "a[", "a[1", "f(1,", "1 2", "a.1", "And", "$a", "{}", "[1]", '"open', "not", "a = 1", "a != ",
     "1()", '"\\q"', "9223372036854775808", "(" * 60 + "1" + ")" * 60, "a" * 401],
)  # fmt: skip
def test_refused(text: str) -> None:
    with pytest.raises(BadExpression):
        evaluate(parse(text), Variables()) if text != "And" else parse("a And b")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('m.k[1]["x"]', "y"),
        ("m.k[a].x", "y"),
        ('"\\u0041"', None),
        ("text.split(a, l[1])", ["text.split", 1, 2]),
        ("-l[1] * 2", -4),
        ("1e3", 1000.0),
        ("not a == 1 in l", None),
    ],
)
def test_read(text: str, value: Any) -> None:
    if value is None:
        with pytest.raises((BadExpression, WorkflowError)):
            evaluate(parse(text), Variables())
    else:
        assert evaluate(parse(text), Variables()) == value
