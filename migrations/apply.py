"""Apply the numbered migrations, forward only: `python -m migrations.apply`. Safe to run twice at once."""

import hashlib
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pg8000.native
import yaml
from pg8000.native import identifier, literal

from common import register_rules
from common.settings import admin_url
from migrations import basics
from migrations.connection import administer, connected

HERE = Path(__file__).parent
CATALOG = HERE.parent / "functions" / "catalog.yaml"
LOCK = 7_305_210_001  # any constant that no one else uses
# PostgreSQL's own locale: one that no update of the machine's C library changes, and the same everywhere.
LOCALE = "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
# For whoever connects without settings of her own. Cloud SQL has no flag for the first.
SETTINGS = {"statement_timeout": "60s", "log_parameter_max_length_on_error": "0"}
# Columns that the rules use and the catalog does not have.
UNKNOWN = """
    SELECT DISTINCT used.name || '.' || used.attribute
    FROM (SELECT r.name, s ->> 'column' FROM platform.register r, jsonb_array_elements(r.rules -> 'subjects') s
          UNION SELECT r.name, s ->> 'without' FROM platform.register r, jsonb_array_elements(r.rules -> 'subjects') s
          UNION SELECT r.name, n FROM platform.register r, jsonb_array_elements_text(r.rules -> 'nulls') n
          UNION SELECT r.name, r.rules ->> 'after' FROM platform.register r
          UNION SELECT r.name, c FROM platform.register r, jsonb_array_elements(r.rules -> 'parents') p,
              jsonb_array_elements_text(p -> 'columns') c
          UNION SELECT r.name, 'tenant_id' FROM platform.register r WHERE (r.rules -> 'of_tenant')::boolean
         ) AS used (name, attribute)
    WHERE used.attribute IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_attribute a
        WHERE a.attrelid = to_regclass(used.name) AND a.attname = used.attribute AND NOT a.attisdropped)
    ORDER BY 1
"""
# What the engine may do to the tables that it erases or retires.
UNGRANTED = """
    SELECT format('GRANT SELECT, UPDATE, DELETE ON %I.%I TO context_definer', r.rules ->> 'schema',
                  r.rules ->> 'relation')
    FROM platform.register r
    WHERE ((r.rules -> 'of_tenant')::boolean OR jsonb_array_length(r.rules -> 'subjects') > 0
           OR jsonb_array_length(r.rules -> 'parents') > 0 OR r.rules ->> 'period' IS NOT NULL)
        AND EXISTS (SELECT FROM unnest(ARRAY['SELECT', 'UPDATE', 'DELETE']) AS needed
                    WHERE NOT has_table_privilege('context_definer', to_regclass(r.name), needed))
"""
# Tables whose partitions the register speaks of, and that are not partitioned so.
NOT_PARTITIONED = """
    SELECT r.name FROM platform.register r
    WHERE r.rules ->> 'partitions' IS NOT NULL AND NOT EXISTS (
        SELECT FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
        WHERE p.partrelid = to_regclass(r.name) AND p.partstrat = 'r' AND p.partnatts = 1
            AND a.attname = r.rules ->> 'after')
"""


class MigrationError(Exception):
    """A migration cannot be applied; the message says which and why."""


def logins() -> dict[str, dict[str, Any]]:
    """The catalog's services and workloads, by name."""
    catalog = yaml.safe_load(CATALOG.read_text())
    return {**catalog["services"], **catalog["workloads"]}


def roles() -> list[str]:
    """Every role that is made here; none of them logs in."""
    return ["context_owner", "context_definer", *(entry["role"] for entry in logins().values())]


def bootstrap(url: str, database: str) -> None:
    """Roles and the database itself: the part that needs an administrator (CREATEROLE, CREATEDB), no superuser."""
    with connected(url, "postgres") as admin:
        admin.run("SELECT pg_advisory_lock(:lock)", lock=LOCK)
        administer(admin)
        present = {row[0] for row in admin.run("SELECT rolname FROM pg_roles")}
        for role in roles():
            if role not in present:
                admin.run(f"CREATE ROLE {identifier(role)} NOLOGIN")
        admin.run("GRANT context_owner, context_definer TO CURRENT_USER WITH INHERIT FALSE, SET TRUE")
        admin.run("GRANT context_definer TO context_owner WITH INHERIT FALSE, SET TRUE")
        if not admin.run("SELECT FROM pg_database WHERE datname = :name", name=database):
            admin.run(f"CREATE DATABASE {identifier(database)} OWNER context_owner TEMPLATE template0 {LOCALE}")
        admin.run("SET ROLE context_owner")
        admin.run(f"REVOKE TEMPORARY ON DATABASE {identifier(database)} FROM PUBLIC")
        for name, value in SETTINGS.items():
            admin.run(f"ALTER DATABASE {identifier(database)} SET {name} = {literal(value)}")
    with connected(url, database) as admin:
        _audit(admin, database)


