"""What tests of the privacy desk share: requests in every state, and Cloud Scheduler's part."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Answer, Api, Person
from tests.deletions.conftest import Backstage

REQUESTS = "/v1/privacy/requests"
REMIND, REQUEUE, DRAIN = "/internal/privacy/remind", "/internal/jobs/requeue", "/internal/outbox/drain"
FAR = timedelta(days=20)


@pytest.fixture
def backstage(stack: dict[str, Any], api: Api, admin: pg8000.native.Connection) -> Backstage:
    return Backstage(stack, api, admin)


class Desk:
    """The data-protection officer at work, and requests that are there already, whose jobs nobody runs."""

    def __init__(self, api: Api, admin: pg8000.native.Connection, backstage: Backstage) -> None:
        self._api, self._admin, self._backstage = api, admin, backstage

    def export(self, person: Person, scope: str = "user", *, due: timedelta = FAR, **columns: Any) -> str:
        """An export about a person in her organization that waits for its job; `due` counts from now."""
        new = str(uuid.uuid4())
        self._job(new, "export", person, columns)
        row = {
            "id": new,
            "requested_by": person.user_id,
            "subject_account_id": None if scope == "organization" else person.user_id,
            "organization_id": person.tenant_id,
            "scope": scope,
            "format": "json",
            "due_at": datetime.now(UTC) + due,
            **columns,
        }
        self._insert("platform.exports", row)
        return new

    def erasure(self, person: Person, scope: str = "user", *, due: timedelta = FAR, **columns: Any) -> str:
        """An erasure of a person in her organization, likewise."""
        new = str(uuid.uuid4())
        self._job(new, "deletion", person, columns)
        row = {
            "job_id": new,
            "requested_by": person.user_id,
            "subject_id": None if scope == "organization" else person.user_id,
            "tenant_id": None if scope == "me" else person.tenant_id,
            "scope": scope,
            "execute_after": datetime.now(UTC),
            "due_at": datetime.now(UTC) + due,
            "receipt_hash": b"",
            **columns,
        }
        self._insert("platform.deletions", row)
        return new

    def _job(self, new: str, kind: str, person: Person, columns: dict[str, Any]) -> None:
        job = {name: columns.pop(name) for name in list(columns) if name in {"job_status", "heartbeat_at"}}
        job["status"] = job.pop("job_status", "queued")
        self._insert("platform.jobs", {"id": new, "kind": kind, **job})
        self._insert("platform.job_tenants", {"job_id": new, "tenant_id": person.tenant_id})

    def _insert(self, table: str, row: dict[str, Any]) -> None:
        names = ", ".join(row)
        values = ", ".join(f":{name}" for name in row)
        self._admin.run(f"INSERT INTO {table} ({names}) VALUES ({values})", **row)

    def letter(self, officer: Person, about: Person, kind: str = "export", **body: Any) -> Answer:
        """Take down a letter that arrived yesterday, unless the body says more."""
        arrived = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        given = {"kind": kind, "user_id": about.user_id, "received_at": arrived, **body}
        return self._api.post(REQUESTS, json=given, headers=officer)

    def read(self, officer: Person, request_id: str) -> Any:
        """A request as the officer sees it."""
        answer = self._api.get(f"{REQUESTS}/{request_id}", headers=officer)
        assert answer.status_code == 200, answer.text
        return answer.json

    def queue(self, officer: Person, **query: Any) -> list[str]:
        """The ids of the queue, in order."""
        answer = self._api.get(REQUESTS, params=query, headers=officer)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json["items"]]

    def remind(self) -> Any:
        """What one run of the reminders has written."""
        return self._backstage.call("retention", "scheduler", REMIND).json

    def requeue(self) -> Any:
        """What one run of the rescue has started anew."""
        return self._backstage.call("retention", "scheduler", REQUEUE).json

    def drain(self) -> None:
        """Send what waits in the outbox now."""
        self._admin.run("UPDATE platform.outbox SET created_at = now() - interval '1 minute' WHERE sent_at IS NULL")
        assert self._backstage.call("retention", "scheduler", DRAIN).status_code == 200


@pytest.fixture
def desk(api: Api, admin: pg8000.native.Connection, backstage: Backstage) -> Desk:
    return Desk(api, admin, backstage)


def due_at(admin: pg8000.native.Connection, request_id: str) -> datetime:
    """When a request of either kind is due."""
    found = admin.run(
        "SELECT due_at FROM platform.exports WHERE id = :id UNION ALL"
        " SELECT due_at FROM platform.deletions WHERE job_id = :id",
        id=request_id,
    )
    moment: datetime = found[0][0]
    return moment
