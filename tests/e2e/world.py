"""One organization, its people and their requests for erasure, where the test itself plays Tasks, Workflows and time.

A message of the outbox may be delivered any number of times; an execution may stop between any two calls, or lose an
answer and call again; the clock is moved by moving every moment that the database compares with it.
"""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from functions.deletions.plan import STEPS
from tests.conftest import Answer, People, Person
from tests.e2e.jobs import Stage

CALLS = ("claim", *STEPS, "finish")
ENDS = {"done", "cancelled", "failed"}
TABLES = ("tasks", "projects", "members")
OURS = "(d.subject_id = ANY (CAST(:people AS uuid[])) OR d.tenant_id = ANY (CAST(:tenants AS uuid[])))"
MOVES = (
    "UPDATE platform.deletions d SET execute_after = execute_after - make_interval(hours => :hours),"
    f" due_at = due_at - make_interval(hours => :hours) WHERE {OURS}",
    "UPDATE platform.jobs SET heartbeat_at = heartbeat_at - make_interval(hours => :hours),"
    " finished_at = finished_at - make_interval(hours => :hours)"
    f" WHERE id IN (SELECT d.job_id FROM platform.deletions d WHERE {OURS})",
    "UPDATE platform.outbox SET not_before = not_before - make_interval(hours => :hours)"
    f" WHERE reference IN (SELECT d.job_id FROM platform.deletions d WHERE {OURS})",
    "UPDATE app.legal_holds SET until = until - make_interval(hours => :hours)"
    " WHERE tenant_id = ANY (CAST(:tenants AS uuid[]))"
    " AND cardinality(CAST(:people AS uuid[])) > 0",
)


@dataclass
class Execution:
    """One execution of gdpr_erasure; `at` is its next call."""

    job: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    at: int = 0
    over: bool = False
    troubles: int = 0


