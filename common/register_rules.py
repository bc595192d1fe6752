"""The register as the database reads it: one JSON object per table, in the order of erasure.

The functions of migration 0018 build their SQL from these rules, so every name in them is an identifier,
checked here once more. What a rule means is said in common/register.yaml.
"""

import json
import re
from collections.abc import Iterable
from typing import Any

from common.register import Register, RegisterError, Table, register

IDENTIFIER = re.compile(r"[a-z][a-z0-9_]{0,62}")
RESOURCES = {"app.projects": "project", "app.tasks": "task"}  # what a legal hold may name
BY_ADDRESS = ("email", "mention")
Rules = dict[str, Any]


def compiled(source: Register | None = None) -> list[tuple[str, str]]:
    """Table name and rules as JSON text, rows that hang on others before those that they hang on.

    Raises RegisterError when a name is not an identifier, or no such order exists.
    """
    tables = (source or register()).tables
    return [(table.name, json.dumps(_rules(table, tables))) for table in ordered(tables)]


def ordered(tables: dict[str, Table]) -> list[Table]:
    """The order of erasure: a row goes before the rows that its references, or its mail, point to."""
    waiting = dict(tables)
    order: list[Table] = []
    while waiting:
        blocked = {later for table in waiting.values() for later in _after(table, tables) if later != table.name}
        free = [table for name, table in waiting.items() if name not in blocked]
        if not free:
            raise RegisterError(f"no order of erasure among {', '.join(sorted(blocked & set(waiting)))}")
        order += free
        for table in free:
            del waiting[table.name]
    return order


def _after(table: Table, tables: dict[str, Table]) -> Iterable[str]:
    """The tables that are erased after this one. Rows that mention an address are found by rows that hold it."""
    yield from (reference.parent for reference in table.references)
    for subject in table.subjects:
        yield from subject.of
        if subject.match == "mention":
            yield from (each.name for each in tables.values() if each.of_tenant and _holds_address(each))


def _holds_address(table: Table) -> bool:
    return any(subject.match == "email" for subject in table.subjects)


def _rules(table: Table, tables: dict[str, Table]) -> Rules:
    subjects = [
        {
            "column": _name(subject.column, table),
            "match": subject.match,
            "without": subject.without and _name(subject.without, table),
            "of": [_table(each, table, tables) for each in subject.of],
            "erase": subject.erase,
            "policy_erase": subject.policy_erase,
        }
        for subject in table.subjects
    ]
    named = {subject.column for subject in table.subjects}
    period = table.retention.period
    return {
        "schema": _name(table.schema, table),
        "relation": _name(table.relation, table),
        "of_tenant": table.of_tenant,
        "whole": table.whole,
        "resource": RESOURCES.get(table.name),
        "audited": {kind: _name(column, table) for kind, column in table.resource.items()},
        "subjects": subjects,
        "nulls": [_name(each.name, table) for each in table.columns.values() if _emptied(each.erase, each.name, named)],
        "parents": [
            {
                "table": reference.parent,
                "rule": reference.rule,
                "columns": [_name(column, table) for column in reference.columns],
                "parent_columns": [_name(column, table) for column in reference.parent_columns],
                "nulled": list(reference.nulled),
            }
            for reference in table.references
        ],
        "period": period,
        "partitions": table.retention.partitions,
        "after": _name(table.retention.after, table) if period and table.retention.after else None,
    }


def _emptied(erase: str, name: str, named: set[str]) -> bool:
    return erase == "null" and name not in named


def _name(name: str, table: Table) -> str:
    if not IDENTIFIER.fullmatch(name) or (name not in table.columns and "." in name):
        raise RegisterError(f"{table.name}: {name!r} is not an identifier")
    return name


def _table(name: str, table: Table, tables: dict[str, Table]) -> str:
    if name not in tables or not tables[name].subjects:
        raise RegisterError(f"{table.name}: {name!r} is no table about people")
    return name
