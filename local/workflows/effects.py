"""What the interpreter asks of the world, and how control leaves a step."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from local.workflows.calls import Http
from local.workflows.library import IMPURE
from local.workflows.model import Workflow
from local.workflows.scopes import Memory
from local.workflows.values import Value, fault, is_number, kind


@dataclass(frozen=True)
class Jump:
    """`next`: to a step, `end`, `break` or `continue`."""

    target: str


@dataclass(frozen=True)
class Returned:
    """`return`."""

    value: Value


@dataclass(frozen=True)
class Sleep:
    """Wait until a time in Unix seconds."""

    until: float


@dataclass(frozen=True)
class Fork:
    """Run the flows of a parallel step, `limit` at a time; the outcome is the list of (branch id, error)."""

    flows: list[tuple[str, Callable[["Fiber"], "Flow"]]]
    limit: int


Signal = Jump | Returned | None
Request = Http | Sleep | Fork
Flow = Generator[Request, Any, Signal]


class Host(Protocol):
    """The world outside: what a workflow learns from it is remembered under a key, so a replay learns the same."""

    def env(self, name: str) -> str | None:
        """An environment variable of the workflow."""

    def remember(self, key: str, learn: Callable[[], Value]) -> Value:
        """What was learned under this key; `learn` is called the first time only."""

    def now(self) -> float:
        """Unix seconds."""

    def random_id(self) -> str:
        """A random UUID."""

    def log(self, severity: str, data: Value) -> None:
        """Write a log entry."""


class Fiber:
    """One line of control: the main one or a parallel branch. It numbers what it asks, by which replay finds it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.asked = 0

    def next_key(self) -> str:
        """The key of the next thing asked; the same in every replay."""
        self.asked += 1
        return f"{self.key}#{self.asked}"


@dataclass
class World:
    """What all routines and branches of one execution share."""

    workflow: Workflow
    host: Host
    memory: Memory
    steps: int = 0
    current: tuple[str, str] = ("main", "")


def impure(world: World, fiber: Fiber, function: str, arguments: list[Value]) -> Value:
    """sys.get_env, sys.now, uuid.generate."""
    host = world.host
    if function == "sys.now":
        return host.remember(fiber.next_key(), host.now)
    if function == "uuid.generate":
        return host.remember(fiber.next_key(), host.random_id)
    for each in arguments:
        if not isinstance(each, str):
            raise fault("TypeError", f"{function} needs strings, not {kind(each)}")
    found = host.env(arguments[0])
    if found is None and len(arguments) < len(IMPURE[function].parameters):
        raise fault("KeyError", f"environment variable not found: {arguments[0]}")
    return arguments[1] if found is None else found


def sleep(world: World, fiber: Fiber, seconds: Value) -> Generator[Request, Any, None]:
    """Wait; the end of the wait is remembered, so a restart does not begin it anew."""
    if not is_number(seconds):
        raise fault("TypeError", f"sys.sleep needs a number, not {kind(seconds)}")
    host = world.host
    yield Sleep(host.remember(fiber.next_key(), lambda: host.now() + max(0.0, seconds)))


def log(world: World, fiber: Fiber, arguments: dict[str, Value]) -> None:
    """sys.log: once, also when the step is replayed."""
    given = [arguments[name] for name in ("data", "text", "json") if name in arguments]
    if len(given) != 1:
        raise fault("ValueError", "sys.log needs one of data, text and json")
    severity = str(arguments.get("severity", "DEFAULT"))
    world.host.remember(fiber.next_key(), lambda: world.host.log(severity, given[0]))
