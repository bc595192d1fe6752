"""What a new service may do in the database before a migration names it: what every service does, and no table."""

import uuid

import pytest
from pg8000.native import DatabaseError, identifier

from migrations import basics


@pytest.fixture
def role(admin):
    name = f"test_{uuid.uuid4().hex[:8]}_role"
    admin.run(f"CREATE ROLE {identifier(name)} NOLOGIN")
    yield name
    admin.run(f"DROP OWNED BY {identifier(name)}")
    admin.run(f"DROP ROLE {identifier(name)}")


def executable(admin, role):
    found = admin.run(
        "SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace"
        " WHERE n.nspname IN ('app', 'identity', 'platform') AND has_function_privilege(:role, p.oid, 'EXECUTE')",
        role=role,
    )
    return found[0][0]


@pytest.mark.parametrize(("kinds", "functions"), [(["u", "k"], basics.OF_PEOPLE), (["s"], basics.OF_JOBS)])
def test_it_works(admin, role, kinds, functions):
    basics.grant(admin, [{"role": role, "kinds": kinds}])
    basics.grant(admin, [{"role": role, "kinds": kinds}])

    assert executable(admin, role) == len(functions)
    tables = admin.run(
        "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname IN ('app', 'identity', 'platform') AND relkind IN ('r', 'p')"
        " AND has_any_column_privilege(:role, c.oid, 'SELECT, INSERT, UPDATE')",
        role=role,
    )
    assert tables == [], "no table without a migration"


def test_the_context_is_asked_for(admin, role):
    basics.grant(admin, [{"role": role, "kinds": ["u"]}])
    admin.run(f"SET ROLE {identifier(role)}")
    try:
        assert admin.run("SELECT app.tenant_id()") == [[None]]
        with pytest.raises(DatabaseError, match="permission denied"):
            admin.run("SELECT FROM app.projects")
    finally:
        admin.run("RESET ROLE")
