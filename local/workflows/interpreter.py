"""The steps of one routine, as a generator: it stops at each blocking call and goes on with its outcome.

Nothing here knows time, network or disk: between two outcomes a workflow is a function of its variables, so an
execution replayed with the same outcomes in the same order arrives at the same place.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from local.workflows import calls, retrying
from local.workflows.effects import Fiber, Flow, Host, Jump, Request, Returned, World, get_env, sleep
from local.workflows.evaluate import boolean, evaluate
from local.workflows.library import CALLS, PURE
from local.workflows.model import (
    Action,
    Assign,
    Call,
    Const,
    Expression,
    MapOf,
    Parallel,
    Raise,
    Retry,
    Return,
    Routine,
    Step,
    Steps,
    Switch,
    Template,
    Try,
)
from local.workflows.parallel import parallel
from local.workflows.scopes import Scope
from local.workflows.values import MAX_STEPS, Value, WorkflowError, fault, kind

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
            signal = yield from self.action(step.action, scope)
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
                    scope.write(target.name, self.render(template, scope))
            case Call():
                yield from self.call(action, scope)
            case Switch():
                return (yield from self.switch(action, scope))
            case Return(template):
                return Returned(self.render(template, scope))
            case Raise(template):
                raise WorkflowError(_raisable(self.render(template, scope)))
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
                return evaluate(node, _Names(self.world.host, scope))
            case MapOf(pairs):
                return {key: self.render(value, scope) for key, value in pairs}

    def call(self, call: Call, scope: Scope) -> Generator[Request, Any, None]:
        """A `call` step: http function or subworkflow."""
        arguments = {name: self.render(template, scope) for name, template in call.arguments}
        if call.function in CALLS:
            result = calls.answer((yield calls.request(call.function, arguments)))
        else:
            result = yield from self.subworkflow(call.function, arguments)
        if call.result is not None:
            scope.write(call.result.name, result)

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
                scope.declare(parameter, arguments.get(parameter))
            signal = yield from self.steps(self.routine.steps, scope)
        finally:
            scope.close()
        return signal.value if isinstance(signal, Returned) else None

    def switch(self, switch: Switch, scope: Scope) -> Flow:
        """The first case whose condition is true."""
        for case in switch.cases:
            if boolean(self.render(case.condition, scope), "a condition"):
                signal = (yield from self.block(case.action, scope)) if case.action is not None else None
                return Jump(case.next) if signal is None and case.next is not None else signal
        return None

    def block(self, block: Steps | Action, scope: Scope) -> Flow:
        """Run what `try` or a condition holds: a list of steps, or what one step would do."""
        return (yield from (self.steps(block, scope) if isinstance(block, Steps) else self.action(block, scope)))

    def attempt(self, action: Try, scope: Scope) -> Flow:
        """`try`, with its retries and its handler."""
        attempt = 1
        while True:
            try:
                return (yield from self.block(action.body, scope))
            except WorkflowError as error:
                wait = yield from self.wait_before_retry(action.retry, attempt, error)
                if wait is None:
                    if action.handler is None:
                        raise
                    return (yield from self.handle(action, error, scope))
            attempt += 1
            yield from sleep(self.world, self.fiber, wait)

    def wait_before_retry(
        self, retry: Retry | None, attempt: int, error: WorkflowError
    ) -> Generator[Request, Any, int | None]:
        """Seconds until the next attempt, or None when there is none."""
        wait = retrying.delay(retry, attempt) if retry is not None else None
        if retry is None or wait is None:
            return None
        parameter = self.world.workflow.routines[retry.predicate].parameters[0]
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

    def __init__(self, host: Host, scope: Scope) -> None:
        self.host = host
        self.scope = scope

    def read(self, name: str) -> Value:
        return self.scope.read(name)

    def call(self, function: str, arguments: list[Value]) -> Value:
        if function in PURE:
            return PURE[function][1](*arguments)
        return get_env(self.host, arguments)


def _raisable(value: Value) -> Value:
    if not isinstance(value, str | dict):
        raise fault("TypeError", f"raise needs a string or a map, not {kind(value)}")
    return value
