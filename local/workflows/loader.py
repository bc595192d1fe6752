"""YAML to workflow: knows the documented syntax that our files use and refuses any other, with file and line."""

import re
from collections.abc import Callable
from pathlib import Path

import yaml

from local.workflows import names, retrying
from local.workflows.documents import Document, Refused
from local.workflows.expressions import Index, Literal, Member, Name, Node
from local.workflows.library import BLOCKING, IMPURE, PURE
from local.workflows.model import (
    Action,
    Assign,
    Call,
    Case,
    Const,
    Except,
    For,
    Parallel,
    Parameter,
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
KINDS = ("assign", "call", "switch", "steps", "return", "raise", "for", "parallel", "try")

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
        if not VARIABLE.fullmatch(name) or name in PURE:
            self.document.refuse(node, f"{name!r} cannot be the name of a subworkflow")
        fields = self.document.fields(node, name, ("params",), ("steps",))
        parameters = self.parameters(fields["params"]) if "params" in fields else ()
        return Routine(name, parameters, self.steps(fields["steps"]), self.document.mark(node))

    def parameters(self, node: yaml.Node) -> tuple[Parameter, ...]:
        found: dict[str, Parameter] = {}
        for each in self.document.items(node, "params"):
            if isinstance(each, yaml.MappingNode):
                key, _, value = self.document.single(each, "a parameter with a default")
                default = self.document.template(value, "a default")
                if not isinstance(default, Const):
                    self.document.refuse(value, "a default is a value without expressions")
            else:
                key, default = self.document.word(each, "a parameter"), None
            if key in found:
                self.document.refuse(each, f"parameter {key!r} is given twice")
            found[key] = Parameter(self.variable(each, key), default)
        return tuple(found.values())

    def variable(self, node: yaml.Node, name: str) -> str:
        if not VARIABLE.fullmatch(name):
            self.document.refuse(node, f"{name!r} is not a variable name")
        return name

    def steps(self, node: yaml.Node) -> Steps:
        steps: list[Step] = []
        for each in self.document.items(node, "steps"):
            name, key_node, body = self.document.single(each, "a step")
            if name in self.step_names or name in ("end", "break", "continue"):
                self.document.refuse(key_node, f"step name {name!r} is reserved, or used twice in {self.routine_name}")
            self.step_names.add(name)
            steps.append(self.step(name, key_node, body))
        return Steps(tuple(steps), {step.name: number for number, step in enumerate(steps)})

    def step(self, name: str, key_node: yaml.Node, body: yaml.Node) -> Step:
        action, following = self.body(body, f"step {name!r}", KINDS)
        if action is None and following is None:
            self.document.refuse(body, f"step {name!r} does nothing")
        return Step(name, action, following, self.document.mark(key_node))

    def body(self, node: yaml.Node, what: str, kinds: tuple[str, ...]) -> tuple[Action | None, str | None]:
        """The one action of a step (or none) and its `next`."""
        extra = {"args", "result"} if "call" in kinds else set()
        extra |= {"retry", "except"} if "try" in kinds else set()
        fields = self.document.fields(node, what, {*kinds, *extra, "next"})
        present = [kind for kind in kinds if kind in fields]
        if len(present) > 1:
            self.document.refuse(node, f"{what} has both {present[0]!r} and {present[1]!r}")
        self.companions(node, what, fields, present[0] if present else "")
        if present and present[0] in ("return", "raise") and "next" in fields:
            self.document.refuse(fields["next"], f"nothing follows {present[0]!r}")
        following = self.document.word(fields["next"], "next") if "next" in fields else None
        return (self.action(present[0], fields) if present else None), following

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
            "steps": self.steps,
            "return": lambda value: Return(self.document.template(value, "return")),
            "raise": lambda value: Raise(self.document.template(value, "raise")),
            "for": self.loop,
            "parallel": self.parallel,
        }
        return builders[kind](fields[kind])

    def assign(self, node: yaml.Node) -> Assign:
        items: list[tuple[Target, Template]] = []
        for each in self.document.items(node, "assign"):
            key, key_node, value = self.document.single(each, "an assignment")
            items.append((self.target(key_node, key), self.document.template(value, "a value")))
        if len(items) > MAX_ITEMS:
            self.document.refuse(node, f"a step has at most {MAX_ITEMS} assignments")
        return Assign(tuple(items))

    def target(self, node: yaml.Node, text: str) -> Target:
        path: list[Node] = []
        tree = self.document.parse(node, text)
        while not isinstance(tree, Name):
            if isinstance(tree, Member):
                path.insert(0, Literal(tree.key))
            elif isinstance(tree, Index):
                path.insert(0, tree.key)
            else:
                self.document.refuse(node, f"cannot assign to {text!r}")
            tree = tree.owner
        return Target(tree.name, tuple(path), self.document.mark(node))

    def call(self, fields: dict[str, yaml.Node]) -> Call:
        function = self.document.word(fields["call"], "call")
        arguments: list[tuple[str, Template]] = []
        if "args" in fields:
            for key, _, node in self.document.pairs(fields["args"], "args"):
                arguments.append((key, self.document.template(node, key)))
        result = None
        if "result" in fields:
            name = self.document.word(fields["result"], "result")
            result = Target(self.variable(fields["result"], name), (), self.document.mark(fields["result"]))
        if "." in function and function not in {*PURE, *IMPURE, *BLOCKING}:
            self.document.refuse(fields["call"], f"unknown function {function!r}")
        return Call(function, tuple(arguments), result, self.document.mark(fields["call"]))

    def switch(self, node: yaml.Node) -> Switch:
        cases: list[Case] = []
        for each in self.document.items(node, "switch"):
            fields = {key: value for key, _, value in self.document.pairs(each, "a condition")}
            if "condition" not in fields:
                self.document.refuse(each, "a condition needs 'condition'")
            condition = self.document.template(fields["condition"], "condition")
            rest = yaml.MappingNode(
                each.tag, [pair for pair in each.value if pair[0].value != "condition"], each.start_mark, each.end_mark
            )
            action, following = self.body(rest, "a condition", ("steps", "return", "raise", "assign", "call"))
            cases.append(Case(condition, action, following))
        if len(cases) > MAX_ITEMS:
            self.document.refuse(node, f"a switch has at most {MAX_ITEMS} conditions")
        return Switch(tuple(cases))

    def loop(self, node: yaml.Node) -> For:
        fields = self.document.fields(node, "for", ("index", "in", "range"), ("value", "steps"))
        if ("in" in fields) == ("range" in fields) or ("index" in fields and "range" in fields):
            self.document.refuse(node, "for needs either 'in', with 'index' if wanted, or 'range'")
        index = self.document.word(fields["index"], "index") if "index" in fields else None
        bounds = None
        if "range" in fields:
            low_high = [self.document.template(each, "range") for each in self.document.items(fields["range"], "range")]
            if len(low_high) != 2:
                self.document.refuse(fields["range"], "range is [first, last]")
            bounds = (low_high[0], low_high[1])
        return For(
            value=self.variable(fields["value"], self.document.word(fields["value"], "value")),
            index=index and self.variable(fields["index"], index),
            items=self.document.template(fields["in"], "in") if "in" in fields else None,
            range=bounds,
            steps=self.steps(fields["steps"]),
            mark=self.document.mark(node),
        )

    def parallel(self, node: yaml.Node) -> Parallel:
        known = ("shared", "concurrency_limit", "exception_policy", "branches", "for")
        fields = self.document.fields(node, "parallel", known)
        if ("branches" in fields) == ("for" in fields):
            self.document.refuse(node, "parallel needs either 'branches' or 'for'")
        policy = fields.get("exception_policy")
        if policy and self.document.word(policy, "exception_policy") != "continueAll":
            self.document.refuse(policy, "the only exception_policy is continueAll")
        limit = fields.get("concurrency_limit")
        return Parallel(
            shared=tuple(
                self.variable(each, self.document.word(each, "shared"))
                for each in (self.document.items(fields["shared"], "shared") if "shared" in fields else ())
            ),
            limit=self.document.template(limit, "concurrency_limit") if limit else None,
            branches=self.branches(fields["branches"]) if "branches" in fields else (),
            loop=self.loop(fields["for"]) if "for" in fields else None,
            mark=self.document.mark(node),
        )

    def branches(self, node: yaml.Node) -> tuple[tuple[str, Steps], ...]:
        found: list[tuple[str, Steps]] = []
        for each in self.document.items(node, "branches"):
            name, _, body = self.document.single(each, "a branch")
            if name in dict(found):
                self.document.refuse(each, f"branch {name!r} is given twice")
            found.append((name, self.steps(self.document.fields(body, "a branch", (), ("steps",))["steps"])))
        if not 2 <= len(found) <= 10:
            self.document.refuse(node, "parallel has 2 to 10 branches")
        return tuple(found)

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
            error = self.variable(parts["as"], self.document.word(parts["as"], "as"))
            handler = Except(error, self.steps(parts["steps"]), self.document.mark(fields["except"]))
        return Try(body, retry, handler)
