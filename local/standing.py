"""How each service of a stack stands, as its supervisor tells it in `<root>/services.json`."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "services.json"


@dataclass(frozen=True)
class Standing:
    """One service. `state` is one of local.children.State; `began` is the last start, in seconds since 1970."""

    name: str
    state: str
    pid: int | None
    starts: int
    began: float | None
    last_end: str
    step: bool
    ports: tuple[int, ...]
    health: str


@dataclass(frozen=True)
class Told:
    """A whole stack: when it began (seconds since 1970), after how many seconds all was ready (None: not yet)."""

    began: float
    ready_seconds: float | None
    services: tuple[Standing, ...]


def tell(root: Path, began: float, ready_seconds: float | None, services: Sequence[Standing]) -> None:
    """Replace the file; readers see the old or the new one whole. It need not survive a crash."""
    document = {"began": began, "ready_seconds": ready_seconds, "services": [asdict(each) for each in services]}
    new = root / f".{NAME}"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(document, file)
    new.replace(root / NAME)


def told(root: Path) -> Told | None:
    """What the supervisor said last; None where none runs, or one of another version, or none said a whole thing."""
    try:
        document = json.loads((root / NAME).read_text())
        services = tuple(Standing(**{**each, "ports": tuple(each["ports"])}) for each in document["services"])
        return Told(document["began"], document["ready_seconds"], services)
    except (FileNotFoundError, ValueError, LookupError, TypeError):
        return None
