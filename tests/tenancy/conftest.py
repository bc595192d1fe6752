"""An attacker with a function's own database login, inside a transaction that was sealed for Mallory's organization."""

import base64
import hmac
import io
import json
import time
import uuid
from pathlib import Path
from typing import Any

import pg8000.native
import pytest

from common import apikeys
from local.layout import logins
from tests.conftest import People, Person, database

ROLES = [entry["role"] for entry in logins().values()]
KINDS = {entry["role"]: entry["kinds"] for entry in logins().values()}
AS = [(role, kind) for role in ROLES for kind in KINDS[role]]  # every role, as every kind of caller that it may serve
SIGNS_IN = {entry["role"]: entry.get("signs_in", False) for entry in logins().values()}


# A row of each kind, beside a project and its task; `:name` is the text that nobody else knows.
MORE = (
    "INSERT INTO app.roles (tenant_id, name, permissions)"
    " SELECT :t, left(:name, 64), '{project.view}' WHERE CAST(:u AS uuid) IS NOT NULL",
    "INSERT INTO app.api_keys (tenant_id, name, prefix, key_hash, permissions, created_by, expires_at)"
    " VALUES (:t, :name, '12345678', gen_random_uuid(), '{project.view}', :u, now() + interval '1 day')",
    "INSERT INTO app.billing (tenant_id, company) SELECT :t, :name WHERE CAST(:u AS uuid) IS NOT NULL",
    "INSERT INTO app.invoices (tenant_id, number, issued_at, total, currency, status, billed_to)"
    " SELECT :t, :name, now(), 1, 'EUR', 'open', '{}' WHERE CAST(:u AS uuid) IS NOT NULL",
    "INSERT INTO app.sessions (tenant_id, project_id, title, created_by, closes_at)"
    " SELECT p.tenant_id, p.id, :name, :u, now() + interval '1 hour' FROM app.projects p WHERE p.tenant_id = :t",
    "INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by)"
    " SELECT s.tenant_id, s.id, 1, :name, to_json(CAST(:name AS text)), :u FROM app.sessions s WHERE s.tenant_id = :t",
)


class Attacker:
    """Everything that SQL injected into one function could do; it has the login, not the signing key."""

    def __init__(self, stack: dict[str, Any], role: str, kind: str | None = None) -> None:
        self.role, self.kind = role, kind or KINDS[role][0]
        self._stack = stack
        self.connection = database(stack["postgres"][role])
        self.pid = int(self.connection.run("SELECT pg_backend_pid()")[0][0])
        self.connection.run("SET statement_timeout = '10s'")

    def token(self, person: Person | None = None, *, role: str | None = None, **changed: Any) -> str:
        """The token that the function itself would sign for a person; any part can be changed."""
        ring = json.loads(Path(self._stack["context_key"]).read_text())[role or self.role]
        kid = changed.get("kid", ring["active"])
        key = base64.urlsafe_b64decode(ring["keys"][ring["active"]]["key"] + "==")
        kind = changed.get("kind", "u")
        tenant = changed.get("tenant", person.tenant_id if person else "")
        principal = changed.get("principal", person.user_id if person else "")
        session = changed.get("session", person.session_id if person else "")
        expiry = changed.get("expiry", int(time.time()) + 4)
        body = f"v1.{kid}.{kind}.{tenant}.{principal}.{session}.{changed.get('pid', self.pid)}.{expiry}"
        return f"{body}.{hmac.digest(key, body.encode(), 'sha256').hex()}"

    def authorize(self, token: str) -> Any:
        """app.authorize with a bound token."""
        return self.connection.run("SELECT app.authorize(:token)", token=token)

    def begin_sealed(self, person: Person, job: str | None = None) -> None:
        """What the product does at checkout: for the person (`p`: though suspended), a key of hers, or a job."""
        token = {
            "u": lambda: self.token(person),
            "p": lambda: self.token(person, kind="p"),
            "k": lambda: self.token(kind="k", session=self.key_of(person)[1]),
            "s": lambda: self.token(kind="s", tenant=person.tenant_id, principal=job, session=""),
        }[self.kind]()
        self.connection.run("BEGIN")
        self.authorize(token)

    def key_of(self, person: Person) -> tuple[str, str]:
        """Id and hash of a new API key of a person, with every permission."""
        made, prefix = apikeys.new_key()
        with database(self._stack["postgres"]["admin"]) as connection:
            key_id = connection.run(
                "INSERT INTO app.api_keys (tenant_id, name, prefix, key_hash, permissions, created_by, expires_at)"
                " SELECT :t, 'Key', :prefix, CAST(:hash AS uuid), r.permissions, :u, now() + interval '1 day'"
                " FROM platform.roles r WHERE r.name = 'owner' RETURNING id",
                t=person.tenant_id,
                prefix=prefix,
                hash=apikeys.key_hash(made),
                u=person.user_id,
            )[0][0]
        return str(key_id), apikeys.key_hash(made)

    def try_all(self, statements: list[str]) -> str:
        """Run statements one by one, each in a savepoint; all that came back, errors included, as text."""
        seen = []
        for sql in statements:
            try:
                self.connection.run("SAVEPOINT attempt")
                copied = io.BytesIO()
                seen.append(repr(self.connection.run(sql, stream=copied)) + repr(copied.getvalue()))
            except pg8000.native.DatabaseError as error:
                seen.append(str(error))
                try:
                    self.connection.run("ROLLBACK TO SAVEPOINT attempt")
                except pg8000.native.DatabaseError as lost:
                    seen.append(str(lost))
        seen += [repr(notice) for notice in self.connection.notices]
        return "\n".join(seen)


