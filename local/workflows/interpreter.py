"""The steps of one routine, as a generator: it stops at each blocking call and goes on with its outcome.

Nothing here knows time, network or disk: between two outcomes a workflow is a function of its variables, so an
execution replayed with the same outcomes in the same order arrives at the same place.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from local.workflows import calls, retrying
from local.workflows.effects import Fiber, Flow, Jump, Request, Returned, World, impure, log, sleep
from local.workflows.evaluate import boolean, evaluate
from local.workflows.library import IMPURE, PREDICATES, PURE, ordered
from local.workflows.model import (
    Action,
    Assign,
    Call,
    Const,
    Expression,
    For,
    ListOf,
    MapOf,
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
)
from local.workflows.parallel import parallel
from local.workflows.scopes import Scope
from local.workflows.values import MAX_STEPS, Value, WorkflowError, copied, fault, kind, numbers

MAX_CALL_DEPTH = 20


@dataclass(frozen=True)
class Interpreter:
    """Runs steps of one routine on one fiber."""

    world: World
    fiber: Fiber
    routine: Routine
    depth: int = 1
    parallel_depth: int = 0

    def steps(self, steps: Steps, scope: Scope) -> Flow:
        """Run a list of steps; a jump to a name that is not here is left to the list around it."""
        position = 0
        while position < len(steps.items):
            signal = yield from self.step(steps.items[position], scope)
            if isinstance(signal, Jump) and signal.target in steps.positions:
                position = steps.positions[signal.target]
            elif signal is not None:
                return signal
            else:
                position += 1
        return None

    def step(self, step: Step, scope: Scope) -> Flow:
        """Run one step, and put it on the stack trace of an error that leaves it."""
        self.world.current = (self.routine.name, step.name)
        try:
            self.world.steps += 1
            if self.world.steps > MAX_STEPS:
                raise fault("ResourceLimitError", f"more than {MAX_STEPS} steps")
            signal = (yield from self.action(step.action, scope)) if step.action is not None else None
        except WorkflowError as error:
            if not error.trace or error.trace[-1][1] != self.routine.name:
                error.trace.append((step.name, self.routine.name, step.mark.line, step.mark.column))
            raise
        return Jump(step.next) if signal is None and step.next is not None else signal

    def action(self, action: Action, scope: Scope) -> Flow:  # noqa: C901 (one case per kind of step)
        """Run what a step does."""
        match action:
            case Assign(items):
                for target, template in items:
                    self.assign(target, self.render(template, scope), scope)
            case Call():
                yield from self.call(action, scope)
            case Switch():
                return (yield from self.switch(action, scope))
            case Steps():
                return (yield from self.steps(action, scope))
            case Return(template):
                return Returned(copied(self.render(template, scope)))
            case Raise(template):
                raise WorkflowError(_raisable(self.render(template, scope)))
            case For():
                return (yield from self.loop(action, scope))
            case Parallel():
                yield from parallel(self, action, scope)
            case Try():
                return (yield from self.attempt(action, scope))
        return None

    def render(self, template: Template, scope: Scope) -> Value:
        """The value of a template."""
        match template:
            case Const(value):
                return value
            case Expression(node, _):
                return evaluate(node, _Names(self, scope))
            case ListOf(items):
                return [self.render(each, scope) for each in items]
            case MapOf(pairs):
                return {self.key(key, scope): self.render(value, scope) for key, value in pairs}

    def key(self, template: Template, scope: Scope) -> str:
        """A map's key, which must be a string."""
        key = self.render(template, scope)
        if not isinstance(key, str):
            raise fault("TypeError", f"the key of a map is a string, not {kind(key)}")
        return key

    def assign(self, target: Target, value: Value, scope: Scope) -> None:
        """Write a variable or an element inside one."""
        if target.path:
            path = [evaluate(node, _Names(self, scope)) for node in target.path]
            scope.write_inside(target.name, path, value)
        else:
            scope.write(target.name, value)

    def call(self, call: Call, scope: Scope) -> Generator[Request, Any, None]:
        """A `call` step: library function, blocking function or subworkflow."""
        arguments = {name: self.render(template, scope) for name, template in call.arguments}
        result: Value = None
        if call.function in PURE:
            result = PURE[call.function][1](*ordered(PURE[call.function][0].parameters, arguments))
        elif call.function in IMPURE:
            result = impure(self.world, self.fiber, call.function, ordered(IMPURE[call.function].parameters, arguments))
        elif call.function == "sys.sleep":
            yield from sleep(self.world, self.fiber, arguments["seconds"])
        elif call.function == "sys.log":
            log(self.world, self.fiber, arguments)
        elif call.function in self.world.workflow.routines:
            result = yield from self.subworkflow(call.function, arguments)
        else:
            result = calls.answer((yield calls.request(call.function, arguments)))
        if call.result is not None:
            self.assign(call.result, result, scope)

    def subworkflow(self, name: str, arguments: dict[str, Value]) -> Generator[Request, Any, Value]:
        """The value a subworkflow returns, null when it just ends."""
        if self.depth >= MAX_CALL_DEPTH:
            raise fault("RecursionError", f"calls are nested deeper than {MAX_CALL_DEPTH}")
        routine = self.world.workflow.routines[name]
        inside = Interpreter(self.world, self.fiber, routine, self.depth + 1, self.parallel_depth)
        return (yield from inside.body(arguments))

    def body(self, arguments: dict[str, Value]) -> Generator[Request, Any, Value]:
        """Run the whole routine with its parameters."""
        scope = Scope(self.world.memory)
        try:
            for parameter in self.routine.parameters:
                default = parameter.default.value if parameter.default is not None else None
                scope.declare(parameter.name, arguments.get(parameter.name, default))
            signal = yield from self.steps(self.routine.steps, scope)
        finally:
            scope.close()
        return signal.value if isinstance(signal, Returned) else None

    def switch(self, switch: Switch, scope: Scope) -> Flow:
        """The first case whose condition is true."""
        for case in switch.cases:
            if boolean(self.render(case.condition, scope), "a condition"):
                signal = (yield from self.action(case.action, scope)) if case.action is not None else None
                return Jump(case.next) if signal is None and case.next is not None else signal
        return None

    def elements(self, loop: For, scope: Scope) -> Iterator[tuple[int, Value]]:
        """(index, value) of each iteration."""
        if loop.range is not None:
            first, last = (self.render(each, scope) for each in loop.range)
            return enumerate(numbers(first, last))
        items = self.render(loop.items or Const([]), scope)
        if not isinstance(items, list | dict):
            raise fault("TypeError", f"for needs a list or a map, not {kind(items)}")
        return enumerate(list(items))

    def iteration(self, loop: For, index: int, value: Value, scope: Scope) -> Flow:
        """One pass through a loop's steps, with variables of its own."""
        inner = Scope(scope.memory, scope)
        try:
            inner.declare(loop.value, value)
            if loop.index is not None:
                inner.declare(loop.index, index)
            signal = yield from self.steps(loop.steps, inner)
        finally:
            inner.close()
        return None if signal == Jump("continue") else signal

    def loop(self, loop: For, scope: Scope) -> Flow:
        """`for`."""
        for index, value in self.elements(loop, scope):
            signal = yield from self.iteration(loop, index, value, scope)
            if signal == Jump("break"):
                return None
            if signal is not None:
                return signal
        return None

    def attempt(self, action: Try, scope: Scope) -> Flow:
        """`try`, with its retries and its handler."""
        attempt = 1
        while True:
            try:
                return (yield from self.action(action.body, scope))
            except WorkflowError as error:
                wait = yield from self.wait_before_retry(action, attempt, error, scope)
                if wait is None:
                    if action.handler is None:
                        raise
                    return (yield from self.handle(action, error, scope))
            attempt += 1
            yield from sleep(self.world, self.fiber, wait)

    def wait_before_retry(
        self, action: Try, attempt: int, error: WorkflowError, scope: Scope
    ) -> Generator[Request, Any, float | None]:
        """Seconds until the next attempt, or None when there is none."""
        retry = action.retry
        if retry is None:
            return None
        wait = retrying.delay(retry, attempt, lambda template: self.render(template, scope))
        if wait is None:
            return None
        if retry.predicate in PREDICATES:
            wanted: Value = PREDICATES[retry.predicate](error.payload)
        else:
            parameter = self.world.workflow.routines[retry.predicate].parameters[0].name
            wanted = yield from self.subworkflow(retry.predicate, {parameter: error.payload})
        return wait if boolean(wanted, "a retry predicate") else None

    def handle(self, action: Try, error: WorkflowError, scope: Scope) -> Flow:
        """`except`: the error in a variable of its own scope."""
        if action.handler is None:
            raise error
        inner = Scope(scope.memory, scope)
        try:
            inner.declare(action.handler.error, error.payload)
            return (yield from self.steps(action.handler.steps, inner))
        finally:
            inner.close()


class _Names:
    """Variables and functions for one expression."""

    def __init__(self, interpreter: Interpreter, scope: Scope) -> None:
        self.interpreter = interpreter
        self.scope = scope

    def read(self, name: str) -> Value:
        return self.scope.read(name)

    def call(self, function: str, arguments: list[Value]) -> Value:
        if function in PURE:
            return PURE[function][1](*arguments)
        return impure(self.interpreter.world, self.interpreter.fiber, function, arguments)


def _raisable(value: Value) -> Value:
    if not isinstance(value, str | dict):
        raise fault("TypeError", f"raise needs a string or a map, not {kind(value)}")
    return copied(value)
