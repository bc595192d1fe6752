"""How a copy is written: the text of each COPY in JSON or CSV, key ranges, and the compressed pieces that come of it.

COPY takes no parameters. Identifiers come from the register and the catalog; the bounds of a key range come from
settings of the transaction, as JSON that PostgreSQL reads as a row of the table: so any key has ranges.
"""

import itertools
import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from common import storage
from common.db import Tx
from common.zipping import Piece
from functions.exports import queries
from functions.exports.copying import Copy, is_time
from functions.exports.queries import Part, Shape

SMALLEST, LARGEST, PIECES = 100_000, 2_000_000, 8  # rows of a part: one table makes about PIECES of them
# One row of JSON a line, as it is: JSON text holds no raw control character, so CSV never quotes with these.
JSON_LINES = "(FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
NEVER_GUARDED = (
    *("uuid", "timestamp with time zone", "date", "inet", "bytea"),
    *("smallint", "integer", "bigint", "numeric", "real", "double precision"),
)
WRITTEN_AS_IT_IS = ("boolean", "smallint", "integer", "bigint", "json", "jsonb")
PIECE_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class Form:
    """How a file of data looks: what stands before its rows, between two of them, behind them, and without any."""

    start: bytes
    between: bytes
    end: bytes
    empty: bytes


def form(kind: str, columns: tuple[str, ...]) -> Form:
    """An array with one row a line, exactly as PostgreSQL wrote it; or RFC 4180 with a header line."""
    if kind == "json":
        return Form(b"[\n", b",\n", b"\n]\n", b"[]\n")
    header = ",".join(columns).encode() + b"\r\n"
    return Form(header, b"\r\n", b"\r\n", header)


def statement(copy: Copy, kind: str, shape: Shape, part: Part) -> str:
    """The COPY of a part. Rows come in the order of the primary key: the same data makes the same bytes."""
    if kind == "json" and not copy.of_tenant:
        return f"COPY (SELECT t.line {copy.rows}) TO STDOUT {JSON_LINES}"
    shown = ", ".join(f"{value} AS {name}" for name, value in zip(copy.columns, copy.shown, strict=True))
    order = f" ORDER BY {_key(shape)}" if copy.of_tenant else ""
    rows = f"SELECT {shown} {copy.rows}{_within(copy, shape, part)}{order}"
    if kind == "json":
        return f"COPY (SELECT {line(copy, shape)} FROM ({rows}) r) TO STDOUT {JSON_LINES}"  # noqa: S608 - names of ours
    cells = ", ".join(_cell(name, shape.types[name], text=not copy.of_tenant) for name in copy.columns)
    return f"COPY (SELECT {cells} FROM ({rows}) r) TO STDOUT (FORMAT csv)"  # noqa: S608 - names of ours


def line(copy: Copy, shape: Shape) -> str:
    """What row_to_json makes of the row r, in less time: that finds out about the type of each value anew."""
    members = [f"""'"{name}":' || coalesce({_member(name, shape.types[name])}, 'null')""" for name in copy.columns]
    return f"""'{{' || {" || ',' || ".join(members)} || '}}'"""


def _member(name: str, kind: str) -> str:
    if kind == "uuid" or is_time(name):
        return f"""'"' || r.{name} || '"'"""
    if kind in WRITTEN_AS_IT_IS:
        return f"CAST(r.{name} AS text)"
    return f"CAST(to_json(r.{name}) AS text)"


def _cell(name: str, kind: str, *, text: bool) -> str:
    """A column as a cell of CSV: lists and JSON as JSON text; what may hold anything is guarded against formulas."""
    if kind in NEVER_GUARDED:
        return f"r.{name}"
    if kind == "boolean":
        return f"CAST(r.{name} AS text)"
    listed = kind.endswith("[]") and not text
    return f"platform.guarded(CAST({f'to_json(r.{name})' if listed else f'r.{name}'} AS text))"


def _key(shape: Shape) -> str:
    return ", ".join(f"t.{name}" for name in shape.key)


