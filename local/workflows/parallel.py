"""`parallel`: branches and iterations as flows of their own, and the one error that they raise together."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local.workflows.effects import Fiber, Flow, Fork, Request
from local.workflows.model import For, Parallel, Steps
from local.workflows.scopes import Scope
from local.workflows.values import Value, WorkflowError, fault

if TYPE_CHECKING:
    from local.workflows.interpreter import Interpreter

MAX_PARALLEL_DEPTH = 2
MAX_BRANCHES = 20


def parallel(interpreter: "Interpreter", action: Parallel, scope: Scope) -> Generator[Request, Any, None]:
    """All branches run to their end, then their errors are raised as one."""
    if interpreter.parallel_depth >= MAX_PARALLEL_DEPTH:
        raise fault("ParallelNestingError", f"parallel steps are nested deeper than {MAX_PARALLEL_DEPTH}")
    limit = interpreter.render(action.limit, scope) if action.limit is not None else MAX_BRANCHES
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise fault("ValueError", "concurrency_limit is a positive integer")
    errors = yield Fork(list(_flows(interpreter, action, scope)), min(limit, MAX_BRANCHES))
    if errors:
        raise _unhandled(errors)


def _flows(interpreter: "Interpreter", action: Parallel, scope: Scope) -> Iterator[tuple[str, Callable[[Fiber], Flow]]]:
    """Each branch or iteration, ready to be started on a fiber of its own."""

    def on(fiber: Fiber) -> "Interpreter":
        return replace(interpreter, fiber=fiber, parallel_depth=interpreter.parallel_depth + 1)

    if action.loop is None:
        for name, steps in action.branches:
            yield name, _branch(on, steps, scope)
        return
    for index, value in interpreter.elements(action.loop, scope):
        yield str(index), _iteration(on, action.loop, index, value, scope)


def _branch(on: Callable[[Fiber], "Interpreter"], steps: Steps, scope: Scope) -> Callable[[Fiber], Flow]:
    def flow(fiber: Fiber) -> Flow:
        inner = Scope(scope.memory, scope)
        try:
            return (yield from on(fiber).steps(steps, inner))
        finally:
            inner.close()

    return flow


def _iteration(
    on: Callable[[Fiber], "Interpreter"], loop: For, index: int, value: Value, scope: Scope
) -> Callable[[Fiber], Flow]:
    return lambda fiber: on(fiber).iteration(loop, index, value, scope)


def _unhandled(errors: list[tuple[str, WorkflowError]]) -> WorkflowError:
    branches = [{"id": name, "error": error.payload} for name, error in errors]
    message = "One or more branches or iterations encountered an unhandled runtime error"
    return fault("UnhandledBranchError", message, branches=branches)
