"""What the job's database login may delete: one organization, of its own job, and only when it goes as a whole."""

from typing import Any

import pg8000.native
import pytest

from common.register import register
from functions.deletions.job_queries import WHOLE
from functions.deletions.plan import KNOWN, unknown_tables
from tests.conftest import Api, Person
from tests.deletions.conftest import Backstage, count
from tests.tenancy.conftest import Attacker

DELETES = [f"DELETE FROM {table}" for table in WHOLE]


@pytest.fixture
def attacker(stack: dict[str, Any]):
    attacker = Attacker(stack, "deletions_jobs_fn")
    yield attacker
    attacker.connection.close()


def test_nothing_where_others_stay(
    api: Api, alice: Person, dan: Person, backstage: Backstage, attacker: Attacker, admin: pg8000.native.Connection
) -> None:
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    job = backstage.queued(dan)
    for step in ("claim", "plan", "freeze"):
        backstage.step(job, step, "e")

    attacker.begin_sealed(dan, job)
    assert attacker.connection.run("SELECT platform.enter_organization()") == [["keep"]]
    attacker.try_all(DELETES)
    attacker.connection.run("COMMIT")

    assert count(admin, "app.members", alice.tenant_id) == 2
    assert count(admin, "app.projects", alice.tenant_id) == 1
    assert count(admin, "app.audit_events", alice.tenant_id) >= 1


def test_nothing_elsewhere(
    api: Api, alice: Person, mallory: Person, backstage: Backstage, attacker: Attacker, admin: pg8000.native.Connection
) -> None:
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    job = backstage.queued(mallory)
    for step in ("claim", "plan", "freeze"):
        backstage.step(job, step, "e")

    attacker.begin_sealed(mallory, job)
    assert attacker.connection.run("SELECT platform.enter_organization()") == [["whole"]]
    attacker.try_all(DELETES)
    attacker.connection.run("COMMIT")

    assert count(admin, "app.organizations", mallory.tenant_id) == 0
    assert count(admin, "app.organizations", alice.tenant_id) == 1
    assert count(admin, "app.projects", alice.tenant_id) == 1


def test_every_table_about_people_has_a_step() -> None:
    people = {table.name for table in register().tables.values() if table.subjects}

    assert unknown_tables() == []
    assert sorted(KNOWN - people) == []


def test_an_organization_goes_with_every_table() -> None:
    """Invoices alone stay: tax law wants them, and nothing in them points to the organization."""
    tables = {table.name for table in register().tables.values() if table.of_tenant}
    assert sorted(WHOLE) == sorted(tables - {"app.invoices"})


def test_what_is_counted_is_what_the_register_says(admin: pg8000.native.Connection, alice: Person) -> None:
    """Where others stay, a row of a tenant table is treated as the register says for its subject."""
    rows = admin.run(
        "SELECT table_name, action FROM app.subject_counts(:id, false)"
        " UNION SELECT table_name, action FROM platform.subject_counts(:id) WHERE table_name LIKE 'app.%'",
        id=alice.user_id,
    )
    columns_alone = {("app.audit_events", "null")}
    counted = {(table, action) for table, action in rows} - columns_alone
    words = {"delete_row": "delete", "pseudonym": "pseudonym", "keep": "keep", "null": "null"}
    expected = {
        (table.name, words[subject.erase])
        for table in register().about_people(of_tenant=True)
        for subject in table.subjects
    }

    assert {entry for entry in counted if register().tables[entry[0]].subjects} - {
        ("app.organizations", "delete")
    } == expected


def test_the_search_may_read_every_table_of_the_register(admin: pg8000.native.Connection) -> None:
    for table in register().tables:
        assert admin.run("SELECT has_table_privilege('context_definer', :name, 'SELECT')", name=table) == [[True]], (
            table
        )