class World:
    """Dan works in Olga's organization, with Vera, and has one of his own."""

    def __init__(self, stage: Stage, people: People, policy: str) -> None:
        self.stage = stage
        self.olga = people.create("owner")
        self.here = self.olga.tenant_id
        self.dan, self.vera = people.create("developer", self.here), people.create("viewer", self.here)
        self.there = people.organization()
        people.join(self.dan.user_id, self.there, "owner")
        settings = json.dumps({"erasure_policy": policy})
        self.run(
            "UPDATE app.organizations SET settings = CAST(:s AS jsonb) WHERE tenant_id = :t", s=settings, t=self.here
        )
        shared = self._project(self.here, self.olga)
        self._tasks(self.here, shared, self.olga, 2)
        self.held_tasks = self._tasks(self.here, shared, self.dan, 3)
        self._tasks(self.here, self._project(self.here, self.dan), self.dan, 2)
        self._tasks(self.there, self._project(self.there, self.dan), self.dan, 2)
        self.executions: list[Execution] = []
        self.asked: list[str] = []
        self.certificates: dict[str, Any] = {}
        self.kept: dict[str, list[tuple[str, str]]] = {}  # hold → rows that it keeps
        self.first = self._totals()
        self.hers = self._rows_of(self.olga)

    @property
    def ours(self) -> dict[str, list[str]]:
        """Whom and what the moves of the clock are about."""
        return {"people": [p.user_id for p in (self.olga, self.dan, self.vera)], "tenants": [self.here, self.there]}

    def run(self, sql: str, **values: Any) -> list[list[Any]]:
        return self.stage.run(sql, **values)

    def _project(self, tenant: str, person: Person) -> str:
        sql = "INSERT INTO app.projects (tenant_id, name, created_by) VALUES (:t, :n, :p) RETURNING id::text"
        return str(self.run(sql, t=tenant, n=f"Of {person.user_id}", p=person.user_id)[0][0])

    def _tasks(self, tenant: str, project: str, person: Person, count: int) -> list[str]:
        sql = (
            "INSERT INTO app.tasks (tenant_id, project_id, title, created_by)"
            " SELECT :t, :j, 'Task ' || n, :p FROM generate_series(1, CAST(:c AS integer)) n RETURNING id::text"
        )
        return [str(row[0]) for row in self.run(sql, t=tenant, j=project, p=person.user_id, c=count)]

    # What people do.

    def request(self, scope: str, person: Person) -> Answer:
        """Ask: Dan for himself, Olga for everybody else."""
        by = person if scope == "me" else self.olga
        body = {"scope": scope} | ({"user_id": person.user_id} if scope == "user" else {})
        answer = self.stage.api.post("/v1/deletions", json=body, headers=by)
        assert answer.status_code in {202, 401, 403, 404, 409}, answer.text
        if answer.status_code == 202:
            self.asked.append(answer.json["id"])
        return answer

    def letter(self, person: Person) -> None:
        """Olga enters a request that came by letter."""
        body = {"kind": "deletion", "user_id": person.user_id, "received_at": "2026-11-01T00:00:00Z"}
        answer = self.stage.api.post("/v1/privacy/requests", json=body, headers=self.olga)
        assert answer.status_code in {202, 401, 403, 404, 409, 422}, answer.text
        if answer.status_code == 202:
            self.asked.append(answer.json["id"])

    def approve(self, job: str, policy: str | None) -> None:
        answer = self.stage.api.post(f"/v1/privacy/requests/{job}/approve", json={"policy": policy}, headers=self.olga)
        assert answer.status_code in {200, 202, 401, 403, 404, 409}, answer.text

    def cancel(self, job: str) -> None:
        for person in (self.olga, self.dan):
            answer = self.stage.api.post(f"/v1/deletions/{job}/cancel", headers=person)
            assert answer.status_code in {200, 401, 403, 404, 409}, answer.text

    def hold(self, *, whole: bool) -> None:
        """Olga has Dan's rows kept: all of them here, or one task and what it hangs on."""
        body: dict[str, Any] = {
            "subject_user_id": self.dan.user_id,
            "reason": "a lawsuit",
            "until": "2099-01-01T00:00:00Z",
        }
        if not whole:
            body["resources"] = [{"type": "task", "id": self.held_tasks[0]}]
        answer = self.stage.api.post("/v1/legal-holds", json=body, headers=self.olga)
        assert answer.status_code in {201, 401, 403, 404, 422}, answer.text
        if answer.status_code == 201:
            self.kept[answer.json["id"]] = self._kept(whole)

    def _kept(self, whole: bool) -> list[tuple[str, str]]:
        """The rows that are there now and that the hold keeps."""
        sql = (
            "SELECT 'tasks', t.id::text FROM app.tasks t WHERE t.tenant_id = :t AND t.created_by = :p"
            " AND (:whole OR t.id = :task)"
            " UNION SELECT 'projects', j.id::text FROM app.projects j WHERE j.tenant_id = :t AND"
            " (:whole AND j.created_by = :p OR j.id IN (SELECT x.project_id FROM app.tasks x WHERE x.id = :task))"
        )
        rows = self.run(sql, t=self.here, p=self.dan.user_id, whole=whole, task=self.held_tasks[0])
        return [(str(table), str(id)) for table, id in rows]

    def release(self) -> None:
        """Olga lifts every hold."""
        for (id,) in self.run(
            "SELECT id::text FROM app.legal_holds WHERE tenant_id = :t AND released_at IS NULL", t=self.here
        ):
            answer = self.stage.api.delete(f"/v1/legal-holds/{id}", headers=self.olga)
            assert answer.status_code in {204, 401, 403, 404}, answer.text

    # What machines do.

    def move_clock(self, hours: int) -> None:
        for sql in MOVES:
            self.run(sql, hours=hours, **self.ours)

    def messages(self) -> list[str]:
        """Jobs that a message of the outbox starts, one entry per message."""
        sql = f"""SELECT o.reference::text FROM platform.outbox o JOIN platform.deletions d ON d.job_id = o.reference
                  WHERE o.kind = 'workflow' AND {OURS} ORDER BY o.created_at, o.id"""
        return [str(row[0]) for row in self.run(sql, **self.ours)]

    def deliver(self, job: str) -> Execution:
        """One more execution for a job."""
        self.executions.append(Execution(job))
        return self.executions[-1]

    def advance(self, execution: Execution, calls: int, *, lost: bool = False) -> None:
        """The next calls of an execution; with `lost`, the last one's answer does not arrive."""
        for number in range(calls):
            if not execution.over:
                self._call(execution, lost=lost and number == calls - 1)

    def _call(self, execution: Execution, *, lost: bool) -> None:
        name = CALLS[execution.at]
        answer = self.stage.step("deletions", execution.job, name, execution.id)
        if answer.status_code == 409:
            execution.over = True
            return
        if answer.status_code != 200:
            execution.troubles += 1
            assert execution.troubles < 5, (name, answer.text, self._logged())
            return
        outcome = answer.json["outcome"]
        if lost or outcome == "more":
            return
        if name == "freeze" and outcome != "frozen":
            failed = f"/internal/deletions/{execution.job}/failed"
            self._internal("deletions-jobs", "workflows", failed, {"execution": execution.id, "reason": outcome})
        stops = (name == "claim" and outcome != "claimed") or outcome in {"waiting", "last_owner"}
        execution.over = stops or name == "finish"
        execution.at += 1

    def _logged(self) -> list[str]:
        """What the job service said last about errors."""
        lines = self.stage.layout.path("log", "deletions-jobs.log").read_text().splitlines()
        return [line for line in lines if '"CRITICAL"' in line or '"ERROR"' in line][-2:]

    def requeue(self) -> None:
        """Silent jobs are found, and failed ones."""
        self.run(
            "UPDATE platform.jobs SET heartbeat_at = heartbeat_at - interval '16 minutes' WHERE status = 'running'"
            f" AND id IN (SELECT d.job_id FROM platform.deletions d WHERE {OURS})",
            **self.ours,
        )
        assert self._internal("retention", "scheduler", "/internal/jobs/requeue", {}).status_code == 200

    def _internal(self, service: str, account: str, path: str, body: Any) -> Answer:
        from local.layout import service_account

        url = self.stage.layout.run_url(service)
        token = self.stage.issuer.identity_token(service_account(account), url)
        return self.stage.api.post(url + path, json=body, headers={"Authorization": f"Bearer {token}"})

    def jobs(self) -> dict[str, tuple[str, str | None, str | None, bool]]:
        """Every request of these people and organizations: status, error, refusal, whether it awaits approval."""
        sql = f"""SELECT d.job_id::text, j.status, d.error, d.refused_reason,
                         d.approval_needed AND d.approved_at IS NULL AND d.finished_at IS NULL
                  FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id WHERE {OURS}"""
        return {row[0]: (row[1], row[2], row[3], row[4]) for row in self.run(sql, **self.ours)}

    # What must hold.

    def _totals(self) -> dict[str, int]:
        found = {}
        for table in TABLES:
            sql = f"SELECT count(*) FROM app.{table} WHERE tenant_id = ANY (CAST(:tenants AS uuid[]))"
            found[f"app.{table}"] = int(self.run(sql, tenants=[self.here, self.there])[0][0])
        return found

    def _rows_of(self, person: Person) -> list[Any]:
        sql = (
            "SELECT t::text FROM app.tasks t WHERE t.tenant_id = :t AND t.created_by = :p"
            " UNION ALL SELECT j::text FROM app.projects j WHERE j.tenant_id = :t AND j.created_by = :p ORDER BY 1"
        )
        return self.run(sql, t=self.here, p=person.user_id)

    def check(self) -> None:
        """Nothing doubled, nothing completed falsely, nothing lost that is held, nobody else's touched."""
        self._check_counts()
        self._check_completed()
        self._check_held()
        erased = self.run(
            "SELECT FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id"
            " WHERE d.tenant_id = :t AND d.scope = 'organization' AND d.started_at IS NOT NULL",
            t=self.here,
        )
        assert erased or self._rows_of(self.olga) == self.hers

    def _check_counts(self) -> None:
        """Each row that is gone was counted once, by one request."""
        sql = f"""SELECT c.table_name, sum(c.rows)::bigint FROM platform.deletion_counts c
                  JOIN platform.deletions d ON d.job_id = c.job_id
                  WHERE c.action = 'delete' AND c.table_name LIKE 'app.%' AND {OURS} GROUP BY 1"""
        counted = {table: int(rows) for table, rows in self.run(sql, **self.ours)}
        for table, rows in self._totals().items():
            assert rows + counted.get(table, 0) == self.first[table], (table, rows, counted)

    def _check_completed(self) -> None:
        sql = f"""
        SELECT d.job_id::text, d.certificate::text,
               d.finished_at IS NOT NULL AND NOT EXISTS (
                   SELECT FROM platform.deletion_steps s
                   WHERE s.job_id = d.job_id AND s.status NOT IN ('done', 'skipped')),
               EXISTS (SELECT FROM platform.deletions f WHERE f.follows = d.job_id),
               CASE d.scope
                   WHEN 'me' THEN (SELECT count(*) FROM identity.accounts a WHERE a.id = d.subject_id)
                       + (SELECT count(*) FROM app.members m WHERE m.user_id = d.subject_id)
                       + (SELECT count(*) FROM identity.login_sessions l WHERE l.account_id = d.subject_id)
                   WHEN 'user' THEN
                       (SELECT count(*) FROM app.members m WHERE m.user_id = d.subject_id AND m.tenant_id = d.tenant_id)
                   ELSE (SELECT count(*) FROM app.organizations o WHERE o.tenant_id = d.tenant_id)
                       + (SELECT count(*) FROM app.members m WHERE m.tenant_id = d.tenant_id) END,
               d.parent_id IS NOT NULL, d.mail_to IS NOT NULL OR d.name_to_find IS NOT NULL
        FROM platform.deletions d JOIN platform.jobs j ON j.id = d.job_id WHERE j.status = 'done' AND {OURS}"""
        for job, certificate, through, followed, rows, child, remembered in self.run(sql, **self.ours):
            assert certificate is not None, job
            assert self.certificates.setdefault(job, certificate) == certificate, "another certificate"
            assert through, job
            assert not remembered, "an address is kept after the end"
            assert rows == 0 or followed or child, (job, rows)

    def _check_held(self) -> None:
        """What an active hold keeps is there."""
        active = "SELECT id::text FROM app.legal_holds WHERE tenant_id = :t AND released_at IS NULL AND until > now()"
        for (hold,) in self.run(active, t=self.here):
            for table, id in self.kept.get(hold, []):
                assert self.run(f"SELECT FROM app.{table} WHERE tenant_id = :t AND id = :id", t=self.here, id=id), (
                    table,
                    id,
                )

    def settle(self) -> None:
        """Holds end, what waits is approved or its time comes, machines work again: then every request is over."""
        for _ in range(12):
            self.release()
            self.move_clock(24 * 8)
            self.run("UPDATE app.legal_holds SET until = now() WHERE tenant_id = :t AND until > now()", t=self.here)
            for job, (_, _, _, waits) in self.jobs().items():
                if waits:
                    self.approve(job, None)
            self.requeue()
            for job in self.messages():
                if self.jobs()[job][0] not in ENDS:
                    self.advance(self.deliver(job), 40)
            self.check()
            if all(status in ENDS for status, _, _, _ in self.jobs().values()):
                break
        for job, (status, error, refused, _) in self.jobs().items():
            assert status in {"done", "cancelled"} or error == "last_owner", (job, status, error, refused)
        assert set(self.asked) <= self.jobs().keys(), "a request is lost"
