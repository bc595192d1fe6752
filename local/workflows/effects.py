"""What the interpreter asks of the world, and how control leaves a step."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from local.workflows.calls import Http
from local.workflows.library import GET_ENV
from local.workflows.model import Workflow
from local.workflows.scopes import Memory
from local.workflows.values import Value, fault, kind


@dataclass(frozen=True)
class Jump:
    """`next`."""

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
    """Run the flows of a parallel step, `limit` at a time; the outcome is the list of (iteration's id, error)."""

    flows: list[tuple[str, Callable[["Fiber"], "Flow"]]]
    limit: int


Signal = Jump | Returned | None
Request = Http | Sleep | Fork
Flow = Generator[Request, Any, Signal]


class Host(Protocol):
    """The world outside: what a workflow learns from it is remembered under a key, so a replay learns the same."""

    def env(self, name: str) -> str | None:
        """An environment variable of the workflow."""

    def remember(self, key: str, learn: Callable[[], float]) -> float:
        """What was learned under this key; `learn` is called the first time only."""

    def now(self) -> float:
        """Unix seconds."""


class Fiber:
    """One line of control: the main one or a parallel iteration. It numbers what it asks, by which replay finds it."""

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


def get_env(host: Host, arguments: list[Value]) -> Value:
    """sys.get_env. Raises KeyError of the language without variable and default."""
    for each in arguments:
        if not isinstance(each, str):
            raise fault("TypeError", f"{GET_ENV} needs strings, not {kind(each)}")
    name, *default = arguments
    found = host.env(name)
    if found is None and not default:
        raise fault("KeyError", f"environment variable not found: {name}")
    return default[0] if found is None else found


def sleep(world: World, fiber: Fiber, seconds: float) -> Generator[Request, Any, None]:
    """Wait; the end of the wait is remembered, so a restart does not begin it anew."""
    host = world.host
    yield Sleep(host.remember(fiber.next_key(), lambda: host.now() + seconds))
