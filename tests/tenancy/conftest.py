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

from local.layout import catalog
from tests.conftest import People, Person, database

ROLES = [entry["role"] for entry in catalog().values()]
KINDS = {entry["role"]: entry["kinds"] for entry in catalog().values()}
SIGNS_IN = {entry["role"]: entry.get("signs_in", False) for entry in catalog().values()}


class Attacker:
    """Everything that SQL injected into one function could do; it has the login, not the signing key."""

    def __init__(self, stack: dict[str, Any], role: str) -> None:
        self.role = role
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
        """What the product does at checkout; a job role works under its running job."""
        self.connection.run("BEGIN")
        if "u" in KINDS[self.role]:
            self.authorize(self.token(person))
        else:
            self.authorize(self.token(kind="s", tenant=person.tenant_id, principal=job, session=""))

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


@pytest.fixture(params=ROLES)
def attacker(request, stack):
    attacker = Attacker(stack, request.param)
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
    connection.run(
        "INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, action, resource_type, outcome, request_id,"
        " data, personal_hash, prev_hash, hash) VALUES (:t, 1, now(), 'user', 'x.y', 'x', 'success', 'r',"
        " jsonb_build_object('mark', CAST(:name AS text)), '', '', '')",
        t=person.tenant_id,
        name=secret,
    )
    return victim


def rows_of(connection: pg8000.native.Connection, person: Person) -> Any:
    """A fingerprint of everything that an organization and its owner have."""
    return connection.run(
        """
        SELECT md5(string_agg(line, '|' ORDER BY line)) FROM (
            SELECT to_json(t)::text FROM app.organizations t WHERE tenant_id = CAST(:t AS uuid)
            UNION ALL SELECT to_json(t)::text FROM app.members t WHERE tenant_id = CAST(:t AS uuid)
            UNION ALL SELECT to_json(t)::text FROM app.projects t WHERE tenant_id = CAST(:t AS uuid)
            UNION ALL SELECT to_json(t)::text FROM app.tasks t WHERE tenant_id = CAST(:t AS uuid)
            UNION ALL SELECT to_json(t)::text FROM app.audit_events t WHERE tenant_id = CAST(:t AS uuid)
            UNION ALL SELECT to_json(t)::text FROM app.audit_heads t WHERE tenant_id = CAST(:t AS uuid)
            UNION ALL SELECT to_json(t)::text FROM identity.accounts t WHERE id = CAST(:u AS uuid)
            UNION ALL SELECT to_json(t)::text FROM identity.login_sessions t WHERE account_id = CAST(:u AS uuid)
        ) AS all_rows (line)
        """,
        t=person.tenant_id,
        u=person.user_id,
    )


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
