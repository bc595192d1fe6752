"""The form of each file of data: JSON Schema of an array of rows, or CSV on the Web metadata of a table.

Sources: https://json-schema.org/draft/2020-12, https://www.w3.org/TR/tabular-metadata/
"""

from typing import Any

from functions.exports.copying import Copy
from functions.exports.queries import Shape

TEXT = {"type": ["string", "null"]}
JSON_TYPES: dict[str, dict[str, Any]] = {
    "uuid": {"type": ["string", "null"], "format": "uuid"},
    "timestamp with time zone": {"type": ["string", "null"], "format": "date-time"},
    "smallint": {"type": ["integer", "null"]},
    "integer": {"type": ["integer", "null"]},
    "bigint": {"type": ["integer", "null"]},
    "boolean": {"type": ["boolean", "null"]},
    "json": {},
    "jsonb": {},
    "text[]": {"type": ["array", "null"], "items": {"type": "string"}},
    "uuid[]": {"type": ["array", "null"], "items": {"type": "string", "format": "uuid"}},
}
CELL_TYPES = {
    "timestamp with time zone": "dateTime",
    "smallint": "short",
    "integer": "int",
    "bigint": "long",
    "boolean": "boolean",
    "json": "json",
    "jsonb": "json",
}
UUID = {"base": "string", "format": "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"}
# How the CSV files are to be read; stands in the manifest.
CSV = {
    "standard": "RFC 4180, UTF-8 without byte order mark, one header line, lines end in CR LF; a line end inside a "
    "quoted cell belongs to the cell",
    "null": "an empty cell without quotes is no value (null); an empty text is a pair of quotes",
    "values": "times as in the API (RFC 3339, UTC, microseconds); true and false; lists and objects as JSON text",
    "guard": "An apostrophe was put before =, +, -, @ and their full-width forms at the start of a cell and behind a "
    "semicolon, tab or line end in it, and before a tab or line end at its start (apostrophes in between do not "
    "count), so that no spreadsheet takes a text for a formula. Cells of numbers, ids, addresses and times are never "
    "changed.",
    "undo": {
        "replace": "(^|(?<=[;\\t\\r\\n]))'(?='*[-=+@\uff1d\uff0b\uff0d\uff20])|^'(?='*[\\t\\r\\n])",
        "with": "",
        "where": "in cells of columns whose datatype is string without a format, or json; ^ is the start of the cell",
    },
}


def schema(copy: Copy, shape: Shape, kind: str) -> dict[str, Any]:
    """schema/<table>.json for data/<table>.json or data/<table>.csv."""
    return _rows(copy, shape) if kind == "json" else _table(copy, shape)


def _rows(copy: Copy, shape: Shape) -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": copy.table.relation,
        "description": copy.table.purpose,
        "type": "array",
        "items": {
            "type": "object",
            "required": list(copy.columns),
            "additionalProperties": False,
            "properties": {name: JSON_TYPES.get(shape.types[name], TEXT) for name in copy.columns},
        },
    }


def _table(copy: Copy, shape: Shape) -> dict[str, Any]:
    key = {"primaryKey": list(shape.key)} if set(shape.key) <= set(copy.columns) else {}
    return {
        "@context": "http://www.w3.org/ns/csvw",
        "url": f"../data/{copy.table.relation}.csv",
        "dc:title": copy.table.relation,
        "dc:description": copy.table.purpose,
        "dialect": {"encoding": "utf-8", "lineTerminators": ["\r\n"], "header": True},
        "tableSchema": {
            "columns": [
                {"name": name, "titles": name, "null": "", "datatype": datatype(shape.types[name])}
                for name in copy.columns
            ],
            **key,
        },
    }


def datatype(kind: str) -> str | dict[str, str]:
    """The CSVW datatype of a column of this type."""
    if kind == "uuid":
        return UUID
    return "json" if kind.endswith("[]") else CELL_TYPES.get(kind, "string")
