"""The tables of docs/retention.md: when what goes, as the register says it."""

from collections.abc import Iterable
from pathlib import Path

from common.register import register

PAGE = Path(__file__).parent.parent / "docs" / "retention.md"
BEGIN, END = "<!-- from common/register.yaml: {name} -->", "<!-- end -->"


def tables() -> dict[str, list[str]]:
    """Name of each table of the page → its lines."""
    known = register()
    periodical = [table for table in known.tables.values() if table.retention.period]
    lasting = [table for table in known.tables.values() if not table.retention.period]
    return {
        "periods": _lines("table | rows go", [(t.name, t.retention.text, t.retention.ground) for t in periodical]),
        "ends": _lines("table | rows stay", [(t.name, t.retention.text, t.retention.ground) for t in lasting]),
        "places": _lines("place | kept for", [(p.title, p.period, p.ground) for p in known.places.values()]),
    }


def _lines(titles: str, rows: Iterable[tuple[str, str, str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {titles} | because |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in cells)]


def page(text: str) -> str:
    """The page with its tables as the register has them. Raises ValueError when a marker is missing."""
    for name, lines in tables().items():
        begin = BEGIN.format(name=name)
        before, _, rest = text.partition(begin)
        _, end, after = rest.partition(END)
        if not end:
            raise ValueError(f"docs/retention.md: {begin} and {END} are missing")
        text = "\n".join((before + begin, *lines, END + after))
    return text


def update() -> None:
    """Write the tables into the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