def _audit(admin: pg8000.native.Connection, database: str) -> None:
    """The extension that records who changes schema and roles, where the server has it (Cloud SQL by a flag)."""
    administer(admin)
    if not admin.run("SELECT FROM pg_available_extensions WHERE name = 'pgaudit' AND installed_version IS NULL"):
        return
    administrator = identifier(admin.run("SELECT current_user::text")[0][0])
    admin.run("SET ROLE context_owner")
    admin.run(f"GRANT CREATE ON DATABASE {identifier(database)} TO {administrator}")
    admin.run("RESET ROLE")
    administer(admin)
    admin.run("CREATE SCHEMA IF NOT EXISTS pgaudit")
    admin.run("CREATE EXTENSION IF NOT EXISTS pgaudit SCHEMA pgaudit")


def migrate(url: str, database: str) -> list[str]:
    """Apply what is missing, as the owner of the database; the names of what was applied.

    Raises MigrationError when an applied file has changed or a number is missing.
    """
    with connected(url, database) as connection:
        connection.run("SELECT pg_advisory_lock(:lock)", lock=LOCK)
        connection.run("SET ROLE context_owner")
        # Bodies stay unchecked here: a definer's queries would be judged by the owner's policies.
        connection.run("SET lock_timeout = '5s'; SET statement_timeout = '15min'")
        connection.run("SET row_security = off; SET check_function_bodies = off")
        connection.run("CREATE SCHEMA IF NOT EXISTS migrations")
        connection.run(
            "CREATE TABLE IF NOT EXISTS migrations.applied"
            " (name text PRIMARY KEY, checksum text NOT NULL, at timestamptz NOT NULL DEFAULT now())"
        )
        done = dict(connection.run("SELECT name, checksum FROM migrations.applied"))
        applied = [path.stem for path in sorted(HERE.glob("[0-9]*.sql")) if _apply(connection, path, done)]
        load_register(connection, register_rules.compiled())
        basics.grant(connection, logins().values())
        return applied


def _apply(connection: pg8000.native.Connection, path: Path, done: dict[str, str]) -> bool:
    text = path.read_text()
    checksum = hashlib.sha256(text.encode()).hexdigest()
    if path.stem in done:
        if done[path.stem] != checksum:
            raise MigrationError(f"{path.name} was changed after it had been applied: write a new migration instead")
        return False
    if any(name > path.stem for name in done):
        raise MigrationError(f"{path.name} is older than a migration that was applied already")
    connection.run("BEGIN")
    try:
        connection.execute_simple(text)
        connection.run(
            "INSERT INTO migrations.applied (name, checksum) VALUES (:name, :checksum)",
            name=path.stem,
            checksum=checksum,
        )
        connection.run("COMMIT")
    except pg8000.native.DatabaseError as error:
        connection.run("ROLLBACK")
        raise MigrationError(f"{path.name}: {error}") from error
    return True


def load_register(connection: pg8000.native.Connection, rules: list[tuple[str, str]]) -> None:
    """Tell the database what the register says, as the owner; the definer gets the rights that erasure needs.

    Raises MigrationError when the register names a table or column that the database lacks.
    """
    connection.run("BEGIN")
    try:
        connection.run("SET LOCAL row_security = on; SET CONSTRAINTS ALL DEFERRED")
        connection.run("DELETE FROM platform.register")
        connection.run(
            "INSERT INTO platform.register (name, position, rules)"
            " SELECT name, position, rules FROM unnest(CAST(:names AS text[]), CAST(:rules AS text[])::jsonb[])"
            " WITH ORDINALITY AS given (name, rules, position)",
            names=[name for name, _ in rules],
            rules=[text for _, text in rules],
        )
        unknown = connection.run(UNKNOWN)
        if unknown:
            raise MigrationError(f"the register knows what the database lacks: {', '.join(row[0] for row in unknown)}")
        unpartitioned = connection.run(NOT_PARTITIONED)
        if unpartitioned:
            names = ", ".join(row[0] for row in unpartitioned)
            raise MigrationError(f"not partitioned by range of the column that the register names: {names}")
        for statement in [row[0] for row in connection.run(UNGRANTED)]:
            connection.run(statement)
        connection.run("SELECT platform.make_partitions()")
        connection.run("COMMIT")
    except (pg8000.native.DatabaseError, MigrationError) as error:
        connection.run("ROLLBACK")
        raise MigrationError(f"common/register.yaml: {error}") from error


def main() -> int:
    """Bootstrap and migrate the database that the URL's path names."""
    url = admin_url()
    database = urlsplit(url).path.lstrip("/")
    try:
        bootstrap(url, database)
        applied = migrate(url, database)
    except MigrationError as error:
        sys.stderr.write(f"migration failed: {error}\n")
        return 1
    sys.stdout.write(f"applied: {', '.join(applied) or 'nothing, the schema is current'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
