"""Parser of `${…}`: text to a small tree. Precedence as the Data types page lists it: `not` binds tighter than `==`."""

import re
from dataclasses import dataclass
from typing import Any

MAX_LENGTH = 400
MAX_NESTING = 50


class BadExpression(Exception):
    """The text is not an expression of the language."""


@dataclass(frozen=True)
class Literal:
    """A number, string, boolean or null."""

    value: Any


@dataclass(frozen=True)
class Name:
    """A variable, or the first part of a dotted function name."""

    name: str


@dataclass(frozen=True)
class Member:
    """`owner.key`."""

    owner: "Node"
    key: str


@dataclass(frozen=True)
class Index:
    """`owner[key]`."""

    owner: "Node"
    key: "Node"


@dataclass(frozen=True)
class Call:
    """`function(arguments)`; the function's dotted name is already joined."""

    function: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True)
class Unary:
    """`not x` or `-x`."""

    operator: str
    operand: "Node"


@dataclass(frozen=True)
class Binary:
    """`left operator right`."""

    operator: str
    left: "Node"
    right: "Node"


Node = Literal | Name | Member | Index | Call | Unary | Binary

TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<operator>//|==|!=|<=|>=|[-+*/%<>()\[\].,])
    )""",
    re.VERBOSE | re.DOTALL,
)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "'": "'", "\\": "\\", "/": "/", "b": "\b", "f": "\f"}
WORDS = {"and", "or", "not", "in"}
CONSTANTS = {"true": True, "false": False, "null": None}
LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"or"}),
    frozenset({"and"}),
    frozenset({"<", "<=", ">=", ">", "==", "!=", "in"}),
    frozenset({"+", "-"}),
    frozenset({"*", "/", "//", "%"}),
)


def parse(text: str) -> Node:
    """The tree of an expression, given without `${` and `}`; BadExpression says what is wrong with it."""
    if len(text) > MAX_LENGTH:
        raise BadExpression(f"an expression has at most {MAX_LENGTH} characters, this one {len(text)}")
    parser = _Parser(list(_tokens(text)))
    node = parser.level(0)
    if parser.peek() != ("end", ""):
        raise BadExpression(f"unexpected {parser.peek()[1]!r}")
    return node


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = TOKEN.match(text, position, end)
        if not match:
            raise BadExpression(f"unexpected {text[position:].strip()[:1]!r}")
        found.append(_token(str(match.lastgroup), match[str(match.lastgroup)]))
        position = match.end()
    return found


def _token(group: str, text: str) -> tuple[str, str]:
    """Keywords are lower-case or upper-case, never mixed; booleans also capitalized."""
    if group == "word":
        lower = text.lower()
        if lower in WORDS and text in (lower, text.upper()):
            return "operator", lower
        if lower in CONSTANTS and text in (lower, text.upper(), text.capitalize()):
            return "constant", lower
    return group, text


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "")

    def take(self) -> tuple[str, str]:
        token = self.peek()
        self.position += 1
        return token

    def accept(self, *operators: str) -> str | None:
        group, text = self.peek()
        if group == "operator" and text in operators:
            self.position += 1
            return text
        return None

    def expect(self, operator: str) -> None:
        if self.accept(operator) is None:
            raise BadExpression(f"expected {operator!r} before {self.peek()[1] or 'the end'!r}")

    def level(self, number: int) -> Node:
        """Left-associative operators of one level of precedence."""
        if number == len(LEVELS):
            return self.unary()
        node = self.level(number + 1)
        while operator := self.accept(*LEVELS[number]):
            node = Binary(operator, node, self.level(number + 1))
        return node

    def unary(self) -> Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise BadExpression(f"nested deeper than {MAX_NESTING}")
        operator = self.accept("-", "not")
        node = Unary(operator, self.unary()) if operator else self.postfix()
        self.depth -= 1
        return node

    def postfix(self) -> Node:
        node = self.primary()
        while operator := self.accept(".", "[", "("):
            if operator == ".":
                node = Member(node, self.word())
            elif operator == "[":
                node = Index(node, self.level(0))
                self.expect("]")
            else:
                node = Call(function_name(node), self.arguments())
        return node

    def word(self) -> str:
        group, text = self.take()
        if group != "word":
            raise BadExpression(f"expected a name after '.', not {text or 'the end'!r}")
        return text

    def arguments(self) -> tuple[Node, ...]:
        found: list[Node] = []
        if self.accept(")"):
            return ()
        found.append(self.level(0))
        while self.accept(","):
            found.append(self.level(0))
        self.expect(")")
        return tuple(found)

    def primary(self) -> Node:
        group, text = self.take()
        if group == "number":
            return Literal(_number(text))
        if group == "string":
            return Literal(_string(text))
        if group == "constant":
            return Literal(CONSTANTS[text])
        if group == "word":
            return Name(text)
        if (group, text) == ("operator", "("):
            node = self.level(0)
            self.expect(")")
            return node
        raise BadExpression(f"unexpected {text or 'end'!r}")


def function_name(node: Node) -> str:
    """`text.split` of Member(Name("text"), "split"); BadExpression when the tree is not a dotted name."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Member):
        return f"{function_name(node.owner)}.{node.key}"
    raise BadExpression("only a function can be called")


def _number(text: str) -> int | float:
    if text.isdigit():
        number = int(text)
        if number >= 2**63:
            raise BadExpression(f"{text} does not fit in a 64-bit integer")
        return number
    double = float(text)
    if double == float("inf"):
        raise BadExpression(f"{text} does not fit in a double")
    return double


def _string(text: str) -> str:
    def unescape(match: re.Match[str]) -> str:
        if match[1] not in ESCAPES:
            raise BadExpression(f"unknown escape \\{match[1]}")
        return ESCAPES[match[1]]

    return re.sub(r"\\(.)", unescape, text[1:-1], flags=re.DOTALL)
