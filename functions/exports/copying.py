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

# API keys that the person made, those that are gone included: the chain remembers them.
HER_KEYS = """ARRAY(
    SELECT CASE WHEN k.resource_id ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN CAST(k.resource_id AS uuid) END
    FROM app.audit_events k
    WHERE k.tenant_id = (SELECT app.tenant_id()) AND k.actor_id = (SELECT platform.export_subject())
        AND k.action = 'api_key.created')"""
TIME = re.compile(r"(^|_)(at|time)$")
PART_ROWS = 50_000  # about this many rows a part: small enough for its deadline, even beside a slow network
# One row of JSON a line, as it is: JSON text holds no raw control character, so CSV never quotes with these.
FORMAT = "(FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"


@dataclass(frozen=True)
class Copy:
    """How a table is copied: the COPY and, for an organization's table, the count and the type of its key."""

    table: Table
    sql: str
    count: str = ""
    key: str | None = None


def _platform_copy(table: Table) -> Copy:
    """The platform's own data comes from the definer function `platform.export_<table>()`."""
    return Copy(table, f"COPY (SELECT platform.export_{table.relation}()) TO STDOUT {FORMAT}")


def _is_hers(subject: Subject) -> str:
    """The condition that a row is about the person."""
    if subject.match == "email":
        return f"t.{subject.column} = (SELECT platform.export_subject_email())"
    if subject.match == "key":
        return f"t.{subject.column} = ANY ({HER_KEYS})"
    kind = "text" if subject.match == "text" else "uuid"
    found = f"t.{subject.column} = (SELECT CAST(platform.export_subject() AS {kind}))"
    return f"({found} AND t.{subject.without} IS NULL)" if subject.without else found


def _shown(column: str) -> str:
    """The column as a copy shows it: times as everywhere in the API. Their names end so; a test sees to it."""
    return f"platform.utc(t.{column}) AS {column}" if TIME.search(column) else f"t.{column}"


def _tenant_copy(table: Table) -> Copy:
    """An organization's rows in which the person is a subject; ranges by `id` or `seq` where there is one."""
    key = next((name for name in ("id", "seq") if name in table.columns), None)
    subjects = " OR ".join(_is_hers(subject) for subject in table.subjects if subject.export)
    where = f"t.tenant_id = (SELECT app.tenant_id()) AND ({subjects})"
    count = f"SELECT count(*), min(t.{key}), max(t.{key})" if key == "seq" else "SELECT count(*), NULL, NULL"
    counted = f"{count} FROM {table.name} t WHERE {where}"
    if key:
        kind = "uuid" if key == "id" else "bigint"
        where += (
            f" AND t.{key} >= CAST(current_setting('export.first') AS {kind})"
            f" AND t.{key} <= CAST(current_setting('export.last') AS {kind})"
        )
    columns = ", ".join(_shown(name) for name in table.exported)
    rows = f"SELECT {columns} FROM {table.name} t WHERE {where} ORDER BY {f't.{key}' if key else '1'}"  # noqa: S608
    return Copy(table, f"COPY (SELECT row_to_json(r) FROM ({rows}) r) TO STDOUT {FORMAT}", counted, key)  # noqa: S608


PLATFORM = {table.name: _platform_copy(table) for table in register().exported(of_tenant=False)}
TENANT = {table.name: _tenant_copy(table) for table in register().exported(of_tenant=True)}
COPIES = PLATFORM | TENANT


def platform_parts() -> list[Part]:
    """One part for each of the platform's tables."""
    return [Part(copy.table.relation, name, None, None, None) for name, copy in PLATFORM.items()]


def tenant_parts(tx: Tx, tenant_id: str) -> list[Part]:
    """The parts of one organization, each about PART_ROWS long; `tx` is sealed for it."""
    parts = []
    for name, copy in TENANT.items():
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
