"""The alerts that are answered, as alerts.yaml describes them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from common.settings import settings

PLACE = Path(__file__).with_name("alerts.yaml")


@dataclass(frozen=True)
class Requests:
    """How the load balancer's log shows what is counted: `paths` is the beginning of a path, an RE2 expression."""

    paths: str
    statuses: tuple[int, ...]


@dataclass(frozen=True)
class Answer:
    """An alert: its record, and whom to block: more than `above` requests within `seconds` from one network."""

    name: str
    title: str
    severity: str
    codes: tuple[str, ...] = ()
    above: int = 0
    seconds: int = 0
    requests: Requests | None = None


@cache
def answers() -> dict[str, Answer]:
    """By name."""
    entries: dict[str, dict[str, Any]] = yaml.safe_load(PLACE.read_text(encoding="utf-8"))
    return {name: _read(name, entry) for name, entry in entries.items()}


def _read(name: str, entry: dict[str, Any]) -> Answer:
    given = dict(entry)
    if (setting := given.pop("setting", None)) is not None:
        given["above"] = getattr(settings(), setting)
    if "requests" in given:
        seen = given["requests"]
        given["requests"] = Requests(seen["paths"], tuple(seen["statuses"]))
    return Answer(name, **(given | {"codes": tuple(given.get("codes", ()))}))
