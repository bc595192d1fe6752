"""`parallel`: iterations as flows of their own, and the one error that they raise together."""

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from local.workflows.effects import Fiber, Flow, Fork, Request
from local.workflows.model import Parallel
from local.workflows.scopes import Scope
from local.workflows.values import Value, WorkflowError, fault, kind

if TYPE_CHECKING:
    from local.workflows.interpreter import Interpreter

MAX_PARALLEL_DEPTH = 2
MAX_BRANCHES = 20


def parallel(interpreter: "Interpreter", action: Parallel, scope: Scope) -> Generator[Request, Any, None]:
    """All iterations run to their end, then their errors are raised as one."""
    if interpreter.parallel_depth >= MAX_PARALLEL_DEPTH:
        raise fault("ParallelNestingError", f"parallel steps are nested deeper than {MAX_PARALLEL_DEPTH}")
    items = interpreter.render(action.items, scope)
    if not isinstance(items, list):
        raise fault("TypeError", f"for needs a list, not {kind(items)}")
    flows = [(str(index), _iteration(interpreter, action, value, scope)) for index, value in enumerate(items)]
    errors = yield Fork(flows, min(action.limit or MAX_BRANCHES, MAX_BRANCHES))
    if errors:
        raise _unhandled(errors)


def _iteration(interpreter: "Interpreter", action: Parallel, value: Value, scope: Scope) -> Callable[[Fiber], Flow]:
    """One pass through the steps, with variables of its own, ready to be started on a fiber of its own."""

    def flow(fiber: Fiber) -> Flow:
        inner = Scope(scope.memory, scope)
        on = replace(interpreter, fiber=fiber, parallel_depth=interpreter.parallel_depth + 1)
        try:
            inner.declare(action.value, value)
            return (yield from on.steps(action.steps, inner))
        finally:
            inner.close()

    return flow


def _unhandled(errors: list[tuple[str, WorkflowError]]) -> WorkflowError:
    branches = [{"id": name, "error": error.payload} for name, error in errors]
    message = "One or more branches or iterations encountered an unhandled runtime error"
    return fault("UnhandledBranchError", message, branches=branches)
