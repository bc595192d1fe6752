"""A table that is partitioned by time: partitions are made ahead, dropped when they are over, and hide nothing held."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pg8000.native
import pytest

from common import register_rules
from migrations.apply import MigrationError, load_register
from tests.conftest import database
from tests.deletions.engine import Engine, new
from tests.retention.world import add_tables, own_database, register_with

MIGRATION = """
    CREATE TABLE app.visits (
        tenant_id uuid NOT NULL REFERENCES app.organizations,
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        user_id uuid NOT NULL,
        page text NOT NULL CHECK (length(page) <= 100),
        at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, id, at)
    ) PARTITION BY RANGE (at);
    CREATE INDEX visits_by_age ON app.visits (at);
    ALTER TABLE app.visits ALTER COLUMN page SET STATISTICS 0;
    ALTER TABLE app.visits ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.visits FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON app.visits
        USING (tenant_id = (SELECT app.tenant_id())) WITH CHECK (tenant_id = (SELECT app.tenant_id()));
    CREATE POLICY definer ON app.visits TO context_definer USING (true);
    GRANT SELECT, INSERT ON app.visits TO projects_fn;
"""
REGISTER = """
  app.visits:
    controller: tenant
    activity: work
    people: [users]
    data: [activity]
    subjects: [{column: user_id, role: visitor, erase: delete_row}]
    source: observed
    purpose: p
    legal_basis: b
    recipients: [hosting]
    retention: {period: 90 days, after: at, partitions: month, ground: g}
    references:
      visits_tenant_id_fkey: with_parent (tenant_id) -> app.organizations (tenant_id)
    columns:
      tenant_id: internal
      id: internal
      user_id: internal
      page: restricted
      at: internal
"""
PARTITIONS = """
    SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'app.visits'::regclass ORDER BY 1
