"""YAML to workflow: knows the documented syntax that our files use and refuses any other, with file and line."""

import re
from collections.abc import Callable
from pathlib import Path

import yaml

from local.workflows import names, retrying
from local.workflows.documents import Document, Refused
from local.workflows.expressions import KEYWORDS
from local.workflows.library import CALLS, FUNCTIONS
from local.workflows.model import (
    Action,
    Assign,
    Call,
    Case,
    Except,
    Parallel,
    Raise,
    Return,
    Routine,
    Step,
    Steps,
    Switch,
    Target,
    Template,
    Try,
    Workflow,
)

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
MAX_ITEMS = 50
MAX_SOURCE = 128 * 1024
CALL_KEYS = ("call", "args", "result")
KINDS = ("assign", "call", "switch", "return", "raise", "parallel", "try")
RESERVED = ("end", "break", "continue")

__all__ = ["Refused", "load", "read"]


def read(path: Path) -> Workflow:
    """The workflow of one file, named by the file's stem. Raises Refused."""
    return load(path.stem, path.name, path.read_text())


def load(name: str, file: str, source: str) -> Workflow:
    """The workflow of a source text; `file` is what refusals name. Raises Refused."""
    document = Document(file, source)
    if document.root is None or len(source.encode()) > MAX_SOURCE:
        raise Refused(f"{file}:1:1: a workflow has between 1 byte and {MAX_SOURCE // 1024} KB")
    loader = _Loader(document)
    routines = {key: loader.routine(key, node) for key, _, node in document.pairs(document.root, "a workflow")}
    if "main" not in routines:
        document.refuse(document.root, "a workflow needs 'main'")
    if len(routines["main"].parameters) > 1:
        document.refuse(routines["main"].mark, "main takes one parameter at most: the execution's argument")
    workflow = Workflow(name, file, source, routines)
    names.check(document, workflow)
    return workflow


