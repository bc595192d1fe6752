"""One row of every table, made from the catalog and the register: a table that nobody thought of is filled as well."""

import hashlib
import uuid
from ipaddress import IPv6Address
from typing import Any, NamedTuple

import pg8000.native

from common.register import Table, register
from common.register_rules import ordered

COLUMNS = """
    SELECT c.oid::regclass::text, a.attname::text, format_type(a.atttypid, NULL), a.attnotnull AND NOT a.atthasdef
           AND a.attidentity = '', coalesce((
               SELECT substring(pg_get_constraintdef(k.oid) FROM '= ANY \\(ARRAY\\[''([^'']*)''')
               FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]
               ORDER BY 1 LIMIT 1), '')
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('app', 'identity', 'platform') AND c.relkind IN ('r', 'p') AND NOT c.relispartition
        AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    ORDER BY 1, a.attnum
"""
KEYS = """
    SELECT conrelid::regclass::text, array_agg(a.attname::text ORDER BY a.attnum)
    FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
    WHERE k.contype = 'p' GROUP BY 1
"""
NEVER = {
    "platform.register": "configuration",
    "platform.roles": "configuration",
    "platform.seal_key": "configuration",
    "platform.context_keys": "configuration",
    "platform.key_run": "one row at most, of the present run",
    "platform.block_run": "one row at most, of the present run",
    "platform.retention_counts": "written and told by the run itself",
    "app.audit_events": "written by the chain's own functions",
    "app.audit_heads": "written by the chain's own functions",
}
WORDS: dict[str, Any] = {  # a value that any row may have, by type
    "json": "{}",
    "jsonb": "{}",
    "integer": 1,
    "bigint": 1,
    "smallint": 1,
    "boolean": True,
    "inet": "192.0.2.1",
    "text[]": [],
    "uuid[]": [],
    "date": "2026-01-01",
}
# What the catalog does not say: values under which the checks of a table hold.
SPECIAL: dict[tuple[str, str], Any] = {
    ("app.members", "role_id"): None,
    ("app.members", "role"): "viewer",
    ("app.invitations", "role_id"): None,
    ("app.invitations", "role"): "viewer",
    ("app.invoices", "currency"): "EUR",
    ("app.billing", "company"): "Company",
    ("app.billing", "vat_id"): "DE123456789",
    ("app.legal_holds", "resources"): None,
    ("identity.mfa_factors", "type"): "email",
    ("identity.oidc_attempts", "purpose"): "link",
    ("platform.deletions", "tenant_id"): None,
    ("platform.exports", "status"): "expired",
    ("platform.deletion_processors", "name"): "processor",
    ("app.idempotent_answers", "status"): 200,
    ("app.incidents", "status"): "closed",
    ("app.session_events", "type"): "said",
    ("platform.alerts", "name"): "failed_log_ins",
    ("platform.blocks", "source"): "alert",
    **{
        (table, name): value
        for table in ("app.consent_texts", "app.member_consents", "platform.consent_texts", "identity.consents")
        for name, value in (("purpose", "news.{person}"), ("text_hash", hashlib.sha256(b"News?").hexdigest()))
    },
    ("app.consent_texts", "text"): "News?",
    ("platform.consent_texts", "text"): "News?",
}
# The same for a row whose period has not begun: what it counts from is empty.
OPEN: dict[tuple[str, str], Any] = {
    ("platform.exports", "status"): "queued",
    ("app.incidents", "status"): "open",
}


class Made(NamedTuple):
    """A row that was made: its table, its primary key, and all values that were given."""

    table: Table
    key: dict[str, str]
    values: dict[str, Any]


