"""`make import-export FILE=… [ORGANIZATION=…]`: move an organization in, from its package (scope organization, JSON).

Into a new organization, or an empty one (it may have members, and nothing else). Ids stay. All of it or nothing: it is
one transaction, and after a crash it is begun again. What the register calls `provided` is imported; what was observed
or derived (the audit chain, invoices) is the record of the platform that made it, and stays in the package. API keys
come without their secrets and open nothing. The stack must run; in the cloud the operator calls the same functions of
schema platform, as the role that migrates.
"""

import argparse
import hashlib
import json
import sys
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pg8000.native
from pg8000.exceptions import DatabaseError, InterfaceError

from common.register import Table, register
from common.register_rules import ordered
from functions.exports import forms
from functions.exports.copying import copies
from functions.exports.queries import Shape
from local import attached, postgres
from local.import_package import Package, Refused
from migrations.connection import connected

BATCH_BYTES = 4 * 2**20
KEPT = ("app.organizations", "app.members")  # what an empty organization may have; the package's rows replace it
CLOSED = {
    "unknown": "there is no such organization",
    "suspended": "the organization is suspended",
}


def imported_tables() -> list[Table]:
    """The tables that come with an organization, each behind those that it refers to."""
    known = [table for table in ordered(register().tables) if table.carried and table.source == "provided"]
    return known[::-1]


def import_package(url: str, path: Path, organization: uuid.UUID | None = None) -> tuple[str, dict[str, int]]:
    """The organization's id and the number of rows by table. `url` is the administrator's. Raises Refused."""
    target = organization or uuid.uuid4()
    with Package(path) as package, connected(url, urlsplit(url).path.lstrip("/")) as admin:
        package.verify()
        _compare(admin, package)
        try:
            counts = _import(admin, package, target, created=organization is None, digest=_digest(path))
        except DatabaseError as error:
            told = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
            if str(told.get("C", ""))[:2] not in {"21", "22", "23"}:
                raise
            raise Refused(f"the database refuses a row: {told.get('M')}") from error
    return str(target), counts


def _import(
    admin: pg8000.native.Connection, package: Package, target: uuid.UUID, *, created: bool, digest: str
) -> dict[str, int]:
    counts = {}
    tables = [table for table in imported_tables() if table.relation in package.tables]
    admin.run("BEGIN")
    admin.run("SET LOCAL ROLE context_owner")
    must_be_empty = [table.relation for table in register().carried() if table.name not in KEPT]
    must_be_empty.remove("audit_events")  # an organization has a history from its first moment on
    state = admin.run(
        "SELECT platform.open_import(:target, :created, :relations)",
        target=target,
        created=created,
        relations=must_be_empty,
    )[0][0]
    if state != "open":
        raise Refused(CLOSED.get(state, f"the organization is not empty: it has {state.replace('_', ' ')}"))
    for table in tables:
        counts[table.relation] = _insert(admin, package, table)
    if counts.get("organizations") != 1:
        raise Refused("data/organizations.json must have one row")
    admin.run("SELECT platform.close_import(:digest, :request)", digest=digest, request=str(uuid.uuid4()))
    admin.run("COMMIT")
    return counts


def _insert(admin: pg8000.native.Connection, package: Package, table: Table) -> int:
    columns = [name for name in table.carried if name != "tenant_id"]
    written = 0
    for rows in _batches(package.rows(table.relation, table.carried)):
        written += admin.run(
            "SELECT platform.import_rows(:relation, :columns, CAST(:rows AS json), :replaces)",
            relation=table.relation,
            columns=columns,
            rows=rows,
            replaces=table.name in KEPT,
        )[0][0]
    return written


def _batches(rows: Iterable[bytes]) -> Iterator[str]:
    """Rows as JSON arrays of a few MiB each."""
    batch: list[bytes] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += len(row)
        if size >= BATCH_BYTES:
            yield f"[{b','.join(batch).decode()}]"
            batch, size = [], 0
    if batch:
        yield f"[{b','.join(batch).decode()}]"


def _compare(admin: pg8000.native.Connection, package: Package) -> None:
    """The package has the tables of this release, in its form. Raises Refused with the first difference."""
    known = {copy.table.relation: copy for copy in copies("organization").values()}
    for relation in sorted(set(package.tables) ^ set(known)):
        raise Refused(f"data/{relation}.json is {'unknown to' if relation in package.tables else 'missing for'} us")
    types = _types(admin)
    for relation, copy in known.items():
        given, expected = package.schema(relation), forms.schema(copy, Shape(types[copy.table.name], ()), "json")
        try:
            theirs, ours = given["items"]["properties"], expected["items"]["properties"]
            differing = sorted(name for name in {*theirs, *ours} if theirs.get(name) != ours.get(name))
        except (KeyError, TypeError, AttributeError) as error:
            raise Refused(f"schema/{relation}.json is not the form of a table") from error
        if differing or given["items"].get("required") != expected["items"]["required"]:
            what = ", ".join(differing) or "the order"
            raise Refused(f"schema/{relation}.json is of another release: it differs in {what}")


def _types(admin: pg8000.native.Connection) -> dict[str, dict[str, str]]:
    """Table → column → type, as PostgreSQL names it."""
    found: dict[str, dict[str, str]] = {}
    for table, column, kind in admin.run(
        """
        SELECT 'app.' || c.relname, a.attname::text, format_type(a.atttypid, NULL)
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'app'
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        WHERE c.relkind IN ('r', 'p')
        """
    ):
        found.setdefault(table, {})[column] = kind
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Import and tell the organization's id; the exit code is 1 when that cannot be."""
    parser = argparse.ArgumentParser(description="Import an organization from its exported package")
    parser.add_argument("file", type=Path, help="a package of scope organization, format json")
    parser.add_argument("--organization", type=uuid.UUID, help="an empty one; a new one is made without it")
    parser.add_argument("--root", type=Path, default=Path(".local"), help="where the stack keeps its data")
    chosen = parser.parse_args()
    layout = attached.running(chosen.root)
    try:
        url = postgres.admin_dsn(layout.path(), layout.ports["postgres"])
        organization, counts = import_package(url, chosen.file, chosen.organization)
    except Refused as refused:
        sys.stderr.write(f"not imported: {refused}\n")
        return 1
    except InterfaceError:
        sys.stderr.write("not imported: the database does not answer; .local/log/postgres.log says why\n")
        return 1
    sys.stdout.write(json.dumps({"organization_id": organization, "rows": counts}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
