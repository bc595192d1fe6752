"""People with thousands of rows, their exports and erasures, and whether each came to the one right end."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pg8000.native
import requests
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcTransport

from local.demo import proof
from local.demo.client import RECEIPT, SIGNED_URL, fragment
from local.identity import Issuer
from local.layout import HOST, PROJECT, REGION, Layout, catalog, service_account
from tests.conftest import Api, Inbox, People, Person, database, pid_of, wait_until

END_SECONDS, DRAIN_SECONDS = 90, 5
BACK_SECONDS = 20
PROJECTS, TASKS = 40, 4000
ROWS = """
WITH made AS (
    INSERT INTO app.projects (tenant_id, name, description, created_by)
    SELECT :tenant, 'Project ' || n || ' ‮"<é>', repeat('long text ' || n || ' ', 30), :person
    FROM generate_series(1, CAST(:projects AS integer)) n RETURNING id
), numbered AS (
    SELECT id, row_number() OVER () - 1 AS n FROM made
)
INSERT INTO app.tasks (tenant_id, project_id, title, description, created_by)
SELECT :tenant, numbered.id, 'Task ' || t, repeat(md5(t::text), 8), :person
FROM generate_series(1, CAST(:tasks AS integer)) t
JOIN numbered ON numbered.n = t % CAST(:projects AS integer)
"""
TYPED = """
SELECT id::text, name, description FROM app.projects WHERE tenant_id = :tenant
UNION ALL SELECT id::text, title, description FROM app.tasks WHERE tenant_id = :tenant
"""


def queue_path(queue: str) -> str:
    """The resource name of a queue of Cloud Tasks."""
    return f"projects/{PROJECT}/locations/{REGION}/queues/{queue}"


class Stage:
    """A running stack, the people in it, and the operator behind it. `admin` is replaced after PostgreSQL's end."""

    def __init__(self, stack: dict[str, Any], api: Api, inbox: Inbox) -> None:
        self.stack, self.api, self.inbox = stack, api, inbox
        self.layout = Layout.load(Path(stack["path"]).with_name("layout.json"))
        self.issuer = Issuer(self.layout.root)
        self._admin: pg8000.native.Connection | None = None

    def run(self, sql: str, **values: Any) -> list[list[Any]]:
        """Rows, as the superuser; asked again on a new connection while PostgreSQL is away."""

        def answered() -> list[list[list[Any]]] | None:
            try:
                if self._admin is None:
                    self._admin = database(self.stack["postgres"]["admin"])
                return [self._admin.run(sql, **values)]
            except (pg8000.native.InterfaceError, pg8000.native.DatabaseError, OSError):
                self.close()
                return None

        found: list[list[list[Any]]] = wait_until(answered, BACK_SECONDS, "PostgreSQL")
        return found[0]

    def close(self) -> None:
        """Let go of the connection."""
        if self._admin is not None:
            with suppress(pg8000.native.InterfaceError, OSError):
                self._admin.close()
        self._admin = None

    def person(self, role: str, tenant_id: str | None = None) -> Person:
        """Somebody new, in an organization of their own unless one is given."""
        self.run("SELECT 1")
        assert self._admin
        return People(self.stack, self._admin).create(role, tenant_id)

    def settled(self) -> Person:
        """The owner of an organization with thousands of rows."""
        person = self.person("owner")
        self.run(ROWS, tenant=person.tenant_id, person=person.user_id, projects=PROJECTS, tasks=TASKS)
        return person

    def typed(self, person: Person) -> dict[str, tuple[str, str]]:
        """Everything that a person has written: id → name and text."""
        return {id: (name, text) for id, name, text in self.run(TYPED, tenant=person.tenant_id)}

    def ask(self, kind: str, person: Person) -> str:
        """The id of a new export or erasure: `kind` is exports or deletions."""
        answer = self.api.post(f"/v1/{kind}", json={"scope": "me"}, headers=person)
        assert answer.status_code == 202, answer.text
        return str(answer.json["id"])

    def over(self, job: str) -> str:
        """Wait for the end of a job; its status."""
        sql = "SELECT status FROM platform.jobs WHERE id = :job AND status NOT IN ('queued', 'running')"
        drained = time.monotonic()

        def ended() -> Any:
            nonlocal drained
            if time.monotonic() > drained + DRAIN_SECONDS:  # what a kill left waits no minute
                drained = time.monotonic()
                with suppress(AssertionError, requests.ConnectionError):
                    self.drain()
            return self.run(sql, job=job)

        return str(wait_until(ended, END_SECONDS, f"the end of job {job}")[0][0])

    def kill(self, service: str, number: signal.Signals = signal.SIGKILL) -> float:
        """Kill -9 a service, or end it by another signal; how long until another process of it answers."""
        old, began = pid_of(self.stack, service), time.monotonic()
        os.kill(old, number)
        wait_until(lambda: self._is_back(service, old), BACK_SECONDS + 10, f"another {service}")
        return time.monotonic() - began

    def _is_back(self, service: str, old: int) -> bool:
        if json.loads(Path(self.stack["path"]).read_text())["pids"].get(service, old) == old:
            return False
        port = "smtp" if service == "mail" else f"function:{service}" if service in catalog() else service
        port = "metadata:gateway" if service == "metadata" else port
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.layout.ports[port])) == 0

    def token(self, account: str) -> dict[str, str]:
        """Headers of a service account for Google's APIs."""
        return {"Authorization": f"Bearer {self.issuer.access_token(service_account(account))}"}

    def execute(self, workflow: str, job: str) -> Any:
        """Start one more execution of a workflow for a job, as Cloud Tasks does."""
        argument = json.dumps({"request_id": job})
        return self.api.post(self._executions(workflow), json={"argument": argument}, headers=self.token("tasks"))

    def step(self, kind: str, job: str, name: str, execution: str) -> Any:
        """Call a step of a job service by its run URL, as the workflow does."""
        url = self.layout.run_url(f"{kind}-jobs")
        token = self.issuer.identity_token(service_account("workflows"), url)
        headers = {"Authorization": f"Bearer {token}"}
        return self.api.post(f"{url}/internal/{kind}/{job}/{name}", json={"execution": execution}, headers=headers)

    def queue_again(self, outbox_id: str) -> None:
        """Create the Cloud Task of an outbox row once more, under another name."""
        kind, name, reference = self.run(
            "SELECT kind, name, reference::text FROM platform.outbox WHERE id = :id", id=outbox_id
        )[0]
        account = service_account("tasks")
        headers = {"Content-Type": "application/json"}
        if kind == "mail":
            auth = self.layout.run_url("auth")
            request: dict[str, Any] = {"url": f"{auth}/internal/mails/{outbox_id}", "body": b"{}"}
            request["oidc_token"] = {"service_account_email": account, "audience": auth}
        else:
            body = json.dumps({"argument": json.dumps({"request_id": reference})}).encode()
            request = {"url": self._executions(name), "body": body}
            request["oauth_token"] = {"service_account_email": account}
        task: Any = {"http_request": {**request, "http_method": "POST", "headers": headers}}
        self._tasks().create_task(
            parent=queue_path("mails" if kind == "mail" else "jobs"),
            task=task,
            timeout=10,
        )

    def idle(self, queue: str) -> bool:
        """Whether every task of a queue has been executed."""
        return not list(self._tasks().list_tasks(parent=queue_path(queue), timeout=10))

    @contextmanager
    def paused(self, queue: str) -> Iterator[None]:
        """Nothing of this queue is dispatched inside the block."""
        self._tasks().pause_queue(name=queue_path(queue), timeout=10)
        yield
        self._tasks().resume_queue(name=queue_path(queue), timeout=10)
        wait_until(lambda: self.idle(queue), 20, "the end of the tasks")

    def _tasks(self) -> tasks_v2.CloudTasksClient:
        trusted = grpc.ssl_channel_credentials(self.layout.path("tls", "ca.pem").read_bytes())
        token = grpc.access_token_call_credentials(self.issuer.access_token(service_account("tester")))
        secured = grpc.composite_channel_credentials(trusted, token)
        channel = grpc.secure_channel(f"{HOST}:{self.layout.ports['tasks']}", secured)
        return tasks_v2.CloudTasksClient(transport=CloudTasksGrpcTransport(channel=channel))

    def _executions(self, workflow: str) -> str:
        parent = f"projects/{PROJECT}/locations/{REGION}/workflows/{workflow}"
        return f"{self.layout.url('workflows')}/v1/{parent}/executions"

    def drain(self) -> None:
        """Let Cloud Scheduler start the outbox drain now, which else it does every minute."""
        name = f"projects/{PROJECT}/locations/{REGION}/jobs/outbox-drain:run"
        answer = self.api.post(f"{self.layout.url('scheduler')}/v1/{name}", json={}, headers=self.token("tester"))
        assert answer.status_code == 200, answer.text

    def objects(self, job: str) -> list[str]:
        """The names of what is stored for an export."""
        url = f"{self.layout.url('storage')}/storage/v1/b/{PROJECT}-exports/o?prefix=exports/{job}/"
        answer = self.api.get(url, headers=self.token("tester"))
        assert answer.status_code == 200, answer.text
        return [item["name"] for item in answer.json.get("items", [])]

    def put(self, name: str, content: bytes) -> None:
        """Store an object in the bucket of exports."""
        bucket = f"{self.layout.url('storage')}/upload/storage/v1/b/{PROJECT}-exports"
        url = f"{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        answer = self.api.post(url, data=content, headers=self.token("exports-jobs"))
        assert answer.status_code == 200, answer.text

    def mails(self, person: Person, pattern: Any) -> list[str]:
        """The links of this kind in all mails of a person, newest first; one per mail."""
        return [found[0] for m in self.inbox.messages(person.email) if (found := pattern.findall(m["text"]))]