class Filler:
    """Fills a database as superuser, without triggers and foreign keys, whose values it sets all the same."""

    def __init__(self, connection: pg8000.native.Connection) -> None:
        self._connection = connection
        self._columns: dict[str, list[tuple[str, str, bool, str]]] = {}
        for table, *column in connection.run(COLUMNS):
            self._columns.setdefault(table, []).append(tuple(column))
        self._keys: dict[str, list[str]] = dict(connection.run(KEYS))

    def fill(self, **given: Any) -> list[Made]:
        """A row of every table, about one person in one organization, whose periods begin now.

        `given`: now, person, email, tenant, until (of the legal hold), is_open (periods that need not begin have not).
        Children come before their parents.
        """
        made: dict[str, Made] = {}
        jobs = []
        self._connection.run("SET session_replication_role = replica")
        for table in reversed(ordered(register().tables)):
            if table.name == "platform.deletions":  # whose job is not the export's
                jobs.append(made["platform.jobs"])
                made["platform.jobs"] = self._row(made["platform.jobs"].table, made, given)
            if table.name not in NEVER:
                made[table.name] = self._row(table, made, given)
        self._connection.run("SET session_replication_role = origin")
        return [*reversed(made.values()), *jobs]

    def _row(self, table: Table, made: dict[str, Made], given: dict[str, Any]) -> Made:
        values = self._values(table, made, given)
        marks = ", ".join(
            f"CAST(:{name} AS {kind})" for name, kind, _, _ in self._columns[table.name] if name in values
        )
        names = ", ".join(name for name, *_ in self._columns[table.name] if name in values)
        # What a partition is chosen by stands in every key, and is moved by the clock.
        keys = [
            name for name in self._keys[table.name] if not table.retention.partitions or name != table.retention.after
        ]
        key = ", ".join(f"{name}::text" for name in keys)
        (row,) = self._connection.run(f"INSERT INTO {table.name} ({names}) VALUES ({marks}) RETURNING {key}", **values)
        return Made(table, dict(zip(keys, row, strict=True)), values)

    def _values(self, table: Table, made: dict[str, Made], given: dict[str, Any]) -> dict[str, Any]:
        known = self._people(table, given) | self._parents(table, made)
        if table.name == "app.legal_holds":
            known["until"] = given["until"]
        elif table.name == "identity.accounts":
            known["id"] = given["person"]
        known |= {name: value for (of, name), value in SPECIAL.items() if of == table.name}
        if given["is_open"]:
            known |= {name: value for (of, name), value in OPEN.items() if of == table.name}
        values: dict[str, Any] = {}
        for name, kind, needed, word in self._columns[table.name]:
            if name in known:
                values[name] = known[name]
            elif name == "tenant_id" and kind == "uuid":
                values[name] = given["tenant"]
            elif needed or (name == table.retention.after and not given["is_open"]):
                values[name] = self._anything(kind, word, given)
        return {
            name: value.format(**given) if "{person}" in str(value) else value
            for name, value in values.items()
            if value is not None
        }

    def _people(self, table: Table, given: dict[str, Any]) -> dict[str, Any]:
        kinds = {name: kind for name, kind, _, _ in self._columns[table.name]}
        return {
            subject.column: given["email" if subject.match == "email" else "person"]
            for subject in table.subjects
            if subject.match == "email" or kinds[subject.column] == "uuid"
        }

    def _parents(self, table: Table, made: dict[str, Made]) -> dict[str, Any]:
        found = {
            own: made[reference.parent].values.get(theirs) or made[reference.parent].key.get(theirs)
            for reference in table.references
            if reference.parent in made and reference.parent != table.name
            for own, theirs in zip(reference.columns, reference.parent_columns, strict=True)
        }
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def _anything(kind: str, word: str, given: dict[str, Any]) -> Any:
        if word:
            return word
        made = {
            "uuid": str(uuid.uuid4()),
            "bytea": uuid.uuid4().bytes,
            "cidr": str(IPv6Address(uuid.uuid4().bytes)),
            "timestamp with time zone": given["now"],
            "text": given["email"],  # which is nobody else's
        }
        if kind not in made | WORDS:
            raise AssertionError(f"tests/retention/filling.py knows no value of type {kind}")
        return (made | WORDS)[kind]
