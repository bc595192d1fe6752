"""Small plots as SVG, readable on light and dark pages: bars of what a request costs, lines of how it grows."""

import math
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from bench.machine import CHECKOUT
from bench.results import Cases
from bench.verdicts import CPU, SHAPES

FOLDER = CHECKOUT / "bench" / "plots"
STYLE = """
    text { font: 13px system-ui, sans-serif; fill: #1f2937 }
    .small { font-size: 11px; fill: #5b6472 }
    .head { font-weight: 600 }
    .first { fill: #2f6fb3 }
    .second { fill: #9cc3ea }
    .line { stroke: #5b6472; fill: none; stroke-width: 1 }
    .grid { stroke: #d5dae1; stroke-width: 1 }
    .s0 { stroke: #2f6fb3; fill: #2f6fb3 }
    .s1 { stroke: #b3622f; fill: #b3622f }
    .s2 { stroke: #3f8f4f; fill: #3f8f4f }
    path { fill: none !important; stroke-width: 2 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .small { fill: #a4afbd }
      .first { fill: #6cb0f5 }
      .second { fill: #2b4d70 }
      .line { stroke: #a4afbd }
      .grid { stroke: #343b44 }
      .s0 { stroke: #6cb0f5; fill: #6cb0f5 }
      .s1 { stroke: #f0a070; fill: #f0a070 }
      .s2 { stroke: #7fd08f; fill: #7fd08f }
    }
"""
WIDTH, LEFT, BAR, ROW = 760, 190, 430, 22


@dataclass(frozen=True)
class Bar:
    """A line of a bar plot: two parts, one after the other."""

    name: str
    first: float
    second: float


def page(title: str, told: str, height: int, body: list[str]) -> str:
    """The file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [f'{head} role="img" aria-labelledby="title desc">', f'  <title id="title">{escape(title)}</title>']
    parts += [f'  <desc id="desc">{escape(told)}</desc>', f"  <style>{STYLE}  </style>", *body, "</svg>"]
    return "\n".join(parts) + "\n"


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text."""
    return f'  <text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def bars(title: str, groups: dict[str, list[Bar]]) -> str:
    """Groups of bars on one scale; their two parts are told by shade and in the text."""
    most = max((bar.first + bar.second for group in groups.values() for bar in group), default=1) or 1
    body, y = [text(10, 22, title, "head")], 44
    for name, group in groups.items():
        body.append(text(10, y + 4, name, "head"))
        y += 12
        for bar in group:
            one, two = (BAR * part / most for part in (bar.first, bar.second))
            body.append(text(LEFT - 8, y + 13, bar.name, "", "end"))
            body.append(f'  <rect class="first" x="{LEFT}" y="{y}" width="{one:.1f}" height="16"/>')
            body.append(f'  <rect class="second" x="{LEFT + one:.1f}" y="{y}" width="{two:.1f}" height="16"/>')
            body.append(text(LEFT + one + two + 6, y + 13, f"{bar.first:.2f} + {bar.second:.2f}", "small"))
            y += ROW
        y += 20
    told = "; ".join(f"{name}: " + ", ".join(bar.name for bar in group) for name, group in groups.items())
    return page(title, told, y, body)


def lines(title: str, along: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """Lines over a logarithmic axis, from nothing upwards."""
    points = [point for line in series.values() for point in line]
    low, high = (math.log10(edge([x for x, _ in points])) for edge in (min, max))
    most = max(y for _, y in points) or 1
    top, bottom, right = 50, 230, WIDTH - 150

    def place(point: tuple[float, float]) -> tuple[float, float]:
        share = (math.log10(point[0]) - low) / ((high - low) or 1)
        return 60 + share * (right - 60), bottom - point[1] / most * (bottom - top)

    body = [text(10, 22, title, "head"), text((60 + right) / 2, bottom + 38, along, "small", "middle")]
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - top)
        body.append(f'  <line class="grid" x1="60" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        body.append(text(54, y + 4, f"{share * most:.2g}", "small", "end"))
    for x in sorted({x for x, _ in points}):
        body.append(text(place((x, 0))[0], bottom + 18, f"{x:,.0f}", "small", "middle"))
    for number, (name, line) in enumerate(series.items()):
        drawn = " ".join(f"{'M' if n == 0 else 'L'}{x:.1f} {y:.1f}" for n, (x, y) in enumerate(map(place, line)))
        body.append(f'  <path class="s{number % 3}" d="{drawn}"/>')
        body += [f'  <circle class="s{number % 3}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in map(place, line)]
        body.append(text(right + 12, place(line[-1])[1] + 4 + 15 * (number - 1), name))
    return page(title, f"{along}: " + ", ".join(series), bottom + 52, body)


def drawings(cases: Cases) -> dict[str, str]:
    """Every plot that there are figures for, by file name."""
    found = {}
    groups = {}
    for operation in ("list", "get", "create"):
        case = cases.get(f"{operation} {SHAPES[0]}")
        if case:
            groups[operation] = [Bar(name, *(case.middle(name, part) for part in CPU)) for name in case.rows]
    if groups:
        found["requests.svg"] = bars("CPU seconds per 1,000 requests: server + PostgreSQL", groups)
    for what, along in (("tenants", "tenants, 20 projects each"), ("rows", "rows, in 1,000 tenants")):
        series = {}
        for operation in ("list", "get", "create"):
            case = cases.get(f"growth {what} {operation}")
            if case:
                sizes = sorted(case.rows, key=int)
                series[operation] = [(float(size), case.middle(size, *CPU)) for size in sizes]
        if series:
            found[f"growth-{what}.svg"] = lines(
                "CPU seconds per 1,000 requests, function and PostgreSQL", along, series
            )
    return found


def draw(cases: Cases, folder: Path = FOLDER) -> None:
    """Write them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in drawings(cases).items():
        (folder / name).write_text(drawn)
