"""What deployment checks across steps: variables are in scope, jumps have targets, calls fit their functions."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from local.workflows import expressions
from local.workflows.documents import Document
from local.workflows.library import CALLS, FUNCTIONS, Signature
from local.workflows.model import (
    Action,
    Assign,
    Call,
    Case,
    Const,
    Expression,
    MapOf,
    Mark,
    Parallel,
    Raise,
    Return,
    Routine,
    Steps,
    Switch,
    Target,
    Template,
    Try,
    Workflow,
)


@dataclass
class Scope:
    """The variables of a routine, except block or parallel iteration; `shared` only for the last."""

    variables: set[str]
    parent: "Scope | None" = None
    shared: frozenset[str] | None = None

    def sees(self, name: str) -> bool:
        """True when an expression here may read the variable."""
        return name in self.variables or (self.parent is not None and self.parent.sees(name))

    def writes(self, name: str) -> bool:
        """False when the variable is outside a parallel step that does not share it."""
        if name in self.variables or self.parent is None:
            return True
        return (self.shared is None or name in self.shared or not self.parent.sees(name)) and self.parent.writes(name)


@dataclass(frozen=True)
class Place:
    """Where a step stands: its scope and what `next` may name there."""

    scope: Scope
    jumps: frozenset[str]
    in_parallel: bool = False


def check(document: Document, workflow: Workflow) -> None:
    """Refuse (with the place) what deployment would refuse."""
    for routine in workflow.routines.values():
        _Checker(document, workflow, routine).run()


class _Checker:
    def __init__(self, document: Document, workflow: Workflow, routine: Routine) -> None:
        self.document = document
        self.workflow = workflow
        self.routine = routine

    def run(self) -> None:
        scope = Scope({*self.routine.parameters} | _assigned(self.routine.steps))
        self.steps(self.routine.steps, Place(scope, frozenset()))

    def steps(self, steps: Steps, place: Place) -> None:
        inside = Place(place.scope, place.jumps | set(steps.positions), place.in_parallel)
        for step in steps.items:
            self.action(step.action, inside, step.mark)
            self.jump(step.next, inside, step.mark)

    def jump(self, target: str | None, place: Place, mark: Mark) -> None:
        if target is not None and target not in place.jumps:
            self.document.refuse(mark, f"next: {target!r} is not a step that can be reached from here")

    def action(self, action: Action, place: Place, mark: Mark) -> None:  # noqa: C901 (one case per kind of step)
        match action:
            case Assign(items):
                for target, value in items:
                    self.template(value, place.scope)
                    self.target(target, place.scope)
            case Call():
                self.call(action, place.scope)
            case Switch(cases):
                for case in cases:
                    self.case(case, place, mark)
            case Return(value):
                if place.in_parallel:
                    self.document.refuse(mark, "a parallel iteration cannot return")
                self.template(value, place.scope)
            case Raise(value):
                self.template(value, place.scope)
            case Parallel():
                self.parallel(action, place)
            case Try():
                self.trying(action, place, mark)

    def block(self, block: Steps | Action, place: Place, mark: Mark) -> None:
        if isinstance(block, Steps):
            self.steps(block, place)
        else:
            self.action(block, place, mark)

    def case(self, case: Case, place: Place, mark: Mark) -> None:
        self.template(case.condition, place.scope)
        if case.action is not None:
            self.block(case.action, place, mark)
        self.jump(case.next, place, mark)

    def trying(self, action: Try, place: Place, mark: Mark) -> None:
        self.block(action.body, place, mark)
        if action.retry is not None:
            self.predicate(action.retry.predicate, action.retry.mark)
        if action.handler is not None:
            handler = action.handler
            self.fresh(handler.error, place.scope, handler.mark)
            scope = Scope({handler.error} | _created(handler.steps, place.scope), place.scope)
            self.steps(handler.steps, Place(scope, place.jumps, place.in_parallel))

    def predicate(self, name: str, mark: Mark) -> None:
        routine = self.workflow.routines.get(name)
        if routine is None or len(routine.parameters) != 1:
            self.document.refuse(mark, f"{name!r} is not a subworkflow with one parameter")

    def parallel(self, action: Parallel, place: Place) -> None:
        self.template(action.items, place.scope)
        for name in action.shared:
            if not place.scope.sees(name) or not place.scope.writes(name):
                self.document.refuse(action.mark, f"shared variable {name!r} cannot be written here")
        self.fresh(action.value, place.scope, action.mark)
        variables = {action.value} | _created(action.steps, place.scope)
        scope = Scope(variables, place.scope, frozenset(action.shared))
        self.steps(action.steps, Place(scope, frozenset(), in_parallel=True))

    def fresh(self, name: str, scope: Scope, mark: Mark) -> None:
        if scope.sees(name):
            self.document.refuse(mark, f"variable {name!r} is used outside of this block too")

    def target(self, target: Target, scope: Scope) -> None:
        if not scope.writes(target.name):
            self.document.refuse(target.mark, f"variable {target.name!r} is outside and not shared")

    def call(self, call: Call, scope: Scope) -> None:
        for _, value in call.arguments:
            self.template(value, scope)
        if call.result is not None:
            self.target(call.result, scope)
        wanted = self.signature(call)
        given = [name for name, _ in call.arguments]
        for name in given:
            if name not in wanted.parameters:
                self.document.refuse(call.mark, f"{call.function} has no parameter {name!r}")
        for name in wanted.parameters[: wanted.required]:
            if name not in given:
                self.document.refuse(call.mark, f"{call.function} needs {name!r}")

    def signature(self, call: Call) -> Signature:
        if call.function in CALLS:
            return CALLS[call.function]
        routine = self.workflow.routines.get(call.function)
        if routine is None or routine.name == "main":
            self.document.refuse(call.mark, f"unknown function or subworkflow {call.function!r}")
        return Signature(routine.parameters, len(routine.parameters))

    def template(self, template: Template, scope: Scope) -> None:
        match template:
            case Expression(node, mark):
                self.expression(node, scope, mark)
            case MapOf(pairs):
                for _, value in pairs:
                    self.template(value, scope)
            case Const():
                pass

    def expression(self, root: expressions.Node, scope: Scope, mark: Mark) -> None:
        for node in _nodes(root):
            if isinstance(node, expressions.Name) and not scope.sees(node.name):
                self.document.refuse(mark, f"unknown variable {node.name!r}")
            if isinstance(node, expressions.Call):
                wanted = FUNCTIONS.get(node.function)
                if wanted is None:
                    step = node.function in CALLS or node.function in self.workflow.routines
                    hint = "a call step" if step else "one of " + ", ".join(FUNCTIONS)
                    self.document.refuse(mark, f"{node.function!r} cannot be called in an expression: use {hint}")
                if not wanted.required <= len(node.arguments) <= len(wanted.parameters):
                    self.document.refuse(mark, f"{node.function} takes {', '.join(wanted.parameters) or 'nothing'}")


def _nodes(root: expressions.Node) -> Iterator[expressions.Node]:
    yield root
    match root:
        case expressions.Member(owner, _):
            yield from _nodes(owner)
        case expressions.Call(_, arguments):
            for each in arguments:
                yield from _nodes(each)
        case expressions.Binary(_, left, right):
            yield from _nodes(left)
            yield from _nodes(right)
        case expressions.Literal() | expressions.Name():
            pass


def _created(steps: Steps, outside: Scope) -> set[str]:
    return {name for name in _assigned(steps) if not outside.sees(name)}


def _assigned(steps: Steps) -> set[str]:
    """Variables that steps create in their own scope: not those of except blocks and parallel iterations inside."""
    return {name for step in steps.items for name in _assigned_by(step.action)}


def _assigned_by(block: Steps | Action) -> Iterable[str]:
    match block:
        case Steps():
            return _assigned(block)
        case Assign(items):
            return [target.name for target, _ in items]
        case Call(result=Target(name=name)):
            return [name]
        case Switch(cases):
            return [name for case in cases if case.action is not None for name in _assigned_by(case.action)]
        case Try(body=body):
            return _assigned_by(body)
        case _:
            return []
