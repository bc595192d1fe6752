"""One execution: runs every branch until all wait, says what they wait for, goes on with one outcome at a time.

The order in which outcomes come in is the only thing that is not determined by the workflow: a journal of it is all
that a replay needs.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local.workflows.calls import Http, Outcome
from local.workflows.effects import Fiber, Flow, Fork, Host, Request, Sleep, World
from local.workflows.interpreter import Interpreter
from local.workflows.model import Workflow
from local.workflows.scopes import Memory
from local.workflows.values import Value, WorkflowError

Pending = tuple[str, Http | Sleep]


@dataclass
class _Fiber:
    """A flow and where its end is reported."""

    fiber: Fiber
    flow: Flow
    done: Callable[[WorkflowError | None], None]


@dataclass
class _Fork:
    """A parallel step under way."""

    parent: _Fiber
    queue: deque[tuple[str, Callable[[Fiber], Flow]]]
    key: str
    running: int = 0
    started: int = 0
    errors: dict[int, tuple[str, WorkflowError]] = field(default_factory=dict)


class Machine:
    """`start`, then `complete` for each outcome; both return what is to be done next, until `finished`."""

    def __init__(self, workflow: Workflow, argument: Value, host: Host) -> None:
        self.world = World(workflow, host, Memory())
        self.argument = argument
        self.waiting: dict[str, _Fiber] = {}
        self.ready: deque[tuple[_Fiber, Any]] = deque()
        self.asked: list[Pending] = []
        self.finished = False
        self.result: Value = None
        self.error: WorkflowError | None = None

    def start(self) -> list[Pending]:
        """Run to the first blocking calls."""
        fiber = Fiber("0")
        main = self.world.workflow.routines["main"]
        interpreter = Interpreter(self.world, fiber, main)
        arguments = {main.parameters[0]: self.argument} if main.parameters else {}
        return self._run(_Fiber(fiber, self._main(interpreter, arguments), self._end), None)

    def complete(self, key: str, outcome: Outcome | None) -> list[Pending]:
        """Go on with the outcome of one pending call. Raises KeyError for a call that nobody waits for."""
        return self._run(self.waiting.pop(key), outcome)

    def _main(self, interpreter: Interpreter, arguments: dict[str, Value]) -> Flow:
        self.result = yield from interpreter.body(arguments)
        return None

    def _end(self, error: WorkflowError | None) -> None:
        self.finished, self.error = True, error

    def _run(self, fiber: _Fiber, outcome: Any) -> list[Pending]:
        self.ready.append((fiber, outcome))
        while self.ready:
            self._advance(*self.ready.popleft())
        asked, self.asked = self.asked, []
        return asked

    def _advance(self, fiber: _Fiber, outcome: Any) -> None:
        """Run one flow to its next request, or to its end."""
        try:
            request = fiber.flow.send(outcome)
        except StopIteration:
            fiber.done(None)
        except WorkflowError as error:
            fiber.done(error)
        else:
            self._ask(fiber, request)

    def _ask(self, fiber: _Fiber, request: Request) -> None:
        key = fiber.fiber.next_key()
        if not isinstance(request, Fork):
            self.waiting[key] = fiber
            self.asked.append((key, request))
            return
        fork = _Fork(fiber, deque(request.flows), key)
        if not fork.queue:
            self.ready.append((fiber, []))
        for _ in range(min(request.limit, len(fork.queue))):
            self._start_branch(fork)

    def _start_branch(self, fork: _Fork) -> None:
        name, flow = fork.queue.popleft()
        number = fork.started
        fork.started += 1
        fork.running += 1
        fiber = Fiber(f"{fork.key}.{number}")

        def done(error: WorkflowError | None) -> None:
            fork.running -= 1
            if error is not None:
                fork.errors[number] = (name, error)
            if fork.queue:
                self._start_branch(fork)
            elif fork.running == 0:
                self.ready.append((fork.parent, [fork.errors[each] for each in sorted(fork.errors)]))

        self.ready.append((_Fiber(fiber, flow(fiber), done), None))