def check_export(stage: Stage, person: Person, job: str, typed: dict[str, tuple[str, str]], *, mails: int) -> None:
    """Ready, with all that was typed and nothing else, told in one to `mails` mails, once in the chain, no litter."""
    assert stage.over(job) == "done"
    shown = stage.api.get(f"/v1/exports/{job}", headers=person).json
    assert (shown["status"], shown["progress"]["percent"], shown["error"]) == ("ready", 100, None)
    links = stage.mails(person, SIGNED_URL)
    assert 1 <= len(links) <= mails
    answer = stage.api.get(f"/v1/exports/{job}/download", headers=person)
    assert answer.status_code == 302, answer.text
    with requests.Session() as session:
        session.trust_env = False
        content = session.get(answer.headers["Location"], timeout=30).content
        assert all(session.get(link, timeout=30).content == content for link in links)
    package = proof.opened(content)
    assert (shown["size_bytes"], shown["sha256"]) == (len(content), proof.digest(content))
    assert proof.wrong_files(package) == []
    assert proof.written(package) == typed
    assert len(stage.objects(job)) == 1
    chain = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :tenant AND action = 'export.completed'"
    assert stage.run(chain, tenant=person.tenant_id) == [[1]]
    assert stage.api.get("/v1/audit-events/verify", headers=person).json["valid"] is True


