"""Parser of `${…}`: text to a small tree. It knows what our workflows write, with the documented precedence."""

import re
from dataclasses import dataclass

from local.workflows.values import INT_MAX

MAX_LENGTH = 400
MAX_NESTING = 50


class BadExpression(Exception):
    """The text is not an expression of the language."""


@dataclass(frozen=True)
class Literal:
    """An integer or a string."""

    value: int | str


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
class Call:
    """`function(arguments)`; the function's dotted name is already joined."""

    function: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True)
class Binary:
    """`left operator right`."""

    operator: str
    left: "Node"
    right: "Node"


Node = Literal | Name | Member | Call | Binary

TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>\d+)
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<string>"[^"\\]*")
      | (?P<operator>==|!=|>=|[+().,])
    )""",
    re.VERBOSE | re.DOTALL,
)
KEYWORDS = {"and", "or", "in", "not", "true", "false", "null"}
LEVELS: tuple[frozenset[str], ...] = (
    frozenset({"or"}),
    frozenset({"and"}),
    frozenset({">=", "==", "!=", "in"}),
    frozenset({"+"}),
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
    """Keywords, in whatever letters, are no names; only `and`, `or` and `in` mean something here."""
    return ("operator" if group == "word" and text.lower() in KEYWORDS else group), text


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
            return self.postfix()
        node = self.level(number + 1)
        while operator := self.accept(*LEVELS[number]):
            node = Binary(operator, node, self.level(number + 1))
        return node

    def postfix(self) -> Node:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise BadExpression(f"nested deeper than {MAX_NESTING}")
        node = self.primary()
        while operator := self.accept(".", "("):
            node = Member(node, self.word()) if operator == "." else Call(function_name(node), self.arguments())
        self.depth -= 1
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
            return Literal(text[1:-1])
        if group == "word":
            return Name(text)
        if (group, text) == ("operator", "("):
            node = self.level(0)
            self.expect(")")
            return node
        raise BadExpression(f"unexpected {text or 'end'!r}")


def function_name(node: Node) -> str:
    """`map.get` of Member(Name("map"), "get"); BadExpression when the tree is not a dotted name."""
    if isinstance(node, Name):
        return node.name
    if isinstance(node, Member):
        return f"{function_name(node.owner)}.{node.key}"
    raise BadExpression("only a function can be called")


def _number(text: str) -> int:
    if int(text) > INT_MAX:
        raise BadExpression(f"{text} does not fit in a 64-bit integer")
    return int(text)
