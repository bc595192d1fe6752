"""The erasure engine without its services: people, organizations and rows by SQL, and batches under a job's seal."""

import json
import uuid
from typing import Any

import pg8000.native

SEAL = """
    SELECT set_config('app.context', s.seal || '.' || encode(sha256(k.outer_pad || sha256(
               k.inner_pad || convert_to(s.seal, 'UTF8'))), 'hex'), true)
    FROM platform.seal_key k CROSS JOIN (
        SELECT array_to_string(ARRAY[:kind, :tenant, :principal, '', pg_backend_pid()::text,
                   (extract(epoch FROM transaction_timestamp()) * 1000000)::bigint::text], '.') AS seal) s
"""
Counts = dict[tuple[str, str], int]
Row = dict[str, Any]


def new() -> str:
    return str(uuid.uuid4())


class Engine:
    """A database in which things are made and erased. The connection is an administrator's; the functions are not."""

    def __init__(self, connection: pg8000.native.Connection) -> None:
        self.connection = connection

    def add(self, table: str, **values: Any) -> Row:
        """Insert a row; `tenant`, `by` and `to` stand for tenant_id, created_by and assignee_id."""
        short = {"tenant": "tenant_id", "by": "created_by", "to": "assignee_id"}
        row = {short.get(name, name): value for name, value in values.items()}
        marks = ", ".join(f":{name}" for name in row)
        self.connection.run(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", **row)
        return row

    def person(self, name: str = "Somebody") -> str:
        """A new account."""
        account = new()
        self.add("identity.accounts", id=account, email=self.email(account), display_name=name, password_hash="x")
        return account

    @staticmethod
    def email(person: str) -> str:
        return f"{person}@example.org"

    def organization(self, *members: str, policy: str | None = None) -> str:
        """A new organization; the first member owns it."""
        tenant = new()
        settings = json.dumps({"erasure_policy": policy} if policy else {})
        self.add("app.organizations", tenant=tenant, slug=tenant, name="Organization", settings=settings)
        for position, person in enumerate(members):
            self.add("app.members", tenant=tenant, user_id=person, role="member" if position else "owner")
        return tenant

    def project(self, tenant: str, by: str) -> str:
        return str(self.add("app.projects", tenant=tenant, id=new(), name=new(), by=by)["id"])

    def task(self, tenant: str, project: str, by: str, to: str | None = None) -> str:
        row = self.add("app.tasks", tenant=tenant, id=new(), project_id=project, title="Climb", by=by, to=to)
        return str(row["id"])

    def event(self, tenant: str, by: str | None, resource: str = "x") -> None:
        """An audit event with a personal part, outside of any chain."""
        self.connection.run(
            "INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, actor_id, action, resource_type,"
            " resource_id, outcome, request_id, personal, personal_salt, personal_hash, prev_hash, hash)"
            " SELECT :tenant, coalesce(max(seq), 0) + 1, now(), 'user', CAST(:by AS uuid), 'x.y', 'x', :resource,"
            " 'success', 'r', '{\"ip\": \"192.0.2.1\"}', 's', 'h', 'p', 'h'"
            " FROM app.audit_events WHERE tenant_id = :tenant",
            tenant=tenant,
            by=by,
            resource=resource,
        )

    def hold(self, tenant: str, person: str, resources: list[Row] | None = None) -> str:
        """A legal hold for a day."""
        made = new()
        self.connection.run(
            "INSERT INTO app.legal_holds (tenant_id, id, subject_user_id, reason, until, resources, created_by)"
            " VALUES (:tenant, :id, :person, 'A claim', now() + interval '1 day', CAST(:resources AS jsonb), :maker)",
            tenant=tenant,
            id=made,
            person=person,
            resources=None if resources is None else json.dumps(resources),
            maker=new(),
        )
        return made

    def job(self, person: str | None, *tenants: str, scope: str = "me") -> str:
        """A running erasure, its person frozen; she is to be erased in these organizations."""
        job = new()
        self.add("platform.jobs", id=job, kind="deletion", status="running", execution_id="e")
        self.connection.run(
            "INSERT INTO platform.deletions (job_id, subject_id, tenant_id, scope, execute_after, due_at, receipt_hash,"
            " mail_to, name_to_find, frozen_at) SELECT :job, CAST(:person AS uuid), CAST(:tenant AS uuid), :scope,"
            " now(), now(), 'x', a.email, a.display_name, now()"
            " FROM (SELECT) AS one LEFT JOIN identity.accounts a ON a.id = CAST(:person AS uuid)",
            job=job,
            person=person,
            tenant=None if scope == "me" else tenants[0],
            scope=scope,
        )
        for tenant in tenants:
            self.add("platform.job_tenants", job_id=job, tenant=tenant)
        return job

    def sealed(self, kind: str, tenant: str | None, principal: str, *statements: str, **values: Any) -> list[Any]:
        """The last answer's rows of statements in one sealed transaction."""
        self.connection.run("BEGIN")
        try:
            self.connection.run(SEAL, kind=kind, tenant=tenant or "", principal=principal)
            answers = [self.connection.run(sql, **_used(sql, values)) for sql in statements]
        except pg8000.native.DatabaseError:
            self.connection.run("ROLLBACK")
            raise
        self.connection.run("COMMIT")
        return answers[-1] or []

    def batch(self, job: str, tenant: str, most: int = 1000) -> int:
        """One batch as the step does it; 0 when the organization is done."""
        enter, erase = "SELECT platform.enter_organization()", "SELECT app.erase_batch(:mode, :most)"
        mode = self.sealed("s", tenant, job, enter)[0][0]
        if mode == "done":
            return 0
        rows = int(self.sealed("s", tenant, job, enter, erase, mode=mode, most=most)[0][0])
        if rows == 0 and mode != "whole":
            rows = len(self.sealed("s", tenant, job, "SELECT app.erase_personal(:most)", most=most)[0][0])
        if rows == 0:
            self.sealed("s", tenant, job, "SELECT platform.organization_done()")
        return rows

    def erase_in(self, job: str, tenant: str, most: int = 1000) -> int:
        """Batches until nothing is left; their number."""
        batches = 1
        while self.batch(job, tenant, most):
            batches += 1
        return batches

    def erase_account(self, job: str, most: int = 1000) -> None:
        while self.sealed("s", None, job, "SELECT platform.erase_account(:most)", most=most)[0][0]:
            pass

    def erase(self, person: str, *tenants: str, most: int = 1000) -> Counts:
        """Erase a person in her organizations and then her account; what was done to how many rows."""
        job = self.job(person, *tenants)
        for tenant in tenants:
            self.erase_in(job, tenant, most)
        self.erase_account(job, most)
        return self.counts(job)

    def counts(self, job: str) -> Counts:
        rows = self.connection.run(
            "SELECT table_name, action, rows FROM platform.deletion_counts WHERE job_id = :j", j=job
        )
        return {(table, action): int(count) for table, action, count in rows}

    def plan(self, person: str, *tenants: str) -> Counts:
        """What a dry run says, by the organizations' policies."""
        found: Counts = {}
        account = "SELECT * FROM platform.subject_counts(:person)"
        here = "SELECT c.* FROM app.subject_counts(:person, app.erasure_mode(:person)) c"
        answers = [self.sealed("u", None, person, account, person=person)]
        answers += [self.sealed("u", tenant, person, here, person=person) for tenant in tenants]
        for table, action, count in (row for rows in answers for row in rows):
            found[table, action] = found.get((table, action), 0) + int(count)
        return found

    def held(self, job: str, person: str | None, tenant: str, mode: str) -> dict[str, int]:
        """Table → rows that holds keep from the job."""
        sql = "SELECT table_name, row_count FROM app.held_counts(CAST(:person AS uuid), :mode)"
        return dict(self.sealed("s", tenant, job, sql, person=person, mode=mode))

    def rows(self, table: str, tenant: str) -> list[str]:
        """An organization's rows as text."""
        found = self.connection.run(
            f"SELECT t::text FROM {table} t WHERE tenant_id = :tenant ORDER BY 1", tenant=tenant
        )
        return [row[0] for row in found]


def _used(sql: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if f":{name}" in sql}
