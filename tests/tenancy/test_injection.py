"""SQL injected into any function, working for one organization, cannot reach a row of another: not now, not later."""

import re

import pg8000.native
import pytest

from tests.conftest import CHECKOUT
from tests.tenancy.conftest import ROLES, Attacker, rows_of

MIGRATIONS = sorted((CHECKOUT / "migrations").glob("*.sql"))
TABLES = [
    name for path in MIGRATIONS for name in re.findall(r"^CREATE TABLE (\w+\.\w+)", path.read_text(), re.MULTILINE)
]


def everything(prefix: str = "") -> list[str]:
    """Read every table in every way."""
    reads = [f"{prefix}SELECT * FROM {table}" for table in TABLES]
    reads += [f"{prefix}SELECT count(*), max(t::text) FROM {table} t" for table in TABLES]
    reads += [f"TABLE {table}" for table in TABLES]
    return reads


ATTACKS = {
    "plain reads": everything(),
    "settings": [
        "SELECT set_config('app.context', 'u.{tenant}.{user}.{session}.1.1.00', true)",
        *everything(),
        "SELECT set_config('app.context',"
        " regexp_replace(current_setting('app.context'), '[0-9a-f-]{{36}}', '{tenant}'), true)",
        *everything(),
        "SET row_security = off",
        *everything(),
        "SET LOCAL app.tenant_id = '{tenant}'",
        "SET LOCAL app.current_tenant = '{tenant}'",
        *everything(),
    ],
    "one statement that sets and reads": [
        "SELECT set_config('app.context', 'u.{tenant}.{user}.{session}.1.1.00', true), t.* FROM app.projects t",
        "WITH planted AS MATERIALIZED (SELECT set_config('app.context', '', true)) SELECT * FROM planted, app.projects",
    ],
    "new transactions": ["COMMIT", "BEGIN", *everything(), "ROLLBACK", *everything(), "BEGIN"],
    "roles": [
        "SET ROLE context_owner",
        "SET ROLE context_definer",
        "SET ROLE admin",
        "SET SESSION AUTHORIZATION admin",
        *(f"SET ROLE {role}" for role in ROLES),
        *everything(),
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "GRANT context_definer TO CURRENT_USER",
        *everything(),
    ],
    "functions that run SQL": [
        "SELECT * FROM ts_stat('SELECT to_tsvector(name) FROM app.projects')",
        "SELECT * FROM ts_stat('SELECT to_tsvector(email) FROM identity.accounts')",
        "SELECT query_to_xml('SELECT * FROM app.projects', true, false, '')",
        "SELECT table_to_xml('app.projects', true, false, '')",
        "SELECT schema_to_xml('app', true, false, '')",
        "SELECT schema_to_xml('identity', true, false, '')",
        "SELECT database_to_xml(true, false, '')",
        "SELECT cursor_to_xml('c', 10, true, false, '')",
        "DO $$ BEGIN RAISE NOTICE '%', (SELECT string_agg(name, ',') FROM app.projects); END $$",
        "DO $$ DECLARE r record; BEGIN PERFORM set_config('app.context', '', true);"
        " FOR r IN EXECUTE 'SELECT * FROM app.projects' LOOP RAISE NOTICE '%', r; END LOOP; END $$",
    ],
    "shadows in pg_temp": [
        "CREATE TEMP TABLE seal_key AS SELECT true AS only_row, ''::bytea AS inner_pad, ''::bytea AS outer_pad",
        "CREATE TEMP TABLE context_keys (kid text)",
        "CREATE DOMAIN pg_temp.uuid AS text",
        "CREATE TYPE pg_temp.text AS (a int)",
        "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT $1'",
        "CREATE FUNCTION pg_temp.tenant_id() RETURNS uuid LANGUAGE sql AS $$SELECT '{tenant}'::uuid$$",
        "SET search_path = pg_temp, app, identity, platform",
        *everything(),
        "SELECT * FROM projects",
        "SELECT * FROM accounts",
        "CREATE SCHEMA evil",
        "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT $1'",
        "CREATE FUNCTION app.tenant_id(x int) RETURNS uuid LANGUAGE sql AS $$SELECT '{tenant}'::uuid$$",
        "CREATE OR REPLACE FUNCTION app.tenant_id() RETURNS uuid LANGUAGE sql AS $$SELECT '{tenant}'::uuid$$",
    ],
    "leaky functions and errors": [
        "SELECT * FROM app.projects WHERE name::integer > 0",
        "SELECT * FROM app.projects WHERE pg_catalog.length(name) > 0 AND 1 / (strpos(name, 'mark') - 1) > 0",
        "CREATE FUNCTION pg_temp.leak(text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS"
        " $$BEGIN RAISE NOTICE '%', $1; RETURN true; END$$",
        "SELECT * FROM app.projects WHERE pg_temp.leak(name)",
        "SELECT * FROM app.projects TABLESAMPLE SYSTEM (100)",
        "SELECT ctid, * FROM app.projects WHERE ctid = '(0,1)'",
        "SELECT xmin, * FROM app.projects",
        "SELECT lead(name) OVER () FROM app.projects",
        "SELECT * FROM app.projects FOR UPDATE",
        "SELECT * FROM app.projects FOR KEY SHARE",
        "SELECT app.session_event_json(e) FROM app.session_events e",
        "SELECT app.session_json(s) FROM app.sessions s",
    ],
    "catalogs and activity": [
        "SELECT * FROM pg_stats",
        "SELECT * FROM pg_statistic",
        "SELECT * FROM pg_stats_ext",
        "SELECT query FROM pg_stat_activity",
        "SELECT * FROM pg_prepared_statements",
        "SELECT * FROM pg_cursors",
        "SELECT * FROM pg_settings WHERE name LIKE 'app.%'",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_ls_dir('.')",
        "SELECT * FROM pg_largeobject",
        "SELECT pg_get_functiondef('app.authorize(text)'::regprocedure)",
        "COPY app.projects TO STDOUT",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "COPY app.projects FROM PROGRAM 'cat'",
        "SELECT lo_import('/etc/passwd')",
    ],
    "cursors": [
        "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM app.projects",
        "SELECT set_config('app.context', 'u.{tenant}.{user}.{session}.1.1.00', true)",
        "FETCH ALL FROM c",
        "DECLARE d CURSOR FOR SELECT * FROM identity.accounts",
        "FETCH ALL FROM d",
    ],
    "definer functions": [
        "SELECT * FROM identity.account_by_email('nobody@example.org')",
        "SELECT app.credential('u', '{tenant}', '{user}', '{session}', true)",
        "SELECT app.job_credential('{tenant}', '{user}')",
        "SELECT app.sealed(2)",
        "SELECT platform.put_context_key('k', session_user, ARRAY['u'], true, 'secret')",
        "SELECT app.authorize('v1.x.u.{tenant}.{user}.{session}.1.1.00')",
        "SELECT * FROM app.member_people()",
        "SELECT identity.organizations()",
        "SELECT * FROM platform.mail_recipient('{user}')",
        "SELECT platform.claim_job('{user}', 'export', 'me')",
        "SELECT app.credential('k', NULL, NULL, '{session}', true)",
        "SELECT * FROM app.subject_counts('{user}', 'whole')",
        "SELECT * FROM app.held_counts('{user}', 'whole')",
        "SELECT app.erase_batch('whole', 1000)",
        "SELECT platform.erase_account(1000)",
        "SELECT platform.erase_rows(('whole', '{tenant}', '{user}', NULL, false)::platform.erasure_case, 1000)",
        "SELECT platform.scan_table('app.projects')",
        "SELECT * FROM app.keys_made_by('{user}')",
        "SELECT platform.session_watch('1:1:', ARRAY['{tenant}'::uuid], ARRAY['{session}'::uuid], ARRAY[0])",
        'SELECT platform.session_access(\'[["u", "{tenant}", "{user}", "{session}"]]\', \'session.view\')',
        "SELECT platform.close_idle_sessions(1000, 'r')",
        "SELECT platform.import_rows('sessions', ARRAY['title'], '[{{}}]', false)",
    ],
    "writes": [
        "INSERT INTO app.projects (tenant_id, name, created_by) VALUES ('{tenant}', 'planted', '{user}')",
        "UPDATE app.projects SET name = 'planted'",
        "UPDATE app.projects SET tenant_id = '{tenant}'",
        "UPDATE app.organizations SET name = 'planted'",
        "UPDATE app.organizations SET tenant_id = '{tenant}'",
        "DELETE FROM app.tasks",
        "INSERT INTO app.sessions (tenant_id, project_id, title, created_by, closes_at)"
        " SELECT '{tenant}', id, 'planted', '{user}', now() FROM app.projects",
        "UPDATE app.sessions SET title = 'planted', last_seq = 0, closed_at = now()",
        "DELETE FROM app.sessions",
        "INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by)"
        " SELECT '{tenant}', id, 2, 'planted', '1', '{user}' FROM app.sessions",
        "UPDATE app.session_events SET data = '1'",
        "DELETE FROM app.session_events",
        "DELETE FROM app.projects",
        "UPDATE app.members SET role = 'viewer'",
        "INSERT INTO app.api_keys (tenant_id, name, prefix, key_hash, permissions, created_by, expires_at)"
        " VALUES ('{tenant}', 'planted', 'x', gen_random_uuid(), '{{}}', '{user}', 'infinity')",
        "DELETE FROM app.api_keys",
        "INSERT INTO app.billing (tenant_id, company) VALUES ('{tenant}', 'planted')"
        " ON CONFLICT (tenant_id) DO UPDATE SET company = excluded.company",
        "UPDATE app.billing SET company = 'planted'",
        "UPDATE app.invoices SET status = 'void'",
        "DELETE FROM app.invoices",
        "SELECT platform.put_invoice('{tenant}', 'planted', now(), 1, 'EUR', 'open')",
        "UPDATE identity.accounts SET display_name = 'planted'",
        "UPDATE identity.login_sessions SET revoked_at = now()",
        "DELETE FROM app.audit_events",
        "UPDATE app.audit_events SET data = '{{}}'",
        "TRUNCATE app.projects CASCADE",
        "INSERT INTO app.audit_events SELECT * FROM app.audit_events",
        "UPDATE app.audit_heads SET base_seq = seq, anchored_seq = seq",
        "DELETE FROM app.audit_heads",
        "SELECT platform.enter_chain('{tenant}')",
        "SELECT platform.move_audit_base('{tenant}', 0, 1, '', '{{}}')",
        "SELECT platform.drop_events('{tenant}', 0, 1000)",
        "MERGE INTO app.projects p USING (SELECT '{tenant}'::uuid AS t) x ON p.tenant_id = x.t"
        " WHEN MATCHED THEN UPDATE SET name = 'planted' WHEN NOT MATCHED THEN DO NOTHING",
        "ALTER TABLE app.projects DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE app.projects NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON app.projects",
        "CREATE POLICY evil ON app.projects USING (true)",
        "DROP TABLE app.projects CASCADE",
        "LOCK TABLE app.projects IN ACCESS EXCLUSIVE MODE NOWAIT",
        "CREATE TRIGGER evil AFTER INSERT ON app.projects EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "CREATE RULE evil AS ON SELECT TO app.projects DO INSTEAD SELECT 1",
    ],
    "parallel plans": [
        "SET LOCAL parallel_setup_cost = 0",
        "SET LOCAL parallel_tuple_cost = 0",
        "SET LOCAL min_parallel_table_scan_size = 0",
        "SET LOCAL debug_parallel_query = on",
        *everything(),
    ],
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_row_of_another_organization(attacker: Attacker, admin, victim, mallory, job, attack):
    before = rows_of(admin, victim)
    names = {"tenant": victim.tenant_id, "user": victim.user_id, "session": victim.session_id}

    attacker.begin_sealed(mallory, job)
    seen = attacker.try_all([sql.format(**names) for sql in ATTACKS[attack]])
    try:
        attacker.connection.run("COMMIT")
    except pg8000.native.DatabaseError as error:
        seen += str(error)

    assert not [secret for secret in victim.marks if secret in seen]
    keys = admin.run(
        "SELECT encode(inner_pad, 'hex') FROM platform.seal_key UNION ALL SELECT encode(inner_pad, 'hex')"
        " FROM platform.context_keys"
    )
    assert not [key for (key,) in keys if key in seen]
    assert rows_of(admin, victim) == before
    assert not admin.run("SELECT FROM app.projects WHERE tenant_id = :t AND name = 'planted'", t=victim.tenant_id)


def test_the_attacks_do_see_their_own_organization(stack, mallory):
    """The harness is not blind: what is Mallory's own comes back."""
    attacker = Attacker(stack, "projects_fn")
    attacker.begin_sealed(mallory)
    attacker.try_all(
        [
            "INSERT INTO app.projects (tenant_id, name, created_by)"
            f" VALUES ('{mallory.tenant_id}', 'own', '{mallory.user_id}')"
        ]
    )

    assert "'own'" in attacker.try_all(["SELECT name FROM app.projects"])
    attacker.connection.close()


def test_an_unknown_conflict_tells_nothing(projects_attacker, admin, victim, mallory):
    """ON CONFLICT and foreign keys are no oracle for rows of others."""
    project = admin.run("SELECT id FROM app.projects WHERE tenant_id = :t", t=victim.tenant_id)[0][0]
    projects_attacker.begin_sealed(mallory)
    own = f"'{mallory.tenant_id}'"
    seen = projects_attacker.try_all(
        [
            f"INSERT INTO app.projects (tenant_id, id, name, created_by) VALUES ({own}, '{project}', 'x', '{project}')"
            " ON CONFLICT DO NOTHING RETURNING 'inserted'",
            "INSERT INTO app.tasks (tenant_id, project_id, title, created_by)"
            f" VALUES ({own}, '{project}', 'x', '{project}')"
            " RETURNING 'task'",
        ]
    )

    assert "inserted" in seen  # as if the victim's project did not exist
    assert "task" in seen  # of Mallory's own project with the same id, not of the victim's
    assert admin.run("SELECT count(*) FROM app.tasks WHERE tenant_id = :t", t=victim.tenant_id) == [[1]]


def test_the_key_tables_are_unreadable(attacker: Attacker, mallory, job):
    attacker.begin_sealed(mallory, job)
    for table in ("platform.context_keys", "platform.seal_key"):
        with pytest.raises(pg8000.native.DatabaseError, match="permission denied"):
            attacker.connection.run(f"SELECT * FROM {table}")
        attacker.connection.run("ROLLBACK")
