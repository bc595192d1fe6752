"""HCL as the checks read it: the blocks of a file, their bodies as the parser gives them, and the code in their texts.

The parser writes an expression as "${…}", a literal text with its quotes, a block as a list of bodies that are marked.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import hcl2
from hcl2 import SerializationOptions
from lark.exceptions import LarkError

Tree = dict[str, Any]
MARK = "__is_block__"
OPTIONS = SerializationOptions(with_comments=False)
BEFORE_DOT = re.compile(r"\n\s*\.(?=[a-z])")
WORDS_OF_TEMPLATES = re.compile(r"\b(if|else|endif|for|endfor|in)\b(?=\s*\))")
SELDOM_NAMED = {"locals", "moved", "import", "removed", "terraform", "provider", "check"}  # may stand several times
WITHOUT_EXPRESSIONS = {"moved", "removed", "terraform"}
TOLD = ("validation", "description")  # of a variable: may name what they refuse
OF_LIFECYCLE = ("precondition", "postcondition", "replace_triggered_by")


class Unreadable(Exception):
    """A file is not HCL; the parser's words."""


@dataclass(frozen=True)
class Use:
    """An expression, without its literal texts, and which names have a meaning in it beside the module's."""

    code: str
    scope: frozenset[str]


@dataclass(frozen=True)
class Entry:
    """A block at the top of a file: its kind, its labels with dots between, its body, and file:line."""

    kind: str
    address: str
    body: Tree
    where: str

    @cached_property
    def uses(self) -> list[Use]:
        """Every expression of the block."""
        if self.kind in WITHOUT_EXPRESSIONS:
            return []
        scope = {name for field, name in (("for_each", "each"), ("count", "count")) if field in self.body}
        scope |= set(iterators(self.body))
        found: list[Use] = []
        for key, value in self.body.items():
            if self.kind == "variable" and key == "type":
                continue
            inner = frozenset(scope | ({"self"} if key in ("provisioner", "connection", "lifecycle") else set()))
            if key == "lifecycle":
                value = [part[name] for part in blocks(value) for name in OF_LIFECYCLE if name in part]
            found += [Use(code, inner) for code in expressions(value)]
        return found

    @cached_property
    def words(self) -> dict[str, list[str]]:
        """Address → every text, of the block; of each local, if it is one of locals."""
        if self.kind == "locals":
            return {f"local.{name}": list(texts(value)) for name, value in self.body.items()}
        prefix = "" if self.kind == "resource" else f"{self.kind}."
        said = {key: value for key, value in self.body.items() if key not in TOLD}
        return {prefix + self.address.split("#")[0]: list(texts(said))}


@lru_cache(maxsize=4096)
def entries(file: str, text: str) -> tuple[Entry, ...]:
    """The blocks of a file; Unreadable."""
    found: list[Entry] = []
    for kind, items in parse(text).items():
        if not isinstance(items, list):
            raise Unreadable(f"an argument outside of every block: {kind}")
        for item in items:
            names, body = labels(item)
            head = re.search(
                rf"^[ \t]*{kind}" + "".join(rf'\s+"?{re.escape(name)}"?' for name in names) + r"\s*\{", text, re.M
            )
            line = text.count("\n", 0, head.start()) + 1 if head else 1
            address = ".".join(names) + (f"#{len(found)}" if kind in SELDOM_NAMED else "")
            found.append(Entry(kind, address, body, f"{file}:{line}"))
    return tuple(found)


@lru_cache(maxsize=4096)
def parse(text: str) -> Tree:
    """The parser's tree of a file, which nobody may change; Unreadable."""
    problem = ""
    for candidate in (text, BEFORE_DOT.sub(".", text)):  # the parser's grammar knows no line that begins with a dot
        try:
            tree: Tree = hcl2.loads(candidate, serialization_options=OPTIONS)
        except (LarkError, ValueError) as error:
            problem = problem or str(error).splitlines()[0]
        else:
            return tree
    raise Unreadable(problem)


def labels(item: Tree) -> tuple[list[str], Tree]:
    """The labels of a block, and its body."""
    names: list[str] = []
    while MARK not in item and len(item) == 1:
        name, item = next(iter(item.items()))
        names.append(unquote(name))
    return names, {key: value for key, value in item.items() if key != MARK}


def unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text


def unwrapped(text: str) -> str:
    """The code of an expression: "${a.b}" is a.b."""
    return text[2:-1] if text.startswith("${") else text


def is_block(value: Any) -> bool:
    """Whether a value of a body is one or more blocks, and no attribute."""

    def marked(item: Any) -> bool:
        return isinstance(item, dict) and (MARK in item or any(marked(inner) for inner in item.values()))

    return isinstance(value, list) and bool(value) and all(marked(item) for item in value)


def blocks(value: Any) -> list[Tree]:
    """The bodies, where a value of a body is blocks."""
    return value if is_block(value) else []


def dynamic(block: Tree) -> tuple[str, Tree]:
    """What a dynamic block makes, and its body."""
    label = next(name for name in block if name != MARK)
    return unquote(label), block[label]


def iterators(body: Tree) -> Iterator[str]:
    """The names that dynamic blocks of a body give their elements."""
    for key, value in body.items():
        for inner in blocks(value):
            if key == "dynamic":
                label, inner = dynamic(inner)
                yield unwrapped(str(inner.get("iterator", label)))
            yield from iterators(inner)


def texts(value: Any) -> Iterator[str]:
    """Every text at and below a value, the names in it included."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from texts(key)
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, str):
        yield value


def expressions(value: Any) -> Iterator[str]:
    """The code of every expression at and below a value."""
    for text in texts(value):
        if text.startswith('"') and ("${" in text or "%{" in text):
            yield code_of(text[1:-1], "text")
        elif text.startswith("${"):
            yield code_of(text[2:-1], "code")


def code_of(text: str, state: str) -> str:
    """Blank out literal text, and keep the code, also the code inside ${…} and %{…} of a text."""
    out: list[str] = []
    states, at = [state], 0
    while at < len(text):
        step = _in_text(text, at, states, out) if states[-1] == "text" else _in_code(text, at, states, out)
        at += step
    return WORDS_OF_TEMPLATES.sub(" ", "".join(out))


def _in_text(text: str, at: int, states: list[str], out: list[str]) -> int:
    """Read on from inside a literal text; how many characters."""
    pair = text[at : at + 2]
    if text[at : at + 3] in ("$${", "%%{"):
        return 3
    if pair in ('\\"', "\\\\"):
        return 2
    if pair in ("${", "%{"):
        states.append("inserted")
        out.append(" ( ")
        return 2
    if text[at] == '"' and len(states) > 1:
        states.pop()
        out.append("'")
    elif text[at] == "\n":
        out.append("\n")
    return 1


def _in_code(text: str, at: int, states: list[str], out: list[str]) -> int:
    """Read on from inside an expression; how many characters."""
    character = text[at]
    if character == "}":
        ended = states.pop() if len(states) > 1 else ""
        out.append(" ) " if ended == "inserted" else "}")
        return 1
    if character in '"{':
        states.append("text" if character == '"' else "brace")
    out.append("'" if character == '"' else character)
    return 1
