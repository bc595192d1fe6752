"""What a copy holds: which tables, whose rows and which columns, built from the register.

The person comes from the sealed job (`platform.export_subject()`), the organization from the seal; everything else is
an identifier of the register. How it is written, in which order and in which parts: functions/exports/writing.py.
"""

import re
from dataclasses import dataclass
from functools import cache

from common.register import Subject, Table, register
from functions.exports.queries import Part

# A failed proof of identity: it stands under the person's id, and was somebody else's, most likely.
HERS_FOR_SURE = {"app.audit_events": "t.outcome <> 'failure'"}
TIME = re.compile(r"(^|_)(at|time)$")


@dataclass(frozen=True)
class Copy:
    """A table of a copy: `shown` has an expression for each of its `columns`, over the t of `rows` (FROM … WHERE …).

    The platform's own data comes line by line, as JSON, from the definer function `platform.export_<table>()`.
    """

    table: Table
    columns: tuple[str, ...]
    shown: tuple[str, ...]
    rows: str

    @property
    def of_tenant(self) -> bool:
        """Whether it is read from the organization's table itself."""
        return self.table.of_tenant


def _platform_copy(table: Table) -> Copy:
    """What the definer function gives about the person."""
    shown = tuple(f"t.line ->> '{name}'" for name in table.exported)
    return Copy(table, table.exported, shown, f"FROM platform.export_{table.relation}() AS t (line)")


def _is_hers(subject: Subject) -> str:
    """The condition that a row is about the person."""
    if subject.match == "email":
        return f"t.{subject.column} = (SELECT platform.export_subject_email())"
    if subject.match == "key":
        return f"t.{subject.column} = ANY (CAST((SELECT app.export_keys()) AS uuid[]))"
    kind = "text" if subject.match == "text" else "uuid"
    found = f"t.{subject.column} = (SELECT CAST(platform.export_subject() AS {kind}))"
    return f"({found} AND t.{subject.without} IS NULL)" if subject.without else found


def is_time(column: str) -> bool:
    """Whether the column is a point in time, shown in RFC 3339."""
    return TIME.search(column) is not None


def _shown(table: Table, column: str) -> str:
    """The column as a copy shows it: times as everywhere in the API. Their names end so; a test sees to it.

    Circumstances are shown of the person's own acts alone.
    """
    if is_time(column):
        return f"platform.utc(t.{column})"
    if column in table.circumstances:
        own = " OR ".join(_is_hers(subject) for subject in table.subjects if subject.export and not subject.without)
        sure = HERS_FOR_SURE.get(table.name, "true")
        return f"CASE WHEN {sure} AND ({own}) THEN t.{column} END"
    return f"t.{column}"


def _tenant_copy(table: Table, columns: tuple[str, ...], *, whole: bool) -> Copy:
    """An organization's rows, all of them or those in which the person is a subject."""
    where = "t.tenant_id = (SELECT app.tenant_id())"
    if not whole:
        where += f" AND ({' OR '.join(_is_hers(subject) for subject in table.subjects if subject.export)})"
    return Copy(table, columns, tuple(_shown(table, name) for name in columns), f"FROM {table.name} t WHERE {where}")


@cache
def _scopes() -> dict[str, dict[str, Copy]]:
    known = register()
    platform = {table.name: _platform_copy(table) for table in known.exported(of_tenant=False)}
    tenant = {table.name: _tenant_copy(table, table.exported, whole=False) for table in known.exported(of_tenant=True)}
    whole = {table.name: _tenant_copy(table, table.carried, whole=True) for table in known.carried()}
    return {"me": platform | tenant, "user": tenant, "organization": whole}


def copies(scope: str) -> dict[str, Copy]:
    """What a copy of this scope draws from, by table. The first time takes a moment: the register is read."""
    return _scopes()[scope]


def of_platform(scope: str) -> list[Part]:
    """One part for each of the platform's tables; an organization's request gets nothing of them."""
    named = copies(scope).items()
    return [Part(copy.table.relation, name, None, None, None) for name, copy in named if not copy.of_tenant]


def of_tenants(scope: str) -> dict[str, Copy]:
    """What a copy of this scope draws from each organization."""
    return {name: copy for name, copy in copies(scope).items() if copy.of_tenant}
