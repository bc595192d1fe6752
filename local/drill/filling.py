"""A database of some size: organizations with members, projects, tasks and audit chains that really hold."""

import io
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pg8000.native

from common.audit import GENESIS, event_hash, personal_hash

PEOPLE = 10  # in each organization
PROJECTS = 20
TASKS_OF_AN_ORGANIZATION = 5_000
TASKS_OF_AN_EVENT = 10
AFTER = 5  # a fifth of the tasks is written after the backup
MOST_EVENTS = 2_000  # of one organization
COLUMNS = "tenant_id, seq, at, actor_type, actor_id, action, resource_type, resource_id, outcome, request_id, data,"
COLUMNS += " personal, personal_salt, personal_hash, prev_hash, hash"
FILL = (
    "SET session_replication_role = replica",  # no foreign keys to check row by row
    "INSERT INTO app.organizations (tenant_id, slug, name)"
    " SELECT CAST(md5('organization ' || t) AS uuid), 'filled-' || t, 'Organization ' || t"
    " FROM generate_series(1, :organizations) t",
    "INSERT INTO identity.accounts (id, email, display_name)"
    " SELECT CAST(md5('person ' || t || '/' || p) AS uuid), 'person-' || t || '-' || p || '@example.net', 'Person'"
    " FROM generate_series(1, :organizations) t, generate_series(1, :people) p",
    "INSERT INTO app.members (tenant_id, user_id, role) SELECT CAST(md5('organization ' || t) AS uuid),"
    " CAST(md5('person ' || t || '/' || p) AS uuid), CASE p WHEN 1 THEN 'owner' ELSE 'developer' END"
    " FROM generate_series(1, :organizations) t, generate_series(1, :people) p",
    "INSERT INTO app.projects (tenant_id, id, name, created_by) SELECT CAST(md5('organization ' || t) AS uuid),"
    " CAST(md5('project ' || t || '/' || p) AS uuid), 'Project ' || p, CAST(md5('person ' || t || '/1') AS uuid)"
    " FROM generate_series(1, :organizations) t, generate_series(1, :projects) p",
)
TASKS = (
    "INSERT INTO app.tasks (tenant_id, project_id, title, description, assignee_id, due_at, created_by)"
    " SELECT CAST(md5('organization ' || t) AS uuid), CAST(md5('project ' || t || '/' || 1 + n % :projects) AS uuid),"
    " 'Task ' || n, 'Prepare the figures of quarter ' || n % 40 || repeat(', compare them with last year', n % 4),"
    " CAST(md5('person ' || t || '/' || 1 + n % :people) AS uuid), now() + make_interval(hours => n % 5000),"
    " CAST(md5('person ' || t || '/1') AS uuid)"
    " FROM generate_series(1, :organizations) t, generate_series(:first, :last) n"
)


class Amount(NamedTuple):
    """How much there is: tasks in all, and what follows from them."""

    tasks: int

    @property
    def organizations(self) -> int:
        """At least two."""
        return max(2, self.tasks // TASKS_OF_AN_ORGANIZATION)

    @property
    def events(self) -> int:
        """Audit events of each organization."""
        return min(MOST_EVENTS, self.tasks // TASKS_OF_AN_EVENT // self.organizations)

    @property
    def before(self) -> int:
        """Tasks of each organization that are there when the backup is taken."""
        return self.each - self.each // AFTER

    @property
    def each(self) -> int:
        """Tasks of each organization."""
        return self.tasks // self.organizations


def fill(admin: pg8000.native.Connection, amount: Amount) -> None:
    """Everything that the base backup holds."""
    for sql in FILL:
        admin.run(_said(sql, amount))
    write_tasks(admin, amount, 1, amount.before)
    for row in admin.run("SELECT tenant_id FROM app.organizations WHERE slug LIKE 'filled-%' ORDER BY 1"):
        _chain(admin, str(row[0]), amount.events)
    admin.run("SET session_replication_role = origin")
    admin.run("VACUUM (ANALYZE)")


def write_tasks(admin: pg8000.native.Connection, amount: Amount, first: int, last: int) -> None:
    """The tasks `first` to `last` of every organization."""
    admin.run(_said(TASKS, amount, first=first, last=last))


def _said(sql: str, amount: Amount, **places: int) -> str:
    """The statement with its numbers; a parameter of generate_series would have no type."""
    for name, value in {
        **places,
        "organizations": amount.organizations,
        "people": PEOPLE,
        "projects": PROJECTS,
    }.items():
        sql = sql.replace(f":{name}", str(value))
    return sql


def _chain(admin: pg8000.native.Connection, organization: str, count: int) -> None:
    """An audit chain of so many events, each with the hash that its content gives, and its head."""
    rows = list(_events(organization, count))
    stream = io.BytesIO("".join("\t".join(row) + "\n" for row in rows).encode())
    admin.run(f"COPY app.audit_events ({COLUMNS}) FROM STDIN", stream=stream)
    admin.run(
        "INSERT INTO app.audit_heads (tenant_id, seq, hash, at) VALUES (:tenant, :seq, :hash, now())",
        tenant=organization,
        seq=count,
        hash=rows[-1][-1],
    )


def _events(organization: str, count: int) -> Iterator[list[str]]:
    link, start = GENESIS, datetime.now(UTC) - timedelta(days=1)
    for seq in range(1, count + 1):
        salt = uuid.uuid4().hex * 2
        personal = {"ip": "192.0.2.7", "user_agent": "filled"}
        event: dict[str, Any] = {
            "seq": seq,
            "at": (start + timedelta(seconds=seq)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "actor": {"type": "user", "id": organization},
            "action": "project.updated",
            "resource": {"type": "project", "id": organization},
            "outcome": "success",
            "request_id": f"filled-{seq}",
            "data": {"fields": ["name"]},
            "personal_hash": personal_hash(salt, personal),
            "prev_hash": link,
        }
        link = event_hash(event)
        yield [
            *(organization, str(seq), event["at"], "user", organization, event["action"], "project", organization),
            *("success", event["request_id"], json.dumps(event["data"]), json.dumps(personal), salt),
            *(event["personal_hash"], event["prev_hash"], link),
        ]
