"""A new table is its migration and its register entry: dry run, erasure, holds and retention know it without code."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest
import yaml

from common import register_rules
from common.register import SOURCE, parse
from migrations.apply import MigrationError, load_register
from tests.conftest import CHECKOUT, database
from tests.deletions.engine import Engine, new

MIGRATION = """
    CREATE TABLE app.comments (
        tenant_id uuid NOT NULL REFERENCES app.organizations,
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        task_id uuid NOT NULL,
        answers uuid,
        text text NOT NULL,
        author uuid NOT NULL,
        moderator uuid,
        written_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant_id, id),
        CONSTRAINT comments_of_a_task FOREIGN KEY (tenant_id, task_id) REFERENCES app.tasks (tenant_id, id),
        CONSTRAINT comments_answer FOREIGN KEY (tenant_id, answers) REFERENCES app.comments (tenant_id, id)
    );
    ALTER TABLE app.comments ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.comments FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON app.comments
        USING (tenant_id = (SELECT app.tenant_id())) WITH CHECK (tenant_id = (SELECT app.tenant_id()));
    CREATE POLICY definer ON app.comments TO context_definer USING (true);
    CREATE TABLE app.reactions (
        tenant_id uuid NOT NULL REFERENCES app.organizations,
        comment_id uuid NOT NULL,
        sign text NOT NULL,
        PRIMARY KEY (tenant_id, comment_id, sign),
        CONSTRAINT reactions_of_a_comment FOREIGN KEY (tenant_id, comment_id) REFERENCES app.comments (tenant_id, id)
    );
    ALTER TABLE app.reactions ENABLE ROW LEVEL SECURITY;
    ALTER TABLE app.reactions FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON app.reactions
        USING (tenant_id = (SELECT app.tenant_id())) WITH CHECK (tenant_id = (SELECT app.tenant_id()));
    CREATE POLICY definer ON app.reactions TO context_definer USING (true);
"""
REGISTER = """
  app.comments:
    controller: tenant
    activity: work
    people: [users]
    data: [content]
    subjects:
      - {column: author, role: author, erase: delete_row}
      - {column: moderator, role: moderator, export: false, erase: "null"}
    source: provided
    purpose: p
    legal_basis: b
    recipients: [hosting]
    retention: {period: 1 year, after: written_at, ground: g}
    references:
      comments_tenant_id_fkey: with_parent (tenant_id) -> app.organizations (tenant_id)
      comments_of_a_task: keep_parent (tenant_id, task_id) -> app.tasks (tenant_id, id)
      comments_answer: null (tenant_id, answers) -> app.comments (tenant_id, id)
    columns:
      tenant_id: internal
      id: internal
      task_id: internal
      answers: internal
      text: restricted
      author: internal
      moderator: internal null
      written_at: internal
  app.reactions:
    controller: tenant
    activity: work
    people: []
    data: []
    subjects: []
    source: provided
    purpose: p
    legal_basis: b
    recipients: [hosting]
    retention: {until: the comment goes, ground: g}
    references:
      reactions_tenant_id_fkey: with_parent (tenant_id) -> app.organizations (tenant_id)
      reactions_of_a_comment: with_parent (tenant_id, comment_id) -> app.comments (tenant_id, id)
    columns:
      tenant_id: internal
      comment_id: internal
      sign: internal
"""


def rules_with(more: str) -> list[tuple[str, str]]:
    document = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    document["tables"] |= yaml.safe_load("tables:\n" + more)["tables"]
    return register_rules.compiled(parse(yaml.safe_dump(document, sort_keys=False)))


@pytest.fixture
def owner(stack: dict[str, Any], admin: pg8000.native.Connection) -> Iterator[pg8000.native.Connection]:
    """The owner's connection to a database of its own, which has the two tables."""
    name = f"new_table_{new()[:8]}"
    url = stack["postgres"]["admin"].rsplit("/", 1)[0] + f"/{name}"
    environment = {"PATH": os.environ["PATH"], "DATABASE_ADMIN_URL": url}
    subprocess.run([sys.executable, "-m", "migrations.apply"], cwd=CHECKOUT, env=environment, check=True)
    with database(url) as connection:
        connection.run("SET ROLE context_owner")
        connection.execute_simple(MIGRATION)
        yield connection
    admin.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def engine(owner: pg8000.native.Connection) -> Engine:
    load_register(owner, rules_with(REGISTER))
    owner.run("RESET ROLE")
    return Engine(owner)