def _within(copy: Copy, shape: Shape, part: Part) -> str:
    """The range of a part: behind its first key, up to its last one; open where the plan names none.

    Sub-selects, so that a bound is read once and not for each row.
    """
    found = ""
    for bound, sign, setting in ((part.range_from, ">", "first"), (part.range_to, "<=", "last")):
        if bound is not None:
            value = f"CAST(current_setting('export.{setting}') AS jsonb)"
            row = f"jsonb_populate_record(CAST(NULL AS {copy.table.name}), {value})"
            found += f" AND ({_key(shape)}) {sign} ({', '.join(f'(SELECT ({row}).{name})' for name in shape.key)})"
    return found


def parts(tx: Tx, tenant_id: str, copies: Mapping[str, Copy]) -> list[Part]:
    """The parts of one organization; `tx` is sealed for it."""
    shapes = queries.select_shapes(tx, list(copies))
    queries.prefer_scans(tx)
    sampled = tx.flight(*((_sampled(copy, shapes[name]), {}) for name, copy in copies.items()))
    found = []
    for copy, ((rows, sample),) in zip(copies.values(), sampled, strict=True):
        for number, (first, last) in enumerate(ranges(int(rows), json.loads(sample))):
            name = f"{copy.table.relation}.{tenant_id}.{number}"
            found.append(Part(name, copy.table.name, tenant_id, first, last))
    return found


def _sampled(copy: Copy, shape: Shape) -> str:
    """The number of rows, and the keys of about a thousandth of them in their order: one pass, in any order."""
    key = ", ".join(f"'{name}', t.{name}" for name in shape.key)
    keys = f"json_agg(json_build_object({key}) ORDER BY {_key(shape)}) FILTER (WHERE random() < 0.001)"
    return f"SELECT count(*), coalesce(CAST({keys} AS text), '[]') {copy.rows}"


def ranges(rows: int, sample: list[dict[str, Any]]) -> list[tuple[str | None, str | None]]:
    """Even ranges of keys by a sample of them; open at both ends, so that a row that comes later falls into one."""
    pieces = max(1, -(-rows // min(max(SMALLEST, -(-rows // PIECES)), LARGEST)))
    cuts = sorted({len(sample) * number // pieces for number in range(1, pieces)} - {0})
    bounds = [None, *(json.dumps(sample[cut]) for cut in cuts), None]
    return list(itertools.pairwise(bounds))


class Rows:
    """Rows on their way into a stored piece; without any row no object comes to be."""

    def __init__(self, place: str, between: bytes) -> None:
        self._place, self._between = place, between
        self._open = ExitStack()
        self._piece: Piece | None = None
        self._sink: storage.Sink | None = None

    def take(self, rows: list[bytes]) -> None:
        """The next rows, at least one."""
        if self._piece is None:
            self._sink = self._open.enter_context(storage.uploading(self._place, PIECE_TYPE))
            self._piece = Piece(self._sink)
        else:
            self._piece.write(self._between)
        self._piece.write(self._between.join(rows))

    def __enter__(self) -> "Rows":
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._piece is not None and raised[0] is None:
            self._piece.end()
        self._open.__exit__(*raised)

    def counted(self, part: Part, rows: int) -> Part:
        """The part with what it came to: `bytes` are those of the rows, `sha256` is of the stored object."""
        if self._piece is None or self._sink is None:
            return replace(part, rows=0, bytes=0)
        return replace(part, object_name=self._place, rows=rows, bytes=self._piece.size, sha256=self._sink.sha256)


def store(tx: Tx, copy: Copy, shape: Shape, kind: str, part: Part, place: str) -> Part:
    """Copy a part into storage. A COPY that breaks off raises, and no object comes to be."""
    queries.set_range(tx, part)
    with Rows(place, form(kind, copy.columns).between) as rows:
        number = tx.copy_out(statement(copy, kind, shape, part), rows.take)
    return rows.counted(part, number)