@pytest.fixture(params=AS, ids=["-".join(each) for each in AS])
def attacker(request, stack):
    attacker = Attacker(stack, *request.param)
    yield attacker
    attacker.connection.close()


@pytest.fixture
def projects_attacker(stack):
    attacker = Attacker(stack, "projects_fn")
    yield attacker
    attacker.connection.close()


class Victim(Person):
    """Alice with rows in every kind of table; `marks` are texts that only her organization knows."""

    marks: list[str]


def mark(connection: pg8000.native.Connection, person: Person) -> Victim:
    """Fill the person's organization with texts that exist nowhere else."""
    victim = Victim(person.user_id, person.tenant_id, person.email, person.name, person.session_id, person.token)
    secret = f"mark-{uuid.uuid4().hex}"
    victim.marks = [secret, person.email, person.name]
    connection.run("UPDATE app.organizations SET name = :name WHERE tenant_id = :t", name=secret, t=person.tenant_id)
    project = connection.run(
        "INSERT INTO app.projects (tenant_id, name, description, created_by)"
        " VALUES (:t, :name, :name, :u) RETURNING id",
        t=person.tenant_id,
        name=secret,
        u=person.user_id,
    )[0][0]
    connection.run(
        "INSERT INTO app.tasks (tenant_id, project_id, title, created_by) VALUES (:t, :p, :name, :u)",
        t=person.tenant_id,
        p=project,
        name=secret,
        u=person.user_id,
    )
    for statement in MORE:
        connection.run(statement, t=person.tenant_id, u=person.user_id, name=secret)
    connection.run(
        "INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, action, resource_type, outcome, request_id,"
        " data, personal_hash, prev_hash, hash) VALUES (:t, 1, now(), 'user', 'x.y', 'x', 'success', 'r',"
        " jsonb_build_object('mark', CAST(:name AS text)), '', '', '')",
        t=person.tenant_id,
        name=secret,
    )
    return victim


def rows_of(connection: pg8000.native.Connection, person: Person) -> dict[str, Any]:
    """A fingerprint of everything that an organization and its owner have, by table."""
    tables = connection.run(
        """
        SELECT n.nspname || '.' || c.relname, min(a.attname)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND (n.nspname = 'app' AND a.attname = 'tenant_id'
            OR n.nspname = 'identity' AND (a.attname = 'account_id' OR c.relname = 'accounts' AND a.attname = 'id'))
        GROUP BY 1 ORDER BY 1
        """
    )
    return {
        table: connection.run(
            f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t WHERE {column} = :id",
            id=person.tenant_id if column == "tenant_id" else person.user_id,
        )
        for table, column in tables
    }


@pytest.fixture
def victim(admin: pg8000.native.Connection, alice: Person) -> Victim:
    return mark(admin, alice)


@pytest.fixture
def job(admin: pg8000.native.Connection, people: People, mallory: Person) -> str:
    """A running job for Mallory's organization: what a job role's seal stands on."""
    job_id = str(uuid.uuid4())
    admin.run("INSERT INTO platform.jobs (id, kind, status) VALUES (:id, 'export', 'running')", id=job_id)
    admin.run("INSERT INTO platform.job_tenants (job_id, tenant_id) VALUES (:id, :t)", id=job_id, t=mallory.tenant_id)
    return job_id