def comment(engine: Engine, tenant: str, task: str, by: str, **more: Any) -> str:
    made = new()
    engine.add("app.comments", tenant=tenant, id=made, task_id=task, text="Well said", author=by, **more)
    return made


def test_a_person_goes_from_it(engine: Engine) -> None:
    her, other = engine.person(), engine.person()
    tenant = engine.organization(other, her, policy="erase")
    task = engine.task(tenant, engine.project(tenant, her), her)
    alone = engine.task(tenant, engine.project(tenant, her), her)
    hers = comment(engine, tenant, task, her, answers=comment(engine, tenant, task, her))
    reply = comment(engine, tenant, task, other, answers=hers, moderator=her)
    comment(engine, tenant, alone, her)
    for sign in "abc":
        engine.add("app.reactions", tenant=tenant, comment_id=hers, sign=sign)
    engine.add("app.reactions", tenant=tenant, comment_id=reply, sign="a")

    plan = engine.plan(her, tenant)
    done = engine.erase(her, tenant, most=1)

    assert done == plan
    assert done["app.comments", "delete"] == done["app.reactions", "delete"] == 3
    assert done["app.comments", "null"] == 1
    left = "SELECT id::text, answers, moderator, text FROM app.comments WHERE tenant_id = :t"
    assert engine.connection.run(left, t=tenant) == [[reply, None, None, "Well said"]]
    assert len(engine.rows("app.reactions", tenant)) == 1
    # Another person's comment hangs on one task, so it stays with its project; the other task goes with its own.
    assert len(engine.rows("app.tasks", tenant)) == len(engine.rows("app.projects", tenant)) == 1
    assert done["app.tasks", "pseudonym"] == done["app.projects", "pseudonym"] == 1


def test_an_organization_goes_with_it(engine: Engine) -> None:
    her = engine.person()
    tenant = engine.organization(her)
    task = engine.task(tenant, engine.project(tenant, her), her)
    first = comment(engine, tenant, task, her)
    comment(engine, tenant, task, her, answers=first)
    engine.add("app.reactions", tenant=tenant, comment_id=first, sign="a")

    done = engine.erase(her, tenant, most=1)

    assert done["app.comments", "delete"] == 2
    assert engine.rows("app.organizations", tenant) == []


def test_a_held_row_keeps_its_parents(engine: Engine) -> None:
    her, other, witness = engine.person(), engine.person(), engine.person()
    tenant = engine.organization(other, her, witness, policy="erase")
    task = engine.task(tenant, engine.project(tenant, her), her)
    comment(engine, tenant, task, witness)
    engine.hold(tenant, witness)

    job = engine.job(None, tenant, scope="organization")
    engine.erase_in(job, tenant)

    for table in ("app.comments", "app.tasks", "app.projects", "app.organizations"):
        assert len(engine.rows(table, tenant)) == 1, table


def test_its_period_ends(engine: Engine) -> None:
    her = engine.person()
    tenant = engine.organization(her)
    task = engine.task(tenant, engine.project(tenant, her), her)
    for written in ("2020-01-01", "2100-01-01"):
        made = comment(engine, tenant, task, her, written_at=written)
        engine.add("app.reactions", tenant=tenant, comment_id=made, sign="a")

    assert ["app.comments"] in engine.connection.run("SELECT platform.periodical_tables()")
    assert engine.connection.run("SELECT platform.retire('app.comments', 100)") == [[1]]
    assert len(engine.rows("app.reactions", tenant)) == 1


def test_a_register_that_the_database_does_not_have_is_refused(owner: pg8000.native.Connection) -> None:
    before = owner.run("SELECT count(*) FROM platform.register")

    with pytest.raises(MigrationError, match=r"app\.comments\.editor"):
        load_register(owner, rules_with(REGISTER.replace("moderator", "editor")))

    assert owner.run("SELECT count(*) FROM platform.register") == before
