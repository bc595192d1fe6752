"""`python -m tools.diagram`: draw terraform/diagram.yaml as terraform/diagram.svg; `--check` only compares.

Places are columns and rows of a grid. A line leaves and enters a box at the middle of the sides that face each other.
"""

import argparse
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import yaml

TERRAFORM = Path(__file__).parent.parent.parent / "terraform"
SOURCE, PICTURE = TERRAFORM / "diagram.yaml", TERRAFORM / "diagram.svg"
WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 168, 70, 46, 30, 24  # of a box, between boxes, of the margin
STYLE = """\
    text { font: 14px system-ui, sans-serif; fill: #1f2937 }
    .small { font-size: 12px; fill: #5b6472 }
    .box { fill: #f6f8fa; stroke: #8a94a3 }
    .key { fill: #e3f0ff; stroke: #2f6fb3 }
    .frame { fill: none; stroke: #8a94a3; stroke-dasharray: 4 4 }
    .line { stroke: #5b6472; fill: none; stroke-width: 1.5 }
    .tip { fill: #5b6472 }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3 }
      .small { fill: #a4afbd }
      .box { fill: #1c2128; stroke: #768390 }
      .key { fill: #12304f; stroke: #6cb0f5 }
      .frame { stroke: #768390 }
      .line { stroke: #a4afbd }
      .tip { fill: #a4afbd }
    }"""
TIP = (
    '<marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    '<path class="tip" d="M0 0 L8 4 L0 8 Z"/></marker>'
)
Box = tuple[float, float, float, float]  # left, top, width, height


def place(at: list[float]) -> Box:
    """The box of a node at column and row."""
    column, row = at
    return EDGE + column * (WIDTH + GAP_X), EDGE + 24 + row * (HEIGHT + GAP_Y), WIDTH, HEIGHT


def number(value: float) -> str:
    """Without a useless fraction."""
    return f"{value:g}"


def node(entry: dict[str, Any]) -> list[str]:
    """A box with a title and at most two lines below it."""
    left, top, width, height = place(entry["at"])
    notes = entry.get("notes", [])
    middle, first = left + width / 2, top + height / 2 - 9 * len(notes) + 5
    kind = "key" if entry.get("key") else "box"
    size = f'x="{number(left)}" y="{number(top)}" width="{width}" height="{height}" rx="8"'
    lines = [f'  <rect class="{kind}" {size}/>']
    for index, text in enumerate([entry["title"], *notes]):
        small = ' class="small"' if index else ""
        spot = f'x="{number(middle)}" y="{number(first + 18 * index)}" text-anchor="middle"'
        lines.append(f"  <text{small} {spot}>{escape(text)}</text>")
    return lines


def around(entry: dict[str, Any]) -> Box:
    """The dashed line around the boxes from one place to another, with room for a title at its top."""
    left, top, _, _ = place(entry["from"])
    right, bottom, width, height = place(entry["to"])
    return left - 12, top - 25, right + width - left + 24, bottom + height - top + 37


def frame(entry: dict[str, Any]) -> list[str]:
    """A frame and its title."""
    left, top, width, height = around(entry)
    size = f'x="{number(left)}" y="{number(top)}" width="{number(width)}" height="{number(height)}"'
    spot = f'x="{number(left + 12)}" y="{number(top + 17)}"'
    return [f'  <rect class="frame" {size} rx="8"/>', f'  <text class="small" {spot}>{escape(entry["title"])}</text>']


def arrow(start: Box, end: Box) -> str:
    """A line from side to side: across when the boxes stand in different columns, else down or up."""
    (x1, y1, w1, h1), (x2, y2, w2, h2) = start, end
    if x1 == x2:
        down = y1 < y2
        points = [(x1 + w1 / 2, y1 + h1 * down), (x2 + w2 / 2, y2 + h2 * (not down) - (2 if down else -2))]
    else:
        right = x1 < x2
        begin = (x1 + w1 * right, y1 + h1 / 2)
        last = (x2 + w2 * (not right) - (2 if right else -2), y2 + h2 / 2)
        turn = last[0] - 15 if right else last[0] + 15
        points = [begin, last] if begin[1] == last[1] else [begin, (turn, begin[1]), (turn, last[1]), last]
    path = " ".join(f"{'L' if index else 'M'}{number(x)} {number(y)}" for index, (x, y) in enumerate(points))
    return f'  <path class="line" d="{path}" marker-end="url(#tip)"/>'


def drawn(source: dict[str, Any]) -> str:
    """The whole SVG."""
    nodes: dict[str, Any] = source["nodes"]
    boxes = {name: place(entry["at"]) for name, entry in nodes.items()}
    boxes |= {name: around(entry) for name, entry in source["frames"].items()}
    width = max(left + w for left, _, w, _ in boxes.values()) + EDGE
    height = max(top + h for _, top, _, h in boxes.values()) + EDGE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {number(width)} {number(height)}"'
        f' width="{number(width)}" height="{number(height)}" role="img" aria-labelledby="title desc">',
        f'  <title id="title">{escape(source["title"])}</title>',
        f'  <desc id="desc">{escape(source["description"])}</desc>',
        f"  <style>\n{STYLE}\n  </style>",
        f"  <defs>{TIP}</defs>",
    ]
    for entry in source["frames"].values():
        lines += frame(entry)
    lines += [arrow(boxes[start], boxes[end]) for start, end in source["lines"]]
    for entry in nodes.values():
        lines += node(entry)
    return "\n".join([*lines, "</svg>", ""])


def main() -> int:
    """Write the picture, or say that it is not the one of the source."""
    parser = argparse.ArgumentParser(prog="python -m tools.diagram", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when it is not current")
    made = drawn(yaml.safe_load(SOURCE.read_text()))
    if parser.parse_args().check:
        return int(not PICTURE.exists() or PICTURE.read_text() != made)
    PICTURE.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
