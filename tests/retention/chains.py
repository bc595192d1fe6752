"""What tests of anchors and of the retention of events share."""

import json
import uuid
from typing import Any

import pg8000.native

from tests.conftest import Api, Person
from tests.deletions.conftest import Backstage

ANCHOR, RUN = "/internal/audit/anchor", "/internal/retention/run"
PLATFORM = "00000000-0000-4000-8000-000000000001"


class Chains:
    """Runs of the two jobs, and what the database holds of a chain."""

    def __init__(self, api: Api, admin: pg8000.native.Connection, backstage: Backstage) -> None:
        self._api, self._admin, self._backstage = api, admin, backstage

    def write(self, person: Person, number: int) -> None:
        """So many events by a person."""
        for _ in range(number):
            answer = self._api.post("/v1/projects", json={"name": str(uuid.uuid4())}, headers=person)
            assert answer.status_code == 201, answer.text

    def anchor(self) -> dict[str, int]:
        """A run of the anchors' job; its report."""
        return dict(self._run(ANCHOR))

    def retire(self, *, dry_run: bool = False) -> Any:
        """A run of the retention; its report."""
        return self._run(f"{RUN}?dry_run=true" if dry_run else RUN)

    def _run(self, path: str) -> Any:
        answer = self._backstage.call("retention", "scheduler", path)
        assert answer.status_code == 200, answer.text
        return answer.json

    def head(self, tenant_id: str) -> dict[str, Any]:
        """The row of the chain's ends."""
        rows = self._admin.run("SELECT to_json(h) FROM app.audit_heads h WHERE tenant_id = :t", t=tenant_id)
        return dict(rows[0][0])

    def seqs(self, tenant_id: str) -> list[int]:
        """The events that stand, whoever may see them."""
        rows = self._admin.run("SELECT seq FROM app.audit_events WHERE tenant_id = :t ORDER BY seq", t=tenant_id)
        return [row[0] for row in rows]

    def hash(self, tenant_id: str, seq: int) -> str:
        """An event's hash."""
        rows = self._admin.run(
            "SELECT hash FROM app.audit_events WHERE tenant_id = :t AND seq = :s", t=tenant_id, s=seq
        )
        return str(rows[0][0])

    def verdict(self, person: Person) -> dict[str, Any]:
        """What GET /v1/audit-events/verify says."""
        answer = self._api.get("/v1/audit-events/verify", headers=person)
        assert answer.status_code == 200, answer.text
        return dict(answer.json)

    def alarms(self, tenant_id: str) -> list[int]:
        """The seqs that the platform's chain tells of the organization as broken, oldest first."""
        rows = self._admin.run(
            "SELECT data FROM app.audit_events WHERE tenant_id = :p AND action = 'audit.broken'"
            " AND resource_id = :t ORDER BY seq",
            p=PLATFORM,
            t=tenant_id,
        )
        assert {row[0]["organization_id"] for row in rows} <= {tenant_id}
        return [row[0]["seq"] for row in rows]

    def entries(self, tenant_id: str) -> list[tuple[str, int | None]]:
        """Severity and seq of the entries of the service's log that name the organization."""
        lines = self._backstage.layout.path("log", "retention.log").read_text().splitlines()
        found = [json.loads(line) for line in lines if tenant_id in line and line.startswith("{")]
        return [(entry["severity"], entry.get("seq")) for entry in found]
