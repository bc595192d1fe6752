"""YAML with its line numbers: nodes read strictly, so that every refusal can name file, line and column."""

import re
from collections.abc import Iterable, Iterator
from typing import NoReturn

import yaml

from local.workflows import expressions
from local.workflows.model import Const, Expression, MapOf, Mark, Template
from local.workflows.values import INT_MAX, INT_MIN

INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
BOOLEANS = {"true": True, "false": False}


class Refused(Exception):
    """The file is not a workflow in the syntax known here; the text is `file:line:column: why`."""


class Document:
    """One YAML file. Reads nodes as maps, lists, words and templates, or raises Refused at the node."""

    def __init__(self, file: str, source: str) -> None:
        self.file = file
        try:
            for token in yaml.scan(source, Loader=yaml.SafeLoader):
                if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
                    self._refuse(token.start_mark, "anchors, aliases and tags are not used in workflows")
            self.root = yaml.compose(source, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._refuse(mark, f"not YAML: {error.problem}")

    def _refuse(self, mark: yaml.Mark | None, why: str) -> NoReturn:
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise Refused(f"{self.file}:{line}:{column}: {why}")

    def refuse(self, node: yaml.Node | Mark, why: str) -> NoReturn:
        """Raise Refused at a node."""
        mark = node if isinstance(node, Mark) else self.mark(node)
        raise Refused(f"{self.file}:{mark.line}:{mark.column}: {why}")

    def mark(self, node: yaml.Node) -> Mark:
        """Where a node begins."""
        return Mark(node.start_mark.line + 1, node.start_mark.column + 1)

    def pairs(self, node: yaml.Node, what: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """A map's (key, key node, value node), keys unique strings."""
        if not isinstance(node, yaml.MappingNode):
            self.refuse(node, f"{what} is a map")
        found: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key_node, value_node in node.value:
            key = self.scalar(key_node, f"a key of {what}")
            if not isinstance(key, str):
                self.refuse(key_node, f"a key of {what} is a string")
            if key in found:
                self.refuse(key_node, f"{key!r} is given twice")
            found[key] = (key, key_node, value_node)
        return list(found.values())

    def fields(
        self, node: yaml.Node, what: str, known: Iterable[str], required: Iterable[str] = ()
    ) -> dict[str, yaml.Node]:
        """A map with known keys only."""
        allowed = set(known) | set(required)
        found: dict[str, yaml.Node] = {}
        for key, key_node, value_node in self.pairs(node, what):
            if key not in allowed:
                self.refuse(key_node, f"unknown key {key!r} in {what}; known are {', '.join(sorted(allowed))}")
            found[key] = value_node
        for key in required:
            if key not in found:
                self.refuse(node, f"{what} needs {key!r}")
        return found

    def items(self, node: yaml.Node, what: str) -> Iterator[yaml.Node]:
        """The nodes of a list that is not empty."""
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self.refuse(node, f"{what} is a list of at least one entry")
        yield from node.value

    def single(self, node: yaml.Node, what: str) -> tuple[str, yaml.Node, yaml.Node]:
        """A map of exactly one key."""
        pairs = self.pairs(node, what)
        if len(pairs) != 1:
            self.refuse(node, f"{what} is a map with one key")
        return pairs[0]

    def word(self, node: yaml.Node, what: str) -> str:
        """A string that is neither empty nor an expression."""
        value = self.scalar(node, what)
        if not isinstance(value, str) or not value or "${" in value:
            self.refuse(node, f"{what} is a name")
        return value

    def scalar(self, node: yaml.Node, what: str) -> str | int | bool:
        """Text, an integer or a boolean; what YAML versions read differently must be quoted."""
        if not isinstance(node, yaml.ScalarNode):
            self.refuse(node, f"{what} is a single value")
        text = str(node.value)
        if node.style is not None or (node.tag.endswith(":str") and not NUMBER.fullmatch(text)):
            return text
        if text in BOOLEANS:
            return BOOLEANS[text]
        if not INTEGER.fullmatch(text):
            self.refuse(node, f"{text!r} is not text, an integer, true or false: quote it if it is text")
        if not INT_MIN <= int(text) <= INT_MAX:
            self.refuse(node, f"{text} does not fit in a 64-bit integer")
        return int(text)

    def count(self, node: yaml.Node, what: str) -> int:
        """An integer that is not negative."""
        value = self.scalar(node, what)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            self.refuse(node, f"{what} is an integer that is not negative")
        return value

    def template(self, node: yaml.Node, what: str) -> Template:
        """Any value but a list, with expressions where it has `${…}`."""
        if isinstance(node, yaml.MappingNode):
            pairs = tuple((self.key(k, key), self.template(v, what)) for key, k, v in self.pairs(node, what))
            fixed = {key: value.value for key, value in pairs if isinstance(value, Const)}
            return Const(fixed) if len(fixed) == len(pairs) else MapOf(pairs)
        value = self.scalar(node, what)
        return self.string(node, value) if isinstance(value, str) else Const(value)

    def key(self, node: yaml.Node, text: str) -> str:
        """The key of a map, which is no expression."""
        if "${" in text:
            self.refuse(node, "the key of a map is no expression")
        return text

    def string(self, node: yaml.Node, text: str) -> Template:
        """A string, which is an expression as a whole or not at all."""
        if "${" not in text:
            return Const(text)
        if not (text.startswith("${") and text.endswith("}")):
            self.refuse(node, "an expression is the whole string: begin with ${ and end with }")
        return Expression(self.parse(node, text[2:-1]), self.mark(node))

    def parse(self, node: yaml.Node, text: str) -> expressions.Node:
        """The tree of an expression's text."""
        try:
            return expressions.parse(text)
        except expressions.BadExpression as error:
            self.refuse(node, f"bad expression: {error}")
