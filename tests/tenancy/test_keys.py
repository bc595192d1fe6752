"""A context token of kind k: it names a key by its hash, and the database says whose it is."""

import uuid

import pg8000.native
import pytest

from tests.conftest import Person
from tests.tenancy.conftest import AS, KINDS, Attacker
from tests.tenancy.test_tokens_and_seals import refused

SERVING_KEYS = [role for role, kind in AS if kind == "k"]
INSERT = (
    "INSERT INTO app.api_keys (tenant_id, name, prefix, key_hash, permissions, created_by, expires_at)"
    " VALUES (:t, 'planted', 'x', gen_random_uuid(), '{}', :u, now() + interval '1 day')"
)


@pytest.fixture
def organizations(stack):
    attacker = Attacker(stack, "organizations_fn")
    yield attacker
    attacker.connection.close()


def seal(attacker: Attacker) -> list[str]:
    return str(attacker.connection.run("SELECT current_setting('app.context')")[0][0]).split(".")


def test_it_seals_for_the_keys_organization_and_maker(stack, mallory):
    assert SERVING_KEYS
    for role in SERVING_KEYS:
        attacker = Attacker(stack, role, "k")
        key_id, hashed = attacker.key_of(mallory)
        attacker.connection.run("BEGIN")
        granted = attacker.authorize(attacker.token(kind="k", session=hashed))[0][0]
        assert seal(attacker)[:4] == ["k", mallory.tenant_id, mallory.user_id, key_id]
        assert hashed not in granted
        attacker.connection.close()


def test_nothing_but_the_key_is_said(projects_attacker, mallory, victim):
    """Neither an organization nor a person beside the key, nor the key's id in its place."""
    key_id, hashed = projects_attacker.key_of(mallory)
    for wrong in (
        {"tenant": victim.tenant_id},
        {"tenant": mallory.tenant_id, "principal": mallory.user_id},
        {"principal": victim.user_id},
        {"session": key_id},
        {"session": str(uuid.uuid4())},
        {"session": ""},
        {"session": mallory.session_id},
    ):
        token = projects_attacker.token(**{"kind": "k", "session": hashed, **wrong})
        assert refused(projects_attacker, token) == "CX401", wrong


def test_a_key_is_no_log_in_and_a_log_in_no_key(projects_attacker, mallory):
    key_id, hashed = projects_attacker.key_of(mallory)
    for session in (key_id, hashed):
        assert refused(projects_attacker, projects_attacker.token(mallory, session=session)) == "CX401"


@pytest.mark.parametrize("role", sorted(role for role, kinds in KINDS.items() if "k" not in kinds))
def test_a_role_that_serves_no_keys(stack, mallory, role):
    attacker = Attacker(stack, role)
    token = attacker.token(kind="k", session=attacker.key_of(mallory)[1])
    assert refused(attacker, token) == "CX400"
    attacker.connection.close()


ENDS = {
    "expired": "UPDATE app.api_keys SET expires_at = now() - interval '1 second' WHERE tenant_id = CAST(:t AS uuid)",
    "deleted": "DELETE FROM app.api_keys WHERE tenant_id = CAST(:t AS uuid)",
    "maker gone": "DELETE FROM app.members WHERE tenant_id = CAST(:t AS uuid)",
    "maker frozen": "UPDATE identity.accounts SET status = 'frozen' WHERE id IN"
    " (SELECT user_id FROM app.members WHERE tenant_id = CAST(:t AS uuid))",
}


@pytest.mark.parametrize("end", ENDS)
def test_its_end(projects_attacker, admin, mallory, end):
    _, hashed = projects_attacker.key_of(mallory)
    admin.run(ENDS[end], t=mallory.tenant_id)
    assert refused(projects_attacker, projects_attacker.token(kind="k", session=hashed)) == "CX401"


def test_suspension(projects_attacker, admin, mallory):
    _, hashed = projects_attacker.key_of(mallory)
    admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=mallory.tenant_id)
    assert refused(projects_attacker, projects_attacker.token(kind="k", session=hashed)) == "CX403"


def test_injected_sql_makes_no_key_of_somebody_else(organizations: Attacker, admin, people, mallory: Person):
    """Not even within the organization: an admin's request does not end in a key of the owner."""
    admin_of = people.create("admin", mallory.tenant_id)
    organizations.begin_sealed(admin_of)

    with pytest.raises(pg8000.native.DatabaseError, match="row-level security"):
        organizations.connection.run(INSERT, t=mallory.tenant_id, u=mallory.user_id)
    organizations.connection.run("ROLLBACK")
    organizations.begin_sealed(admin_of)
    organizations.connection.run(INSERT, t=mallory.tenant_id, u=admin_of.user_id)


def test_injected_sql_reads_no_hash(organizations: Attacker, mallory: Person):
    organizations.begin_sealed(mallory)
    for wanted in ("key_hash", "*", "k::text"):
        with pytest.raises(pg8000.native.DatabaseError, match="permission denied"):
            organizations.connection.run(f"SELECT {wanted} FROM app.api_keys k")
        organizations.connection.run("ROLLBACK")
        organizations.begin_sealed(mallory)
    with pytest.raises(pg8000.native.DatabaseError, match="permission denied"):
        organizations.connection.run("UPDATE app.api_keys SET expires_at = 'infinity'")
