"""What the job's database login may erase: what its own job does to its own organizations, by the engine alone."""

from typing import Any

import pg8000.native
import pytest

from common.register import register
from functions.deletions.plan import unknown_tables
from tests.conftest import Api, Person
from tests.deletions.conftest import Backstage, count
from tests.tenancy.conftest import Attacker

TENANT_TABLES = [table.name for table in register().tables.values() if table.of_tenant]
ATTACKS = [
    *(f"DELETE FROM {table}" for table in TENANT_TABLES),
    *(f"SELECT * FROM {table}" for table in TENANT_TABLES),
    "SELECT app.erase_batch('whole', 1000)",
    "SELECT app.erase_batch('erase', 1000)",
    "SELECT platform.erase_rows(ROW('whole', app.tenant_id(), NULL, NULL, false)::platform.erasure_case, 1000)",
    "SELECT platform.count_erased('app.projects', 'delete', 1)",
    "INSERT INTO platform.register (name, position, rules) VALUES ('app.x', 1, '{}')",
    "UPDATE platform.deletion_organizations SET mode = 'whole'",
]


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
    attacker.try_all(ATTACKS)
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
    attacker.try_all(["SELECT app.erase_batch('whole', 1000)", *ATTACKS])
    attacker.connection.run("COMMIT")

    assert count(admin, "app.organizations", mallory.tenant_id) == 0
    assert count(admin, "app.organizations", alice.tenant_id) == 1
    assert count(admin, "app.projects", alice.tenant_id) == 1


def test_the_database_knows_every_table_about_people(admin: pg8000.native.Connection) -> None:
    known = [row[0] for row in admin.run("SELECT platform.known_tables()")]

    assert unknown_tables(known) == []
    assert unknown_tables(known[1:]) == [known[0]]


def test_an_account_goes_with_its_own_request_alone(
    alice: Person, dan: Person, backstage: Backstage, attacker: Attacker, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(dan)
    admin.run(
        "UPDATE platform.deletions SET scope = 'user', tenant_id = :t WHERE job_id = :job", t=alice.tenant_id, job=job
    )
    admin.run("UPDATE platform.jobs SET status = 'running' WHERE id = :job", job=job)

    attacker.connection.run("BEGIN")
    attacker.authorize(attacker.token(kind="s", principal=job))
    with pytest.raises(pg8000.native.DatabaseError, match="does not erase an account"):
        attacker.connection.run("SELECT platform.erase_account(1000)")
    attacker.connection.run("ROLLBACK")

    assert admin.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=dan.user_id) == [[1]]


def test_the_search_may_read_every_table_of_the_register(admin: pg8000.native.Connection) -> None:
    for table in register().tables:
        assert admin.run("SELECT has_table_privilege('context_definer', :name, 'SELECT')", name=table) == [[True]], (
            table
        )
