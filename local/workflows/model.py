"""A loaded workflow: what the loader builds from YAML and the interpreter runs."""

from dataclasses import dataclass, field

from local.workflows.expressions import Node
from local.workflows.values import Value


@dataclass(frozen=True)
class Mark:
    """A place in the YAML file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Const:
    """A value without expressions in it."""

    value: Value


@dataclass(frozen=True)
class Expression:
    """A `${…}`."""

    node: Node
    mark: Mark


@dataclass(frozen=True)
class MapOf:
    """A map with at least one expression in it."""

    items: tuple[tuple[str, "Template"], ...]


Template = Const | Expression | MapOf


@dataclass(frozen=True)
class Target:
    """The variable that an assignment or a result writes."""

    name: str
    mark: Mark


@dataclass(frozen=True)
class Assign:
    """`assign`: in order, later ones see earlier ones."""

    items: tuple[tuple[Target, Template], ...]


@dataclass(frozen=True)
class Call:
    """`call` of an http function or a subworkflow."""

    function: str
    arguments: tuple[tuple[str, Template], ...]
    result: Target | None
    mark: Mark


@dataclass(frozen=True)
class Case:
    """One entry of `switch`."""

    condition: Template
    action: "Steps | Return | Raise | None"
    next: str | None


@dataclass(frozen=True)
class Switch:
    """`switch`: the first true condition wins."""

    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Steps:
    """An ordered list of steps, with their positions by name."""

    items: tuple["Step", ...]
    positions: dict[str, int] = field(hash=False)


@dataclass(frozen=True)
class Return:
    """`return`."""

    value: Template


@dataclass(frozen=True)
class Raise:
    """`raise`."""

    value: Template


@dataclass(frozen=True)
class Parallel:
    """`parallel`: a loop over a list whose iterations run at once."""

    shared: tuple[str, ...]
    limit: int | None
    value: str
    items: Template
    steps: Steps
    mark: Mark


@dataclass(frozen=True)
class Retry:
    """`retry`: a predicate (a subworkflow) and the back-off, in whole seconds."""

    predicate: str
    max_retries: int
    initial_delay: int
    max_delay: int
    multiplier: int
    mark: Mark


@dataclass(frozen=True)
class Except:
    """`except`: the error's variable and what handles it."""

    error: str
    steps: Steps
    mark: Mark


@dataclass(frozen=True)
class Try:
    """`try` of one call or of steps."""

    body: "Steps | Call"
    retry: Retry | None
    handler: Except | None


Action = Assign | Call | Switch | Return | Raise | Parallel | Try


@dataclass(frozen=True)
class Step:
    """One named step."""

    name: str
    action: Action
    next: str | None
    mark: Mark


@dataclass(frozen=True)
class Routine:
    """`main` or a subworkflow."""

    name: str
    parameters: tuple[str, ...]
    steps: Steps
    mark: Mark


@dataclass(frozen=True)
class Workflow:
    """One YAML file."""

    name: str
    file: str
    source: str
    routines: dict[str, Routine] = field(hash=False)