class _Loader:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.routine_name = ""
        self.step_names: set[str] = set()

    def routine(self, name: str, node: yaml.Node) -> Routine:
        self.routine_name, self.step_names = name, set()
        if not VARIABLE.fullmatch(name) or name in FUNCTIONS:
            self.document.refuse(node, f"{name!r} cannot be the name of a subworkflow")
        fields = self.document.fields(node, name, ("params",), ("steps",))
        parameters = self.parameters(fields["params"]) if "params" in fields else ()
        return Routine(name, parameters, self.steps(fields["steps"]), self.document.mark(node))

    def parameters(self, node: yaml.Node) -> tuple[str, ...]:
        found: list[str] = []
        for each in self.document.items(node, "params"):
            name = self.variable(each, "a parameter")
            if name in found:
                self.document.refuse(each, f"parameter {name!r} is given twice")
            found.append(name)
        return tuple(found)

    def variable(self, node: yaml.Node, what: str) -> str:
        name = self.document.word(node, what)
        if not VARIABLE.fullmatch(name) or name.lower() in KEYWORDS:
            self.document.refuse(node, f"{name!r} is not a variable name")
        return name

    def steps(self, node: yaml.Node) -> Steps:
        steps: list[Step] = []
        for each in self.document.items(node, "steps"):
            name, key_node, body = self.document.single(each, "a step")
            if name in self.step_names or name in RESERVED:
                self.document.refuse(key_node, f"step name {name!r} is reserved, or used twice in {self.routine_name}")
            self.step_names.add(name)
            steps.append(self.step(name, key_node, body))
        return Steps(tuple(steps), {step.name: number for number, step in enumerate(steps)})

    def step(self, name: str, key_node: yaml.Node, body: yaml.Node) -> Step:
        what = f"step {name!r}"
        fields = self.document.fields(body, what, {*KINDS, "args", "result", "retry", "except", "next"})
        kind = self.kind(body, what, fields, KINDS)
        if not kind:
            self.document.refuse(body, f"{what} does nothing")
        self.companions(body, what, fields, kind)
        return Step(name, self.action(kind, fields), self.following(kind, fields), self.document.mark(key_node))

    def kind(self, node: yaml.Node, what: str, fields: dict[str, yaml.Node], kinds: tuple[str, ...]) -> str:
        """Which of `kinds` it is, at most one of them; empty when it is none."""
        present = [kind for kind in kinds if kind in fields]
        if len(present) > 1:
            self.document.refuse(node, f"{what} has both {present[0]!r} and {present[1]!r}")
        return present[0] if present else ""

    def following(self, kind: str, fields: dict[str, yaml.Node]) -> str | None:
        """The target of `next`."""
        if "next" not in fields:
            return None
        if kind in ("return", "raise"):
            self.document.refuse(fields["next"], f"nothing follows {kind!r}")
        return self.document.word(fields["next"], "next")

    def companions(self, node: yaml.Node, what: str, fields: dict[str, yaml.Node], kind: str) -> None:
        belongs = {"args": "call", "result": "call", "retry": "try", "except": "try"}
        for key, owner in belongs.items():
            if key in fields and kind != owner:
                self.document.refuse(fields[key], f"{key!r} in {what} needs {owner!r}")
        if kind == "try" and not ({"retry", "except"} & set(fields)):
            self.document.refuse(node, "try needs 'retry' or 'except'")

    def action(self, kind: str, fields: dict[str, yaml.Node]) -> Action:
        if kind in ("call", "try"):
            return self.call(fields) if kind == "call" else self.trying(fields)
        builders: dict[str, Callable[[yaml.Node], Action]] = {
            "assign": self.assign,
            "switch": self.switch,
            "return": self.returned,
            "raise": self.raised,
            "parallel": self.parallel,
        }
        return builders[kind](fields[kind])

    def returned(self, node: yaml.Node) -> Return:
        return Return(self.document.template(node, "return"))

    def raised(self, node: yaml.Node) -> Raise:
        return Raise(self.document.template(node, "raise"))

    def assign(self, node: yaml.Node) -> Assign:
        items: list[tuple[Target, Template]] = []
        for each in self.document.items(node, "assign"):
            _, key_node, value = self.document.single(each, "an assignment")
            items.append((self.target(key_node, "a variable"), self.document.template(value, "a value")))
        if len(items) > MAX_ITEMS:
            self.document.refuse(node, f"a step has at most {MAX_ITEMS} assignments")
        return Assign(tuple(items))

    def target(self, node: yaml.Node, what: str) -> Target:
        return Target(self.variable(node, what), self.document.mark(node))

    def call(self, fields: dict[str, yaml.Node]) -> Call:
        function = self.document.word(fields["call"], "call")
        if "." in function and function not in CALLS:
            self.document.refuse(fields["call"], f"unknown function {function!r}; known are {', '.join(CALLS)}")
        arguments: list[tuple[str, Template]] = []
        if "args" in fields:
            for key, _, node in self.document.pairs(fields["args"], "args"):
                if function in CALLS and key == "auth":
                    self.auth(node)
                arguments.append((key, self.document.template(node, key)))
        result = self.target(fields["result"], "result") if "result" in fields else None
        return Call(function, tuple(arguments), result, self.document.mark(fields["call"]))

    def auth(self, node: yaml.Node) -> None:
        fields = self.document.fields(node, "auth", ("audience",), ("type",))
        if self.document.word(fields["type"], "type") != "OIDC":
            self.document.refuse(fields["type"], "the only type of auth is OIDC")

    def switch(self, node: yaml.Node) -> Switch:
        cases = tuple(self.case(each) for each in self.document.items(node, "switch"))
        if len(cases) > MAX_ITEMS:
            self.document.refuse(node, f"a switch has at most {MAX_ITEMS} conditions")
        return Switch(cases)

    def case(self, node: yaml.Node) -> Case:
        what, kinds = "a condition", ("steps", "return", "raise")
        fields = self.document.fields(node, what, (*kinds, "next"), ("condition",))
        kind = self.kind(node, what, fields, kinds)
        following = self.following(kind, fields)
        builders: dict[str, Callable[[yaml.Node], Steps | Return | Raise]] = {
            "steps": self.steps,
            "return": self.returned,
            "raise": self.raised,
        }
        action = builders[kind](fields[kind]) if kind else None
        if action is None and following is None:
            self.document.refuse(node, f"{what} needs one of {', '.join(kinds)}, next")
        return Case(self.document.template(fields["condition"], "condition"), action, following)

    def parallel(self, node: yaml.Node) -> Parallel:
        fields = self.document.fields(node, "parallel", ("shared", "concurrency_limit"), ("for",))
        loop = self.document.fields(fields["for"], "for", (), ("value", "in", "steps"))
        shared = self.document.items(fields["shared"], "shared") if "shared" in fields else ()
        return Parallel(
            shared=tuple(self.variable(each, "shared") for each in shared),
            limit=self.limit(fields["concurrency_limit"]) if "concurrency_limit" in fields else None,
            value=self.variable(loop["value"], "value"),
            items=self.document.template(loop["in"], "in"),
            steps=self.steps(loop["steps"]),
            mark=self.document.mark(node),
        )

    def limit(self, node: yaml.Node) -> int:
        limit = self.document.count(node, "concurrency_limit")
        if limit == 0:
            self.document.refuse(node, "concurrency_limit is at least 1")
        return limit

    def trying(self, fields: dict[str, yaml.Node]) -> Try:
        inner = self.document.fields(fields["try"], "try", ("steps", *CALL_KEYS))
        if ("steps" in inner) == ("call" in inner):
            self.document.refuse(fields["try"], "try needs either 'steps' or 'call'")
        self.companions(fields["try"], "try", inner, "call" if "call" in inner else "steps")
        body = self.call(inner) if "call" in inner else self.steps(inner["steps"])
        retry = retrying.load(self.document, fields["retry"]) if "retry" in fields else None
        handler = None
        if "except" in fields:
            parts = self.document.fields(fields["except"], "except", (), ("as", "steps"))
            handler = Except(
                self.variable(parts["as"], "as"), self.steps(parts["steps"]), self.document.mark(fields["except"])
            )
        return Try(body, retry, handler)