"""


@pytest.fixture(scope="module")
def url(stack: dict[str, Any]) -> Iterator[str]:
    with database(stack["postgres"]["admin"]) as admin, own_database(stack, admin) as own:
        add_tables(own, MIGRATION, REGISTER)
        yield own


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    with database(url) as connection:
        yield Engine(connection)


def month(ago: int) -> tuple[str, str, str]:
    """Name, first moment and end of the partition of the month so many months ago (UTC)."""
    now = datetime.now(UTC)
    count = now.year * 12 + now.month - 1 - ago
    first, end = (datetime(each // 12, each % 12 + 1, 1, tzinfo=UTC) for each in (count, count + 1))
    return f"visits_{first:%Y%m}", first.isoformat(), end.isoformat()


def partition(engine: Engine, ago: int) -> str:
    """A partition of a month that is over, as it was once made."""
    name, first, end = month(ago)
    engine.connection.run(f"CREATE TABLE app.{name} PARTITION OF app.visits FOR VALUES FROM ('{first}') TO ('{end}')")
    engine.connection.run(f"ALTER TABLE app.{name} OWNER TO context_owner")
    return name


def visit(engine: Engine, tenant: str, person: str, ago: int) -> str:
    made = new()
    engine.add("app.visits", tenant=tenant, id=made, user_id=person, page="/", at=month(ago)[1])
    return made


def partitions(engine: Engine) -> list[str]:
    return [row[0] for row in engine.connection.run(PARTITIONS)]


def drop(engine: Engine) -> list[str]:
    """What the run does until nothing is left to drop."""
    outcomes: list[str] = []
    while not outcomes or outcomes[-1] == "dropped":
        outcomes.append(engine.connection.run("SELECT platform.retire_partition('app.visits')")[0][0])
    return outcomes


def counted(engine: Engine, tenant: str) -> int:
    rows = engine.connection.run(
        "SELECT coalesce(sum(rows), 0)::integer FROM platform.retention_counts"
        " WHERE organization_id = :t AND table_name = 'app.visits'",
        t=tenant,
    )
    return int(rows[0][0])


def test_they_are_made_ahead(engine: Engine) -> None:
    """And back to the oldest month that the period still covers: who moves in brings rows of that time."""
    assert {month(ago)[0] for ago in range(-3, 3)} <= set(partitions(engine))
    assert not {month(ago)[0] for ago in (-4, 5)} & set(partitions(engine))
    assert engine.connection.run("SELECT platform.make_partitions()") == [[0]]


def test_a_partition_is_as_hidden_as_its_table(engine: Engine) -> None:
    """Nobody has a right to it by itself, no policy opens it, and the planner learns no text."""
    found = engine.connection.run(
        """
        SELECT c.relrowsecurity AND c.relforcerowsecurity, c.relowner::regrole::text,
               (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid),
               (SELECT count(*) FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner),
               (SELECT a.attstattarget FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'page'),
               (SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid)
        FROM pg_class c WHERE c.oid = CAST(:name AS regclass)
        """,
        name=f"app.{month(0)[0]}",
    )
    assert found == [[True, "context_owner", 0, 0, 0, 2]]


def test_what_is_over_goes_as_a_whole(engine: Engine) -> None:
    her = engine.person()
    tenant, other = engine.organization(her), engine.organization(her)
    old, older = partition(engine, 5), partition(engine, 6)
    for ago, of in ((5, tenant), (5, other), (6, tenant), (6, tenant)):
        visit(engine, of, her, ago)
    visit(engine, tenant, her, 0)
    planned = dict(engine.connection.run("SELECT * FROM platform.retention_plan()"))["app.visits"]

    assert drop(engine) == ["dropped", "dropped", "none"]

    assert planned == 4
    assert not {old, older} & set(partitions(engine))
    assert engine.connection.run("SELECT platform.retire('app.visits', 100)") == [[0]]
    assert (counted(engine, tenant), counted(engine, other)) == (3, 1)
    assert len(engine.rows("app.visits", tenant)) == 1


def test_a_month_goes_only_when_its_last_day_is_over(engine: Engine) -> None:
    """90 days ago is within a month that is not over: it stays, and a batch takes nothing out of it."""
    her = engine.person()
    tenant = engine.organization(her)
    kept = [month(ago)[0] for ago in (1, 2)]
    for ago in (1, 2):
        visit(engine, tenant, her, ago)

    assert drop(engine) == ["none"]
    assert engine.connection.run("SELECT platform.retire('app.visits', 100)") == [[0]]
    assert set(kept) <= set(partitions(engine))


def test_a_held_row_keeps_its_partition_and_nothing_else(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(her, other)
    name = partition(engine, 7)
    held = visit(engine, tenant, her, 7)
    visit(engine, tenant, other, 7)
    hold = engine.hold(tenant, her)

    assert drop(engine) == ["none"]
    assert dict(engine.connection.run("SELECT * FROM platform.retention_plan()"))["app.visits"] == 1
    assert engine.connection.run("SELECT platform.retire('app.visits', 100)") == [[1]]
    left = engine.connection.run("SELECT id::text FROM app.visits WHERE tenant_id = :t", t=tenant)
    assert left == [[held]]
    assert name in partitions(engine)

    engine.connection.run("UPDATE app.legal_holds SET released_at = now() WHERE id = :id", id=hold)
    assert drop(engine) == ["dropped", "none"]
    assert name not in partitions(engine)
    assert counted(engine, tenant) == 2


def test_a_reader_is_not_kept_waiting(engine: Engine, url: str) -> None:
    """Somebody reads the table in a long transaction: the drop gives up at once, and the next try succeeds."""
    name = partition(engine, 8)
    with database(url) as reader:
        reader.run("BEGIN")
        reader.run("SELECT count(*) FROM app.visits")
        assert drop(engine) == ["busy"]
        assert name in partitions(engine)
        reader.run("ROLLBACK")

    assert drop(engine) == ["dropped", "none"]


def test_only_what_is_over_can_be_dropped(engine: Engine) -> None:
    """The owner's function checks for itself: nothing that may call it can drop a table, or a month that counts."""
    for table, part in (
        ("app.visits", f"app.{month(0)[0]}"),
        ("app.visits", "app.projects"),
        ("app.projects", "app.projects"),
    ):
        for function in ("freeze_partition", "drop_partition"):
            with pytest.raises(pg8000.native.DatabaseError, match="CX403"):
                engine.connection.run(
                    f"SELECT platform.{function}(:table, CAST(:part AS regclass))", table=table, part=part
                )


def test_erasure_takes_her_rows_only(engine: Engine) -> None:
    """Rows of two partitions may stand at the same place: those of another person stay."""
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her, policy="erase")
    past = partition(engine, 9)
    engine.connection.run("UPDATE app.legal_holds SET released_at = now()")
    for _ in range(3):
        visit(engine, tenant, her, 0)
        visit(engine, tenant, other, 9)

    assert engine.erase(her, tenant, most=2)["app.visits", "delete"] == 3

    left = engine.connection.run("SELECT user_id::text FROM app.visits WHERE tenant_id = :t", t=tenant)
    assert left == [[other]] * 3
    assert drop(engine)[0] == "dropped"
    assert past not in partitions(engine)


def test_the_register_says_it_only_of_tables_that_are_partitioned(url: str) -> None:
    rules = [
        (name, json.dumps(json.loads(text) | {"partitions": "month"} if name == "app.tasks" else json.loads(text)))
        for name, text in register_rules.compiled(register_with(REGISTER))
    ]
    with database(url) as connection:
        connection.run("SET ROLE context_owner")
        with pytest.raises(MigrationError, match=r"not partitioned.*app\.tasks"):
            load_register(connection, rules)
