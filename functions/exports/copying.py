"""The parts of a copy: which tables, whose rows, and the COPY of each, built from the register when the process starts.

COPY takes no parameters. The person comes from the sealed job (`platform.export_subject()`), the organization from the
seal, the key range from settings of the transaction; everything else in the text is an identifier of the register.
"""

import itertools
import re
from dataclasses import dataclass

from common.db import Tx
from common.register import Subject, Table, register
from functions.exports.queries import Part

TIME = re.compile(r"(^|_)(at|time)$")
ORDER = ("tenant_id", "user_id", "team_id")  # of rows without `id` and `seq`
PART_ROWS = 50_000  # about this many rows a part: small enough for its deadline, even beside a slow network
# One row of JSON a line, as it is: JSON text holds no raw control character, so CSV never quotes with these.
FORMAT = "(FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"


# Next (by the pipeline): the COPY itself (json/csv, order by the primary key, key ranges, count) moves into writing.py,
# which takes of a Copy: `table`, `columns`, `shown` (an expression per column, over t) and `rows` (FROM … t WHERE …).
# Here stays whose rows and which columns. Please keep _shown/_tenant_copy shaped so that this split is easy.
@dataclass(frozen=True)
class Copy:
    """How a table is copied: its columns, the COPY and, of an organization's table, the count and the name of its key."""

    table: Table
    columns: tuple[str, ...]
    sql: str
    count: str = ""
    key: str | None = None


def _platform_copy(table: Table) -> Copy:
    """The platform's own data comes from the definer function `platform.export_<table>()`."""
    return Copy(table, table.exported, f"COPY (SELECT platform.export_{table.relation}()) TO STDOUT {FORMAT}")


def _is_hers(subject: Subject) -> str:
    """The condition that a row is about the person."""
    if subject.match == "email":
        return f"t.{subject.column} = (SELECT platform.export_subject_email())"
    if subject.match == "key":
        return f"t.{subject.column} = ANY (CAST((SELECT app.export_keys()) AS uuid[]))"
    kind = "text" if subject.match == "text" else "uuid"
    found = f"t.{subject.column} = (SELECT CAST(platform.export_subject() AS {kind}))"
    return f"({found} AND t.{subject.without} IS NULL)" if subject.without else found


def _shown(table: Table, column: str) -> str:
    """The column as a copy shows it: times as everywhere in the API. Their names end so; a test sees to it.

    Circumstances are shown of the person's own acts alone: a log-in that failed was somebody else's, most likely.
    """
    if TIME.search(column):
        return f"platform.utc(t.{column}) AS {column}"
    if column in table.circumstances:
        own = " OR ".join(_is_hers(subject) for subject in table.subjects if subject.export and not subject.without)
        return f"CASE WHEN {own} THEN t.{column} END AS {column}"
    return f"t.{column}"


def _tenant_copy(table: Table, columns: tuple[str, ...], *, whole: bool) -> Copy:
    """An organization's rows, all of them or those in which the person is a subject; ranges by `id` or `seq`."""
    key = next((name for name in ("id", "seq") if name in table.columns), None)
    where = "t.tenant_id = (SELECT app.tenant_id())"
    if not whole:
        where += f" AND ({' OR '.join(_is_hers(subject) for subject in table.subjects if subject.export)})"
    count = f"SELECT count(*), min(t.{key}), max(t.{key})" if key == "seq" else "SELECT count(*), NULL, NULL"
    counted = f"{count} FROM {table.name} t WHERE {where}"
    if key:
        kind = "uuid" if key == "id" else "bigint"
        where += (
            f" AND t.{key} >= CAST(current_setting('export.first') AS {kind})"
            f" AND t.{key} <= CAST(current_setting('export.last') AS {kind})"
        )
    shown = ", ".join(_shown(table, name) for name in columns)
    order = ", ".join(f"t.{name}" for name in ([key] if key else ORDER) if name in columns)
    rows = f"SELECT {shown} FROM {table.name} t WHERE {where} ORDER BY {order}"  # noqa: S608
    return Copy(table, columns, f"COPY (SELECT row_to_json(r) FROM ({rows}) r) TO STDOUT {FORMAT}", counted, key)  # noqa: S608


PLATFORM = {table.name: _platform_copy(table) for table in register().exported(of_tenant=False)}
TENANT = {table.name: _tenant_copy(table, table.exported, whole=False) for table in register().exported(of_tenant=True)}
WHOLE = {table.name: _tenant_copy(table, table.carried, whole=True) for table in register().carried()}
SCOPES = {"me": PLATFORM | TENANT, "user": TENANT, "organization": WHOLE}


def copies(scope: str) -> dict[str, Copy]:
    """What a copy of this scope draws from, by table."""
    return SCOPES[scope]


def platform_parts(scope: str) -> list[Part]:
    """One part for each of the platform's tables; an organization's request gets nothing of them."""
    return [Part(each.table.relation, name, None, None, None) for name, each in copies(scope).items() if not each.count]


def tenant_parts(tx: Tx, tenant_id: str, scope: str) -> list[Part]:
    """The parts of one organization, each about PART_ROWS long; `tx` is sealed for it."""
    parts = []
    for name, copy in copies(scope).items():
        if not copy.count:
            continue
        rows, low, high = tx.rows(copy.count)[0]
        pieces = max(1, -(-int(rows) // PART_ROWS)) if copy.key else 1
        for number, (first, last) in enumerate(_ranges(copy.key, pieces, low, high)):
            parts.append(Part(f"{copy.table.relation}.{tenant_id}.{number}", name, tenant_id, first, last))
    return parts


def _ranges(key: str | None, pieces: int, low: int | None, high: int | None) -> list[tuple[str | None, str | None]]:
    """Key ranges, both ends inside, that leave no key out: rows that come later fall into one of them as well."""
    if key is None:
        return [(None, None)]
    if key == "id":
        edges = [(1 << 128) * number // pieces for number in range(pieces + 1)]
        return [(_uuid(first), _uuid(last - 1)) for first, last in itertools.pairwise(edges)]
    start, end = int(low or 0), int(high or 0) + 1
    cuts = [0, *(start + (end - start) * number // pieces for number in range(1, pieces)), (1 << 63)]
    return [(str(first), str(last - 1)) for first, last in itertools.pairwise(cuts)]


def _uuid(value: int) -> str:
    digits = f"{value:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
