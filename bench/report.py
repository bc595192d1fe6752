"""RESULTS.md, rendered from results.json: no figure stands there that no run has measured."""

import math
from pathlib import Path

import yaml

from bench.contents import FAULTS, HEAD, LOAD, NAMES, PLOTS, SECTIONS, SERVED, SERVING, SMALL, SUITE
from bench.machine import CHECKOUT
from bench.plots import drawings
from bench.results import Case, Cases, Spread, full
from bench.verdicts import CPU, DJANGO, OURS, TARGETS, Target

FILE = CHECKOUT / "bench" / "RESULTS.md"
NOTES = CHECKOUT / "bench" / "notes.yaml"


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def number(value: float) -> str:
    """Three digits that count, or a whole number."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}" if abs(value) < 1 else f"{value:.2f}"


def spread(found: Spread) -> str:
    """The median, and the range where there is one."""
    if found.low == found.high:
        return number(found.middle)
    return f"{number(found.middle)} ({number(found.low)}–{number(found.high)})"


def verdicts(cases: Cases) -> str:
    """The targets and whether each is met."""
    cases, rows = full(cases), []
    for target in TARGETS:
        found, bound = target.measure(cases), f"{'≥' if target.least else '≤'} {target.limit:g}"
        shown = ["not measured", "–"] if found is None else [spread(found), "yes" if target.met(found) else "**no**"]
        rows.append([target.work, target.of, bound, *shown])
    return table(["work, every guard on", "to", "target", "found", "met"], rows)


def missed(cases: Cases, notes: dict[str, str]) -> str:
    """What is not met: by how much, and what is known about why."""
    cases, lines = full(cases), []
    for target in TARGETS:
        found = target.measure(cases)
        if found is not None and not target.met(found):
            why = notes.get(target.id, "Not explained yet.")
            lines.append(f"- **{target.work}, to {target.of}**: {_distance(target, found)}. {why.strip()}")
    return "\n".join(lines) or "Of what was measured, nothing is missed."


def _distance(target: Target, found: Spread) -> str:
    if target.limit == 0:
        return f"{number(found.middle)} where none may be"
    share = found.middle / target.limit
    return f"{number(found.middle)}, which is {number(share)} times the target"


def figures(case: Case, metrics: tuple[str, ...], base: str = "", ratio_of: tuple[str, ...] = CPU) -> str:
    """A row for each target: medians of its metrics; with a base, the ratio to it first."""
    head, rows = ["", *(NAMES[metric] for metric in metrics)], []
    if base and case.has(base):
        head.insert(1, f"{' + '.join(NAMES[metric] for metric in ratio_of)}, to {base}")
    else:
        base = ""
    for name, runs in case.rows.items():
        if not runs:
            continue
        cells = [f"**{name}**" if name == OURS else name]
        if base:
            cells.append(spread(case.ratio(name, base, *ratio_of)))
        cells += [number(_shown(case, name, metric)) if metric in runs[0] else "–" for metric in metrics]
        rows.append(cells)
    return table(head, rows)


def _shown(case: Case, name: str, metric: str) -> float:
    """The median, but of what must not be the worst."""
    return case.worst(name, metric) if metric in FAULTS else case.middle(name, metric)


def flights(case: Case) -> str:
    """Round trips to PostgreSQL, where they were counted."""
    found: dict[str, float] = case.said.get("flights", {})
    said = ", ".join(f"{name} {number(trips)}" for name, trips in found.items())
    return f"\n\nRound trips to PostgreSQL of one request: {said}." if said else ""


def machine(case: Case) -> str:
    """What a case was measured on."""
    m = case.machine
    where = f"{m['cores']} cores ({m['cpu']}), {m['memory_gib']} GiB, Linux {m['kernel']}, Python {m['python']}"
    return where + (f", PostgreSQL {m['postgres']}" if "postgres" in m else "")


def measured(cases: Cases) -> str:
    """The machines, and when each case was measured."""
    if not cases:
        return "Nothing is measured yet."
    machines = sorted({machine(case) for case in cases.values()})
    rows = [
        [name, case.at, case.commit, f"{case.machine['load']:g}", str(machines.index(machine(case)) + 1)]
        for name, case in sorted(cases.items())
    ]
    numbered = [f"{number}. {there}" for number, there in enumerate(machines, 1)]
    return "\n".join(numbered) + "\n\n" + table(["case", "at (UTC)", "commit", "load then", "machine"], rows)


def sections(cases: Cases) -> list[str]:
    """All tables, in order."""
    found = []
    for name in (f"{operation} {shape}" for shape in _shapes(cases) for operation in SERVED):
        if name in cases:
            operation, shape = name.split()
            title = f"{operation}, {shape.replace('x', ' tenants × ')} projects"
            found.append(f"### {title}\n\n{figures(cases[name], LOAD, DJANGO)}{flights(cases[name])}")
    found.insert(0, SERVING)
    for heading, parts in SECTIONS:
        there = [
            _part(cases[name], title, metrics, base, of) for name, title, metrics, base, of in parts if name in cases
        ]
        found.append("\n\n".join([heading.strip(), *(there or ["Not measured yet."])]))
    return found


def _shapes(cases: Cases) -> list[str]:
    names = (name.split() for name in cases)
    found = {words[1] for words in names if len(words) == 2 and words[0] in SERVED and "x" in words[1]}
    return sorted(found, key=lambda shape: int(shape.partition("x")[0]))


def _part(case: Case, title: str, metrics: tuple[str, ...], base: str, of: tuple[str, ...]) -> str:
    without = "".join(f"\n\n{name} did not take part. {why}" for name, why in case.said.get("without", {}).items())
    return f"**{title}**\n\n{figures(case, metrics, base, of)}{flights(case)}{without}"


def render(cases: Cases, notes: dict[str, str]) -> str:
    """The page."""
    small = SMALL if any(case.small for case in cases.values()) else ""
    plots = "\n".join(f"![{PLOTS[name]}](plots/{name})\n" for name in drawings(cases))
    parts = [
        HEAD + small,
        f"## Targets\n\n{verdicts(cases)}\n\n{SUITE}",
        f"## What is missed\n\n{missed(cases, notes)}",
    ]
    parts += [f"## Plots\n\n{plots.strip()}"] if plots else []
    parts += sections(cases)
    return "\n\n".join(part.strip() for part in (*parts, f"## When and where\n\n{measured(cases)}")) + "\n"


def write(cases: Cases, file: Path = FILE, notes: Path = NOTES) -> None:
    """Replace the page."""
    file.write_text(render(cases, yaml.safe_load(notes.read_text()) or {}))
