"""Clients that come from addresses of their own, the alerts that Pub/Sub brings, and the slot as Google shows it."""

import base64
import json
import socket
import time
import uuid
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from functions.incidents.armor import EMPTY
from local.compute import BASE, POLICY, PRIORITY
from local.envoy_armor import NOBODY
from local.identity import Issuer
from local.layout import HOST, PROJECT, REGION, Layout, service_account
from tests.conftest import Answer, Api, wait_until
from tests.operator.conftest import PLATFORM

RULE = f"{BASE}/securityPolicies/{POLICY}"


class Client(HTTPConnection):
    """Comes from an address: its connection begins with the line of the PROXY protocol."""

    def __init__(self, layout: Layout, address: str) -> None:
        super().__init__(HOST, layout.ports["gateway"], timeout=30)
        self.address = address

    def connect(self) -> None:
        super().connect()
        family, here = ("TCP6", "::1") if ":" in self.address else ("TCP4", HOST)
        assert isinstance(self.sock, socket.socket)
        self.sock.sendall(f"PROXY {family} {self.address} {here} 4711 80\r\n".encode())


class Attack:
    """What the incident automation meets, and what it has done."""

    def __init__(self, stack: dict[str, Any], api: Api, admin: Any) -> None:
        self.layout = Layout.load(Path(stack["path"]).parent / "layout.json")
        self.issuer = Issuer(self.layout.root)
        self.api, self.admin = api, admin

    def ask(
        self, address: str, path: str = "/v1/auth/login", body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """One request from an address: status and document."""
        client = Client(self.layout, address)
        try:
            text = json.dumps(body or {"email": f"{uuid.uuid4().hex}@example.org", "password": "a wrong password"})
            method = "POST" if path.startswith("/v1/auth") else "GET"
            client.request(method, path, text, {"Content-Type": "application/json", **(headers or {})})
            answer = client.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None
        finally:
            client.close()

    def seen(
        self,
        address: str,
        number: int,
        *,
        status: int = 401,
        age: float = 5,
        path: str = "/v1/auth/login",
        details: str = "via_upstream",
    ) -> None:
        """Requests as the load balancer's log has them, `age` seconds ago."""
        moment = (datetime.now(UTC) - timedelta(seconds=age)).isoformat().replace("+00:00", "Z")
        request = {
            "requestMethod": "POST",
            "requestUrl": f"http://localhost{path}",
            "status": status,
            "remoteIp": address,
        }
        line = json.dumps({"time": moment, "httpRequest": request, "statusDetails": details}) + "\n"
        with self.layout.path("log", "load-balancer.log").open("a") as log:
            log.write(line * number)

    def notice(self, id: str, alert: str = "failed_log_ins", state: str = "open", began: int = 0) -> dict[str, Any]:
        """What Monitoring tells of an alert that began so many seconds ago."""
        labels = {"app": "dev-context", "environment": "test", "alert": alert}
        started = int(time.time()) - began
        incident = {"incident_id": id, "state": state, "started_at": started, "policy_user_labels": labels}
        return {"version": "1.2", "incident": incident}

    def tell(self, document: Any, account: str = "alerts", *, patient: bool = True) -> Answer:
        """Bring it as Pub/Sub does."""
        data = document if isinstance(document, str) else base64.b64encode(json.dumps(document).encode()).decode()
        message = {
            "attributes": {},
            "data": data,
            "messageId": "1",
            "message_id": "1",
            "publishTime": "2026-11-23T00:00:00Z",
        }
        body = {"message": message, "subscription": "projects/p/subscriptions/alerts"}
        return self._call("/internal/alerts", account, patient, json=body)

    def raised(self, alert: str = "failed_log_ins") -> tuple[str, Any]:
        """A new alert, and what was answered."""
        id = f"0.{uuid.uuid4().hex}"
        answer = self.tell(self.notice(id, alert))
        assert answer.status_code == 200, answer.text
        return id, answer.json

    def sweep(self, account: str = "scheduler", *, patient: bool = True) -> Answer:
        """What Cloud Scheduler starts every five minutes."""
        return self._call("/internal/blocks/sweep", account, patient)

    def _call(self, path: str, account: str, patient: bool, **options: Any) -> Answer:
        url = self.layout.run_url("incidents")
        token = self.issuer.identity_token(service_account(account), url)

        def taken() -> Answer | None:
            """Cloud Scheduler's own run may be at it: whoever calls comes again."""
            answer = self.api.post(url + path, headers={"Authorization": f"Bearer {token}"}, **options)
            return None if patient and "Another run" in answer.text else answer

        found: Answer = wait_until(taken, 30, "the end of the other run")
        return found

    def evaluate(self) -> dict[str, Any]:
        """Monitoring looks now, not some seconds later."""
        found: dict[str, Any] = self.api.post(self.layout.url("monitoring") + "/evaluate").json
        return found

    def run_job(self, name: str) -> None:
        """Cloud Scheduler starts a job now."""
        url = f"{self.layout.url('scheduler')}/v1/projects/{PROJECT}/locations/{REGION}/jobs/{name}:run"
        assert self.api.post(url, headers=self._person()).status_code == 200

    def rule(self) -> dict[str, Any]:
        """The rule as Google shows it."""
        found: dict[str, Any] = self._compute("GET", "getRule").json
        return found

    def patch(self, **fields: Any) -> None:
        """What a person writes by hand."""
        answer = self._compute("POST", "patchRule", fields)
        assert answer.status_code == 200, answer.text
        url = f"{self.layout.url('compute')}{BASE}/operations/{answer.json['name']}/wait"
        assert self.api.post(url, headers=self._person()).json["status"] == "DONE"

    def write(self, ranges: list[str], description: str = EMPTY) -> None:
        """Ranges into the slot, by hand."""
        match = {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ranges}}
        self.patch(match=match, description=description)

    def ranges(self) -> list[str]:
        """Who is refused."""
        found: list[str] = self.rule()["match"]["config"]["srcIpRanges"]
        return found

    def _compute(self, method: str, name: str, body: Any = None) -> Answer:
        url = f"{self.layout.url('compute')}{RULE}/{name}?priority={PRIORITY}"
        return self.api.request(method, url, json=body, headers=self._person())

    def _person(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.issuer.access_token('engineer@example.org')}"}

    def later(self, seconds: int) -> None:
        """Pretend that every block ends so much sooner."""
        self.admin.run(
            "UPDATE platform.blocks SET ends_at = ends_at - make_interval(secs => :seconds) WHERE lifted_at IS NULL",
            seconds=seconds,
        )

    def alerts(self, id: str) -> dict[str, Any]:
        """An alert's row."""
        found: dict[str, Any] = self.admin.run("SELECT to_json(a) FROM platform.alerts a WHERE id = :id", id=id)[0][0]
        return found

    def events(self, action: str) -> list[dict[str, Any]]:
        """The data of the platform's events of an action, the newest first."""
        rows = self.admin.run(
            "SELECT data FROM app.audit_events WHERE tenant_id = CAST(:platform AS uuid) AND action = :action "
            "ORDER BY seq DESC LIMIT 20",
            platform=PLATFORM,
            action=action,
        )
        return [row[0] for row in rows]

    def reset(self) -> None:
        """No alert, no block, an empty slot: the log forgets, too."""
        self.admin.run("DELETE FROM platform.blocks")
        self.admin.run("DELETE FROM platform.alerts")
        self.layout.path("log", "load-balancer.log").write_bytes(b"")
        match = {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": [NOBODY]}}
        self.patch(action="deny(403)", preview=False, match=match, description=EMPTY)


@pytest.fixture
def attack(stack: dict[str, Any], api: Api, admin: Any) -> Attack:
    made = Attack(stack, api, admin)
    made.reset()
    return made
