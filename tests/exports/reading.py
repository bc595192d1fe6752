"""A reader of the CSV files as the manifest describes them: null and empty told apart, guards undone, values."""

import json
import re
from typing import Any

CELL = re.compile(r'"((?:[^"]|"")*)"|([^,\r\n"]*)')


def table(text: str) -> list[list[str | None]]:
    """RFC 4180: the rows of cells, None for an empty cell without quotes. The text has to end with CR LF."""
    rows: list[list[str | None]] = [[]]
    at = 0
    while at < len(text):
        found = CELL.match(text, at)
        assert found, text[at : at + 50]
        quoted, plain = found.groups()
        rows[-1].append(quoted.replace('""', '"') if quoted is not None else plain or None)
        at = found.end()
        if text.startswith(",", at):
            at += 1
        else:
            assert text.startswith("\r\n", at), text[at : at + 50]
            at += 2
            rows.append([])
    assert rows.pop() == []
    return rows


def undone(cell: str, manifest: dict[str, Any]) -> str:
    """What the cell was before it was guarded, by the manifest's own rule."""
    undo = manifest["csv"]["undo"]
    return re.sub(undo["replace"], undo["with"], cell)


def rows(package: Any, relation: str) -> list[dict[str, Any]]:
    """The rows of a table as its JSON file would have them, by nothing but what the package says."""
    schema = json.loads(package.text(f"schema/{relation}.json"))
    columns = schema["tableSchema"]["columns"]
    header, *body = table(package.text(f"data/{relation}.csv"))
    assert header == [column["titles"] for column in columns]
    kinds = {column["name"]: column["datatype"] for column in columns}
    assert all(len(row) == len(header) for row in body)
    return [
        {str(name): value(cell, kinds[str(name)], package.manifest) for name, cell in zip(header, row, strict=True)}
        for row in body
    ]


def value(cell: str | None, kind: Any, manifest: dict[str, Any]) -> Any:
    """A cell by its datatype."""
    if cell is None:
        return None
    if kind in ("short", "int", "long"):
        return int(cell)
    if kind == "boolean":
        return {"true": True, "false": False}[cell]
    if kind == "json":
        return json.loads(undone(cell, manifest))
    return undone(cell, manifest) if kind == "string" else cell
