"""Exports as their callers see them: the person, the workflow, and who looks into the storage afterwards."""

import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import requests

from local.identity import Issuer
from local.layout import PROJECT, REGION, Layout, service_account
from tests.conftest import Answer, Api, Person, database, wait_until

ENDED = ("ready", "failed", "expired", "cancelled")


def a_session(admin: Any, project: str, owner: Person, maker: Person, said: list[Person]) -> str:
    """A session of an organization's project, and an event of each who says something; its id."""
    session = admin.run(
        "INSERT INTO app.sessions (tenant_id, project_id, title, created_by, closes_at, last_seq)"
        " VALUES (:t, :p, 'Climb', :u, now() + interval '1 hour', :n) RETURNING id",
        t=owner.tenant_id,
        p=project,
        u=maker.user_id,
        n=len(said),
    )[0][0]
    for seq, person in enumerate(said, 1):
        admin.run(
            "INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by)"
            " VALUES (:t, :s, :n, 'said', json_build_object('by', CAST(:u AS text)), CAST(:u AS uuid))",
            t=owner.tenant_id,
            s=session,
            n=seq,
            u=person.user_id,
        )
    return str(session)


class Package:
    """A downloaded package."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.archive = zipfile.ZipFile(io.BytesIO(content))

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def text(self, path: str) -> str:
        return self.archive.read(path).decode()

    def rows(self, table: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.text(f"data/{table}.json"))
        return found

    @cached_property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.text("manifest.json"))
        return found


class Exports:
    """What a person does with exports."""

    def __init__(self, api: Api) -> None:
        self.api = api

    def request(self, person: Person, **asked: str) -> str:
        body = {"scope": "me", "format": "json", **asked}
        answer = self.api.post("/v1/exports", json=body, headers=person)
        assert answer.status_code == 202, answer.text
        return str(answer.json["id"])

    def state(self, person: Person, export_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.api.get(f"/v1/exports/{export_id}", headers=person).json
        return found

    def ended(self, person: Person, export_id: str, seconds: float = 30) -> dict[str, Any]:
        def over() -> Any:
            found = self.state(person, export_id)
            return found if found["status"] in ENDED else None

        found: dict[str, Any] = wait_until(over, seconds, "the end of the export")
        return found

    def download(self, person: Person, export_id: str) -> Package:
        answer = self.api.get(f"/v1/exports/{export_id}/download", headers=person)
        assert answer.status_code == 302, answer.text
        return Package(fetch(answer.headers["Location"]).content)

    def package(self, person: Person, **asked: str) -> Package:
        """Ask, wait, download."""
        export_id = self.request(person, **asked)
        assert self.ended(person, export_id)["status"] == "ready"
        return self.download(person, export_id)


def fetch(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, timeout=30)


@pytest.fixture
def exports(api: Api) -> Exports:
    return Exports(api)


class Backstage:
    """What Tasks and Workflows do: start executions and call steps, with their own identities."""

    def __init__(self, stack: dict[str, Any], api: Api, admin: Any) -> None:
        self._api, self._admin = api, admin
        self._layout = Layout.load(Path(stack["path"]).parent / "layout.json")
        self._issuer = Issuer(self._layout.root)
        self._storage = Path(stack["storage_dir"])

    def queued(self, person: Person) -> str:
        """An export that no workflow knows of."""
        job = str(uuid.uuid4())
        self._admin.run("INSERT INTO platform.jobs (id, kind) VALUES (:job, 'export')", job=job)
        self._admin.run(
            "INSERT INTO platform.exports (id, requested_by, subject_account_id, organization_id, scope, format)"
            " VALUES (:job, :person, :person, :tenant, 'me', 'json')",
            job=job,
            person=person.user_id,
            tenant=person.tenant_id,
        )
        self._admin.run(
            "INSERT INTO platform.job_tenants SELECT CAST(:job AS uuid), tenant_id FROM app.members"
            " WHERE user_id = :person",
            job=job,
            person=person.user_id,
        )
        return job

    def step(self, job: str, name: str, execution: str, account: str = "workflows", **body: Any) -> Answer:
        """Call a step of the job service by its run URL."""
        url = self._layout.run_url("exports-jobs")
        token = self._issuer.identity_token(service_account(account), url)
        return self._api.post(
            f"{url}/internal/exports/{job}/{name}",
            json={"execution": execution, **body},
            headers={"Authorization": f"Bearer {token}"},
        )

    def run(self, job: str, execution: str, *, times: int = 1) -> None:
        """Call every step in order, each `times` times."""

        def call(name: str) -> Any:
            for _ in range(times):
                answer = self.step(job, name, execution)
                assert answer.status_code == 200, (name, answer.text)
            return answer.json

        assert call("claim") == {"work": "export"}
        for part in self.step(job, "plan", execution).json["parts"]:
            call(f"parts/{part}")
        call("plan")
        for name in ("assemble", "notify"):
            call(name)
        assert self.step(job, "finish", execution).status_code == 200

    def execute(self, job: str) -> str:
        """Start one more execution of the workflow; its resource name."""
        workflow = f"projects/{PROJECT}/locations/{REGION}/workflows/gdpr_export"
        answer = self._api.post(
            f"{self._layout.url('workflows')}/v1/{workflow}/executions",
            json={"argument": json.dumps({"request_id": job})},
            headers=self._tasks,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json["name"])

    def outcome(self, execution: str) -> dict[str, Any]:
        """The execution once it has ended."""

        def over() -> Any:
            found = self._api.get(f"{self._layout.url('workflows')}/v1/{execution}", headers=self._tasks).json
            return None if found["state"] in ("ACTIVE", "QUEUED") else found

        found: dict[str, Any] = wait_until(over, 60, "the end of the execution")
        return found

    def objects(self, job: str) -> list[str]:
        """The names of what is stored for an export."""
        url = f"{self._layout.url('storage')}/storage/v1/b/{PROJECT}-exports/o?prefix=exports/{job}/"
        return [item["name"] for item in self._listed(url)]

    def generations(self, job: str) -> dict[str, str]:
        """The generation of each object that is stored for an export, by its name."""
        url = f"{self._layout.url('storage')}/storage/v1/b/{PROJECT}-exports/o?prefix=exports/{job}/"
        return {item["name"]: item["generation"] for item in self._listed(url)}

    def _listed(self, url: str) -> list[dict[str, Any]]:
        token = self._issuer.access_token(service_account("tester"))
        answer = self._api.get(url, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json.get("items", [])
        return items

    @property
    def _tasks(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._issuer.access_token(service_account('tasks'))}"}


@pytest.fixture
def backstage(stack: dict[str, Any], api: Api, admin: Any) -> Backstage:
    return Backstage(stack, api, admin)


@pytest.fixture
def standing_still_at(stack: dict[str, Any]) -> Any:
    """`with standing_still_at(table):` the table cannot be read, so that an export stands still in the middle."""

    @contextmanager
    def hold(table: str) -> Iterator[None]:
        with database(stack["postgres"]["admin"]) as connection:
            connection.run("BEGIN")
            connection.run(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
            connection.run("ROLLBACK")

    return hold


@pytest.fixture
def standing_still(standing_still_at: Any) -> Any:
    """`with standing_still():` the same at a table that only a person's own copy draws from."""
    return lambda: standing_still_at("identity.registrations")


@pytest.fixture
def in_the_middle(exports: Exports) -> Any:
    """Wait until some parts are done, but not all."""

    def wait(person: Person, export_id: str) -> None:
        def started() -> Any:
            progress = exports.state(person, export_id)["progress"]
            return 0 < progress["done"] < progress["total"]

        wait_until(started, 20, "the first part")

    return wait
