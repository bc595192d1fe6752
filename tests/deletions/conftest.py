"""What tests of erasure share: ask for one, wait for its end, read its certificate."""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import pg8000.native
import pytest

from common.audit import Verifier
from functions.deletions.plan import STEPS
from local.identity import Issuer
from local.layout import PROJECT, REGION, Layout, service_account
from tests.conftest import Answer, Api, Person, wait_until


class Erasures:
    """Erasures as a person sees them; and, when her account is gone, as an operator sees them."""

    def __init__(self, api: Api, admin: pg8000.native.Connection) -> None:
        self._api, self._admin = api, admin

    def ask(self, person: Person, **body: Any) -> str:
        """The id of a new request."""
        answer = self._api.post("/v1/deletions", json={"scope": "me", **body}, headers=person)
        assert answer.status_code == 202, answer.text
        return str(answer.json["id"])

    def state(self, deletion_id: str) -> str:
        """The state of the job behind it."""
        rows = self._admin.run("SELECT status FROM platform.jobs WHERE id = :id", id=deletion_id)
        return str(rows[0][0])

    def ended(self, deletion_id: str, state: str = "done", seconds: float = 60) -> dict[str, Any]:
        """Wait for the end; the certificate, if there is one."""
        wait_until(
            lambda: self.state(deletion_id) in {"done", "failed", "cancelled"}, seconds, f"erasure {deletion_id}"
        )
        assert self.state(deletion_id) == state, self.steps(deletion_id)
        found = self._admin.run("SELECT certificate FROM platform.deletions WHERE job_id = :id", id=deletion_id)[0][0]
        certificate: dict[str, Any] = found if not isinstance(found, str) else json.loads(found)
        return certificate

    def erase(self, person: Person) -> dict[str, Any]:
        """Ask and wait; the certificate."""
        return self.ended(self.ask(person))

    def steps(self, deletion_id: str) -> dict[str, str]:
        """Step → status."""
        rows = self._admin.run(
            "SELECT name, status FROM platform.deletion_steps WHERE job_id = :id ORDER BY position", id=deletion_id
        )
        return dict(rows)


@pytest.fixture
def erasures(api: Api, admin: pg8000.native.Connection) -> Erasures:
    return Erasures(api, admin)


class Backstage:
    """What Tasks, Workflows and Scheduler do: start executions and call steps, with their own identities."""

    def __init__(self, stack: dict[str, Any], api: Api, admin: pg8000.native.Connection) -> None:
        self._api, self._admin = api, admin
        self.layout = Layout.load(Path(stack["path"]).parent / "layout.json")
        self._issuer = Issuer(self.layout.root)

    def queued(self, person: Person, scope: str = "me") -> str:
        """A due request that no workflow knows of; of scope user, in the person's organization."""
        job = str(uuid.uuid4())
        self._admin.run(
            "SELECT platform.schedule_deletion(:job, :scope, CAST(:person AS uuid), CAST(:tenant AS uuid), now())",
            job=job,
            scope=scope,
            person=None if scope == "organization" else person.user_id,
            tenant=None if scope == "me" else person.tenant_id,
        )
        self._admin.run(
            "UPDATE platform.deletions SET receipt_hash = :receipt, requested_by = :person WHERE job_id = :job",
            job=job,
            receipt=hashlib.sha256(self.receipt(job).encode()).digest(),
            person=person.user_id,
        )
        return job

    def receipt(self, job: str) -> str:
        """The receipt that the product makes for a request."""
        import base64
        import hmac

        ring = json.loads(self.layout.path("secrets", "mail-key", "latest").read_text())
        key = base64.urlsafe_b64decode(ring["keys"][ring["active"]]["key"] + "==")
        digest = hmac.digest(key, f"deletion_receipt\x1f{job}".encode(), "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def call(self, service: str, account: str, path: str, body: Any = None) -> Answer:
        """Call an internal route by the service's run URL."""
        url = self.layout.run_url(service)
        token = self._issuer.identity_token(service_account(account), url)
        return self._api.post(url + path, json=body, headers={"Authorization": f"Bearer {token}"})

    def step(self, job: str, name: str, execution: str, **body: Any) -> Answer:
        """Call a step of the job service."""
        path = f"/internal/deletions/{job}/{name}"
        return self.call("deletions-jobs", "workflows", path, {"execution": execution, **body})

    def run(self, job: str, execution: str, *, times: int = 1) -> None:
        """Call every step in order, each `times` times, the children's too, until the job is over."""
        for name in ("claim", *STEPS, "finish"):
            for _ in range(times if name != "finish" else 1):
                answer = self.step(job, name, execution)
                assert answer.status_code == 200, (name, answer.text)
                if answer.json["outcome"] == "waiting":  # its last child starts it anew
                    self.over(job)
                    return

    def run_until_it_rests(self, job: str) -> None:
        """Call the steps of a person's own erasure up to the wait for its parts."""
        for name in ("claim", *STEPS[: STEPS.index("children") + 1]):
            answer = self.step(job, name, "e")
            assert answer.status_code == 200, (name, answer.text)
        assert answer.json == {"outcome": "waiting"}

    def over(self, job: str) -> None:
        """Wait for the end of a job that somebody else runs."""

        def ended() -> bool:
            return self._admin.run("SELECT status FROM platform.jobs WHERE id = :id", id=job)[0][0] in (
                "done",
                "failed",
            )

        wait_until(ended, 60, f"the end of {job}")

    def children(self, job: str) -> dict[str, str]:
        """Organization → the job that does a person's part there."""
        rows = self._admin.run(
            "SELECT tenant_id::text, job_id::text FROM platform.deletions WHERE parent_id = :id", id=job
        )
        return dict(rows)

    def execute(self, job: str) -> dict[str, Any]:
        """Start one more execution of the workflow and wait for its end."""
        workflow = f"projects/{PROJECT}/locations/{REGION}/workflows/gdpr_erasure"
        base = f"{self.layout.url('workflows')}/v1"
        headers = {"Authorization": f"Bearer {self._issuer.access_token(service_account('tasks'))}"}
        argument = json.dumps({"request_id": job})
        name = self._api.post(f"{base}/{workflow}/executions", json={"argument": argument}, headers=headers).json[
            "name"
        ]

        def over() -> Any:
            found = self._api.get(f"{base}/{name}", headers=headers).json
            return None if found["state"] in ("ACTIVE", "QUEUED") else found

        found: dict[str, Any] = wait_until(over, 60, "the end of the execution")
        return found


@pytest.fixture
def backstage(stack: dict[str, Any], api: Api, admin: pg8000.native.Connection) -> Backstage:
    return Backstage(stack, api, admin)


def chain(admin: pg8000.native.Connection, tenant_id: str) -> Verifier:
    """The organization's audit chain, verified."""
    verifier = Verifier()
    for (event,) in admin.run(
        "SELECT app.audit_event_json(e) FROM app.audit_events e WHERE tenant_id = :id ORDER BY seq", id=tenant_id
    ):
        verifier.take(event)
    return verifier


def count(admin: pg8000.native.Connection, table: str, tenant_id: str) -> int:
    """Rows of an organization in one of its tables."""
    return int(admin.run(f"SELECT count(*) FROM {table} WHERE tenant_id = :id", id=tenant_id)[0][0])
