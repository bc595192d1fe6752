"""Rules about the schema itself, read from the catalog of a migrated database."""

import pytest

from local.layout import logins

ROLES = sorted({entry["role"] for entry in logins().values()})
OURS = "('app', 'identity', 'platform')"
# What only an owner of tables can do, and nothing else: see migrations/0030_retention.sql.
OF_THE_OWNER = {
    "platform.make_partitions()": {"retention_fn"},
    "platform.freeze_partition(text,regclass)": {"context_definer"},
    "platform.drop_partition(text,regclass)": {"context_definer"},
}


def column(admin, sql):
    return [row[0] for row in admin.run(sql)]


def test_every_table_forces_row_level_security(admin):
    assert (
        column(
            admin,
            f"""
        SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN {OURS} AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
        """,
        )
        == []
    )


def test_every_table_has_a_policy(admin):
    assert (
        column(
            admin,
            f"""
        SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN {OURS} AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
        """,
        )
        == []
    )


def test_a_partition_is_reached_through_its_table_only(admin):
    """It forces row-level security without a policy, and grants nobody anything."""
    assert (
        column(
            admin,
            f"""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN {OURS} AND c.relispartition AND c.relkind IN ('r', 'p')
            AND (NOT (c.relrowsecurity AND c.relforcerowsecurity)
                 OR EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid)
                 OR EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantee <> c.relowner))
        """,
        )
        == []
    )


def test_every_tenant_table_has_the_tenant_policy_on_both_sides(admin):
    expected = "(tenant_id = ( SELECT app.tenant_id() AS tenant_id))"
    found = admin.run(
        "SELECT tablename, qual, with_check FROM pg_policies WHERE schemaname = 'app' AND policyname = 'tenant'"
    )
    tables = column(
        admin,
        "SELECT relname::text FROM pg_class"
        " WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition",
    )
    assert sorted(name for name, _, _ in found) == sorted(tables)
    assert {(qual, check) for _, qual, check in found} == {(expected, expected)}


def test_no_policy_opens_a_table_to_everyone_but_the_definer(admin):
    """USING (true) is for the definer alone, and for the constant table of built-in roles."""
    found = admin.run(
        f"""
        SELECT schemaname || '.' || tablename, roles::text[] FROM pg_policies
        WHERE schemaname IN {OURS} AND (qual = 'true' OR (qual IS NULL AND with_check = 'true'))
            AND roles <> '{{context_definer}}'
        """
    )
    allowed = {"platform.roles": ["public"]}
    assert {table: roles for table, roles in found if allowed.get(table) != roles} == {}


def test_tenant_first_in_every_key(admin):
    """Primary, unique and foreign keys of tenant tables begin with tenant_id: they can be distributed by it (Citus)."""
    found = admin.run(
        """
        SELECT k.conname, a.attname FROM pg_constraint k
        JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1]
        LEFT JOIN pg_class target ON target.oid = k.confrelid
        LEFT JOIN pg_namespace target_schema ON target_schema.oid = target.relnamespace
        WHERE n.nspname = 'app' AND k.contype IN ('p', 'u', 'f')
            AND NOT (k.contype = 'f' AND target_schema.nspname = 'platform')
        """
    )
    assert found
    assert [(name, first) for name, first in found if first != "tenant_id"] == []


def test_every_unique_index_of_a_tenant_table_begins_with_the_tenant(admin):
    assert (
        column(
            admin,
            """
        SELECT i.indexrelid::regclass::text FROM pg_index i
        JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
        WHERE n.nspname = 'app' AND i.indisunique AND a.attname <> 'tenant_id'
        """,
        )
        == []
    )


def test_definers_are_safe(admin):
    """Fixed search_path with pg_temp last, owned by the role that has only its own policies, no EXECUTE for PUBLIC."""
    found = admin.run(
        f"""
        SELECT p.oid::regprocedure::text, p.proconfig, pg_get_userbyid(p.proowner),
               ARRAY(SELECT coalesce(nullif(a.grantee, 0)::regrole::text, 'PUBLIC')
                     FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee <> p.proowner)
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN {OURS} AND p.prosecdef
        """
    )
    assert len(found) > 20
    for name, configuration, owner, callers in found:
        assert configuration == ["search_path=pg_catalog, pg_temp"], name
        assert owner == ("context_owner" if name in OF_THE_OWNER else "context_definer"), name
        assert "PUBLIC" not in callers, name
        assert set(callers) == OF_THE_OWNER.get(name, set(callers)), name


def test_context_functions_are_what_parallel_plans_need(admin):
    found = admin.run(
        """
        SELECT proname, provolatile, proparallel, prosecdef FROM pg_proc
        WHERE oid IN ('app.tenant_id()'::regprocedure, 'app.principal_id()'::regprocedure,
                      'app.sealed(integer)'::regprocedure)
        """
    )
    assert sorted(found) == [[name, "s", "r", True] for name in ("principal_id", "sealed", "tenant_id")]


def test_no_function_is_public(admin):
    assert (
        column(
            admin,
            f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname IN {OURS}
            AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.grantee = 0)
        """,
        )
        == []
    )


def test_nobody_holds_more_than_rows(admin):
    """No TRUNCATE, REFERENCES, TRIGGER or MAINTAIN, nothing for PUBLIC, no rights beside the catalog's roles."""
    found = admin.run(
        f"""
        SELECT c.oid::regclass::text, coalesce(nullif(a.grantee, 0)::regrole::text, 'PUBLIC'), a.privilege_type
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) a
        WHERE n.nspname IN {OURS} AND a.grantee <> c.relowner
        """
    )
    assert found
    holders = {holder for _, holder, _ in found}
    assert holders <= {*ROLES, "context_definer"}
    assert {privilege for _, _, privilege in found} <= {"SELECT", "INSERT", "UPDATE", "DELETE"}


def test_the_roles_are_those_of_the_catalog(admin):
    found = admin.run(
        """
        SELECT rolname, rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
        FROM pg_roles WHERE rolname LIKE '%\\_fn'
        """
    )
    assert sorted(found) == [[role, False] for role in ROLES]


@pytest.mark.parametrize("role", ["context_owner", "context_definer"])
def test_owner_and_definer_are_nobody_special(admin, role):
    found = admin.run(
        "SELECT rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = :role",
        role=role,
    )
    assert found == [[False] * 5]


def test_the_server_keeps_secrets_out_of_its_log(admin):
    names = ("max_prepared_transactions", "log_parameter_max_length", "log_error_verbosity")
    assert [admin.run(f"SHOW {name}")[0][0] for name in names] == ["0", "0", "terse"]
