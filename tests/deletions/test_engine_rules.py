"""What the engine needs of every table: an order, indexes for what it looks up, policies where it crosses tenants."""

from typing import Any

import pg8000.native
import pytest

from common.register import RegisterError, Table, register
from common.register_rules import compiled, ordered

INDEXES = """
    SELECT n.nspname || '.' || r.relname, i.indpred IS NOT NULL,
           array(SELECT a.attname::text FROM unnest(i.indkey::int[]) WITH ORDINALITY AS k (number, place)
                 JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.number ORDER BY k.place)
    FROM pg_index i JOIN pg_class r ON r.oid = i.indrelid JOIN pg_namespace n ON n.oid = r.relnamespace
    WHERE n.nspname IN ('app', 'identity', 'platform')
"""
TABLES = list(register().tables.values())
LOOKED_UP = ("account", "email", "text", "key", "row")
SMALL = {"platform.deletions"}  # requests, which empty themselves at their end
CONSTANT = {"members_role_fkey"}  # the built-in roles are never erased


def found_by(indexes: list[list[Any]], table: Table, *columns: str, partial: bool = False) -> bool:
    """Whether an index begins with these columns, in any order; or with the tenant and them."""
    wanted = [{*columns}, {*columns, "tenant_id"}]
    mine = [names for name, part, names in indexes if name == table.name and (partial or not part)]
    return any(set(names[: len(want)]) == want for names in mine for want in wanted)


def test_whatever_is_looked_up_has_an_index(admin: pg8000.native.Connection) -> None:
    indexes = admin.run(INDEXES)
    lacking = [
        (table.name, subject.column)
        for table in TABLES
        for subject in table.subjects
        if subject.match in LOOKED_UP and table.name not in SMALL
        if not found_by(indexes, table, subject.column, partial=subject.without is not None)
    ]
    lacking += [
        (table.name, reference.name)
        for table in TABLES
        for reference in table.references
        if reference.name not in CONSTANT and not found_by(indexes, table, *reference.columns, partial=True)
    ]
    lacking += [
        (table.name, table.retention.after)
        for table in TABLES
        if table.retention.after and table.name != "app.audit_events"
        if not found_by(indexes, table, table.retention.after, partial=True)
    ]

    assert lacking == []


def test_what_crosses_organizations_has_a_policy_for_it(admin: pg8000.native.Connection) -> None:
    """Retention asks for no organization, and an address is looked for in all of them."""
    crossing = {
        table.name
        for table in TABLES
        if table.of_tenant and table.name != "app.audit_events"
        if table.retention.period or {"email", "mention"} & {subject.match for subject in table.subjects}
    }
    policies = admin.run(
        "SELECT schemaname || '.' || tablename FROM pg_policies WHERE policyname = 'definer' AND qual = 'true'"
    )

    assert crossing
    assert crossing - {name for (name,) in policies} == set()


def test_rows_go_before_those_that_they_hang_on() -> None:
    position = {name: place for place, (name, _) in enumerate(compiled())}

    for table in TABLES:
        for reference in table.references:
            assert position[table.name] < position[reference.parent] or reference.parent == table.name
    assert position["platform.outbox"] < position["app.invitations"]
    assert position["app.idempotent_answers"] < position["app.invitations"]


def test_a_circle_has_no_order() -> None:
    tables = {name: register().tables[name] for name in ("app.projects", "app.tasks")}
    tasks = tables["app.tasks"]
    loop = tasks.references[0].__class__("loop", ("tenant_id",), "app.tasks", ("tenant_id",), "with_parent")
    tables["app.projects"] = (
        register()
        .tables["app.projects"]
        .__class__(**{**vars(register().tables["app.projects"]), "references": (loop,)})
    )

    with pytest.raises(RegisterError, match=r"app\.projects"):
        ordered(tables)


def test_the_database_has_the_rules_of_this_release(admin: pg8000.native.Connection) -> None:
    rows = admin.run("SELECT name FROM platform.register ORDER BY position")

    assert [name for (name,) in rows] == [name for name, _ in compiled()]
