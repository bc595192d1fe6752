"""What tests of incidents share: an officer at work, and events that happened before."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pg8000.native

from tests.conftest import Answer, Api, Person

INCIDENTS = "/v1/privacy/incidents"
HOUR = timedelta(hours=1)


def ago(**amounts: float) -> str:
    """A time before now, as the API takes it."""
    return (datetime.now(UTC) - timedelta(**amounts)).isoformat()


def parsed(text: str) -> datetime:
    """A time of an answer."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


class Officer:
    """Somebody who manages the incidents of her organization."""

    def __init__(self, api: Api, admin: pg8000.native.Connection, person: Person) -> None:
        self._api, self._admin, self.person = api, admin, person

    def call(self, method: str, path: str = "", **options: Any) -> Answer:
        """A request below the address of incidents."""
        return self._api.request(method, f"{INCIDENTS}{path}", headers=self.person, **options)

    def open(self, **body: Any) -> Any:
        """A new incident, detected an hour ago unless the body says more."""
        given = {"title": "Lost laptop", "severity": "P1", "detected_at": ago(hours=1), **body}
        answer = self.call("POST", json=given)
        assert answer.status_code == 201, answer.text
        return answer.json

    def read(self, incident_id: str) -> Any:
        """The incident as it is now."""
        answer = self.call("GET", f"/{incident_id}")
        assert answer.status_code == 200, answer.text
        return answer.json

    def change(self, incident_id: str, **body: Any) -> Answer:
        """Change some fields."""
        return self.call("PATCH", f"/{incident_id}", json=body)

    def tell(self, incident_id: str, recipient: str = "authority", **body: Any) -> Answer:
        """Record a notice."""
        given = {"recipient": recipient, "channel": "portal", **body}
        return self.call("POST", f"/{incident_id}/notices", json=given)

    def scope(self, incident_id: str, **query: Any) -> Any:
        """What the last hour touched, unless the query says more."""
        answer = self.call("GET", f"/{incident_id}/scope", params={"from": ago(hours=1), "to": ago(hours=-1), **query})
        assert answer.status_code == 200, answer.text
        return answer.json

    def keep_scope(self, incident_id: str, **body: Any) -> Any:
        """Make it the incident's."""
        given = {"from": ago(hours=1), "to": ago(hours=-1), **body}
        answer = self.call("POST", f"/{incident_id}/scope", json=given)
        assert answer.status_code == 200, answer.text
        return answer.json

    def events(self) -> list[dict[str, Any]]:
        """The events about incidents in the organization's chain, in order."""
        found = self._admin.run(
            "SELECT to_json(e) FROM app.audit_events e WHERE tenant_id = :t AND resource_type = 'incident'"
            " ORDER BY seq",
            t=self.person.tenant_id,
        )
        return [row[0] for row in found]

    def happened(self, action: str, actor: Person | None, resource: str | None, **more: Any) -> None:
        """Append an event to the organization's chain, as what happened before the officer looked."""
        kind = action.split(".")[0]
        personal = {"ip": more.pop("ip", "192.0.2.1"), "user_agent": "test"}
        outcome = more.pop("outcome", "success")
        self._admin.run("BEGIN")
        self._admin.run(
            "INSERT INTO app.audit_heads (tenant_id, seq, hash) VALUES (:t, 0, repeat('0', 64)) ON CONFLICT DO NOTHING",
            t=self.person.tenant_id,
        )
        self._admin.run(
            "WITH head AS (UPDATE app.audit_heads SET seq = seq + 1 WHERE tenant_id = :t RETURNING seq)"
            " INSERT INTO app.audit_events (tenant_id, seq, at, actor_type, actor_id, action, resource_type,"
            " resource_id, outcome, request_id, data, personal, personal_hash, prev_hash, hash)"
            " SELECT :t, seq, clock_timestamp(), :actor_type, CAST(:actor AS uuid), :action, :kind, :resource,"
            " :outcome, 'test', CAST(:data AS jsonb), CAST(:personal AS jsonb), '', '', '' FROM head",
            t=self.person.tenant_id,
            actor_type="user" if actor else "system",
            actor=actor.user_id if actor else None,
            action=action,
            kind=kind,
            resource=resource,
            outcome=outcome,
            data=json.dumps(more),
            personal=json.dumps(personal),
        )
        self._admin.run("COMMIT")


COMPLETE = {
    "description": "A laptop was stolen from a car.",
    "consequences": "Somebody may read the names.",
    "measures": "The disk is encrypted; its keys were revoked.",
    "contact": "dpo@example.org",
}