def check_erasure(stage: Stage, person: Person, job: str, *, mails: int, tasks: int = TASKS) -> None:
    """Completed, certified with the true figures, told in one to `mails` mails, and nothing of the person is left."""
    assert stage.over(job) == "done"
    links = stage.mails(person, RECEIPT)
    assert 1 <= len(links) <= mails
    receipt = fragment(links[0], "receipt")
    shown = stage.api.get(f"/v1/deletions/{job}/status?receipt={receipt}").json
    assert shown["status"] == "completed"
    assert {step["status"] for step in shown["steps"]} <= {"done", "skipped"}
    certificate = stage.api.get(f"/v1/deletions/{job}/certificate?receipt={receipt}").json
    keys = stage.api.get("/v1/deletions/certificate-keys").json["keys"]
    assert proof.seals(certificate, keys) == (True, True)
    rows = {entry["table"]: entry["rows"] for entry in certificate["tables"] if entry["action"] == "delete"}
    told = [rows.get(name) for name in ("app.projects", "app.tasks", "app.organizations", "identity.accounts")]
    assert told == [PROJECTS, tasks, 1, 1]
    assert certificate["scan"]["hits"] == 0
    for table in ("projects", "tasks", "members", "organizations", "audit_events"):
        left = stage.run(f"SELECT count(*) FROM app.{table} WHERE tenant_id = :tenant", tenant=person.tenant_id)
        assert left == [[0]], table
    assert stage.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=person.user_id) == [[0]]
    assert stage.api.get("/v1/auth/me", headers=person).status_code == 401
