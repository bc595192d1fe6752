"""bench/results.json: for each case what every target's rounds found, and when, where and at which commit.

The rows of a case come from one interleaved run. A ratio is taken round by round, and then the median: whatever else
the machine did in a round hit both sides of it.
"""

import json
import math
import re
import statistics
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import machine

FILE = machine.CHECKOUT / "bench" / "results.json"
SMALL = machine.VAR / "small" / "results.json"  # of runs that only show that everything works
Run = dict[str, float]
RUN = re.compile(r"\{[^{}\[\]]*\}")


@dataclass(frozen=True)
class Spread:
    """A median and its range."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass
class Case:
    """One comparison. `rows`: target → its rounds; `said`: what no number tells, such as the modules found."""

    rows: dict[str, list[Run]]
    at: str = ""
    commit: str = ""
    machine: dict[str, Any] = field(default_factory=dict)
    small: bool = False
    said: dict[str, Any] = field(default_factory=dict)

    def has(self, target: str) -> bool:
        """Whether it took part."""
        return bool(self.rows.get(target))

    def values(self, target: str, *metrics: str) -> list[float]:
        """The sum of the metrics, round by round."""
        return [sum(run[metric] for metric in metrics) for run in self.rows[target]]

    def worst(self, target: str, metric: str) -> float:
        """The largest of the rounds."""
        return max(self.values(target, metric))

    def middle(self, target: str, *metrics: str) -> float:
        """The median of the rounds."""
        return statistics.median(self.values(target, *metrics))

    def ratio(self, target: str, base: str, *metrics: str) -> Spread:
        """To another target, in pairs of rounds; infinite where the other side is nothing."""
        pairs = zip(self.values(target, *metrics), self.values(base, *metrics), strict=False)
        return Spread.of([mine / other if other else math.inf for mine, other in pairs])


Cases = dict[str, Case]


def load(file: Path = FILE) -> Cases:
    """All cases."""
    if not file.exists():
        return {}
    return {name: Case(**entry) for name, entry in json.loads(file.read_text())["cases"].items()}


def save(cases: Cases, file: Path = FILE) -> None:
    """Replace the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_text(written(cases))
    fresh.replace(file)


def full(cases: Cases) -> Cases:
    """Without those of small runs, which say nothing but that everything works."""
    return {name: case for name, case in cases.items() if not case.small}


def written(cases: Cases) -> str:
    """The file's text: a round is a line."""
    text = json.dumps({"cases": {name: asdict(case) for name, case in sorted(cases.items())}}, indent=1)
    return RUN.sub(lambda run: " ".join(run[0].split()), text) + "\n"


def record(name: str, rows: dict[str, list[Run]], *, small: bool, postgres: str = "", **said: Any) -> None:
    """Put a case into its file, in the place of an older one."""
    file = SMALL if small else FILE
    rounded = {target: [{m: _short(v) for m, v in run.items()} for run in runs] for target, runs in rows.items()}
    at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    case = Case(rounded, at, machine.commit(), machine.facts(postgres), small, said)
    save(load(file) | {name: case}, file)


def _short(value: float) -> float:
    """Six digits that count: nobody measures more."""
    return float(f"{value:.6g}")
