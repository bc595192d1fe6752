"""The stand-ins of Monitoring, Pub/Sub and Compute Engine, each by what Google promises of it."""

import base64
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from local.compute import BASE, POLICY, PRIORITY, Policy
from local.envoy_armor import NOBODY
from local.identity import Issuer
from local.layout import HOST, Layout, service_account
from local.monitoring import Monitoring
from local.pubsub import TOPIC

PERSON = "engineer@example.org"
EXPR = {"versionedExpr": "SRC_IPS_V1"}


class Function(BaseHTTPRequestHandler):
    """What `incidents` is to Pub/Sub: notes each delivery, and answers what it is told."""

    statuses: list[int]
    seen: list[tuple[str, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.headers["Authorization"].removeprefix("Bearer "), body))
        self.send_response(self.statuses.pop(0) if self.statuses else 204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def function(layout: Layout) -> Iterator[type[Function]]:
    handler: type[Function] = type("Incidents", (Function,), {"statuses": [], "seen": []})
    server = ThreadingHTTPServer((HOST, layout.ports["run:incidents"]), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield handler
    server.shutdown()
    server.server_close()


class Cloud:
    """Requests as an account makes them."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.issuer = layout, Issuer(layout.root)

    def ask(self, method: str, port: str, path: str, account: str = PERSON, body: Any = None) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.issuer.access_token(account)}"}
        return requests.request(method, self.layout.url(port) + path, json=body, headers=headers, timeout=10)

    def rule(self, account: str = PERSON, priority: str = PRIORITY) -> requests.Response:
        return self.ask("GET", "compute", f"{BASE}/securityPolicies/{POLICY}/getRule?priority={priority}", account)

    def patch(self, account: str = PERSON, priority: str = PRIORITY, **fields: Any) -> requests.Response:
        return self.ask(
            "POST", "compute", f"{BASE}/securityPolicies/{POLICY}/patchRule?priority={priority}", account, fields
        )

    def wait(self, operation: requests.Response) -> Any:
        return self.ask("POST", "compute", f"{BASE}/operations/{operation.json()['name']}/wait").json()

    def armor(self) -> str:
        return self.layout.path("gateway", "armor.json").read_text()


@pytest.fixture
def cloud(layout: Layout, start: Any, function: type[Function]) -> Iterator[Cloud]:
    layout.path("log").mkdir()
    with start("local.alerts", layout, "monitoring", "--alerts", "off"):
        yield Cloud(layout)


def test_a_write_is_in_force_when_its_operation_is_done(cloud: Cloud) -> None:
    assert cloud.rule().json()["match"]["config"]["srcIpRanges"] == [NOBODY]

    begun = cloud.patch(match=EXPR | {"config": {"srcIpRanges": ["198.51.100.7/32"]}}, description="Incident 1")

    assert begun.json()["status"] == "RUNNING"
    assert cloud.wait(begun)["status"] == "DONE"
    rule = cloud.rule().json()
    assert (rule["description"], rule["action"]) == ("Incident 1", "deny(403)")
    assert rule["match"]["config"]["srcIpRanges"] == ["198.51.100.7/32"]
    assert '"198.51.100.7"' in cloud.armor()


def test_one_write_at_a_time(cloud: Cloud) -> None:
    first = cloud.patch(description="first")
    second = cloud.patch(description="second")

    assert (second.status_code, "is not ready" in second.text) == (400, True)
    cloud.wait(first)
    assert cloud.patch(description="second").status_code == 200


def test_what_google_refuses(cloud: Cloud) -> None:
    before = cloud.rule().json()
    wrong: list[dict[str, Any]] = [
        {"description": "x" * 65},
        {"match": EXPR | {"config": {"srcIpRanges": [f"198.51.100.{last}/32" for last in range(11)]}}},
        {"match": EXPR | {"config": {"srcIpRanges": []}}},
        {"match": EXPR | {"config": {"srcIpRanges": ["nowhere"]}}},
        {"match": {"config": {"srcIpRanges": [NOBODY]}}},
        {"priority": 7},
        {"unknown": True},
    ]
    for fields in wrong:
        assert cloud.patch(**fields).status_code == 400, fields
    assert cloud.rule().json() == before


def test_only_who_has_the_role(cloud: Cloud) -> None:
    for name in ("auth", "deletions-jobs", "keys", "scheduler", "alerts"):
        assert cloud.rule(service_account(name)).status_code == 403, name
        assert cloud.patch(service_account(name), description="x").status_code == 403, name
    assert cloud.rule(service_account("incidents")).status_code == 200
    assert requests.get(cloud.layout.url("compute") + f"{BASE}/operations/x", timeout=5).status_code == 401
    assert cloud.rule(priority="1000").status_code == cloud.patch(priority="1000", description="x").status_code == 400


def test_the_rule_survives(layout: Layout) -> None:
    Policy(layout).patch({"match": EXPR | {"config": {"srcIpRanges": ["198.51.100.7/32"]}}})
    layout.path("gateway", "armor.json").unlink()

    assert Policy(layout).rule["match"]["config"]["srcIpRanges"] == ["198.51.100.7/32"]
    assert '"198.51.100.7"' in layout.path("gateway", "armor.json").read_text()


def publish(cloud: Cloud, text: bytes, account: str = PERSON) -> requests.Response:
    body = {"messages": [{"data": base64.b64encode(text).decode()}]}
    return cloud.ask("POST", "pubsub", f"/v1/{TOPIC}:publish", account, body)


def test_a_message_comes_with_the_token_of_the_account(cloud: Cloud, function: type[Function], eventually: Any) -> None:
    id = publish(cloud, b"hello").json()["messageIds"][0]

    token, body = eventually(lambda: function.seen and function.seen[0])

    assert cloud.issuer.verify_identity_token(token, cloud.layout.run_url("incidents")) == service_account("alerts")
    message = body["message"]
    assert (message["messageId"], message["message_id"]) == (id, id)
    assert base64.b64decode(message["data"]) == b"hello"
    assert body["subscription"].endswith("/subscriptions/alerts")


def test_it_comes_again_until_it_is_taken(cloud: Cloud, function: type[Function], eventually: Any) -> None:
    """The time between is ten seconds and more: here the clock of the message is set back."""
    function.statuses += [503, 403]
    publish(cloud, b"hello")
    path = cloud.layout.path("pubsub", "messages.db")

    def hurried(number: int) -> bool:
        with sqlite3.connect(path, timeout=10) as connection:
            connection.execute("UPDATE messages SET due = 0")
        connection.close()
        return len(function.seen) >= number

    eventually(lambda: hurried(3))

    assert {body["message"]["messageId"] for _, body in function.seen} == {function.seen[0][1]["message"]["messageId"]}
    with sqlite3.connect(path, timeout=10) as connection:
        eventually(lambda: connection.execute("SELECT count(*) FROM messages").fetchone() == (0,))
    connection.close()


def test_no_service_publishes_alerts(cloud: Cloud) -> None:
    assert publish(cloud, b"x", service_account("incidents")).status_code == 403
    assert (
        cloud.ask("POST", "pubsub", f"/v1/{TOPIC}:publish", body={"messages": [{"data": "no base64"}]}).status_code
        == 400
    )


def write(layout: Layout, number: int, code: str = "invalid_credentials", age: float = 5) -> None:
    moment = (datetime.now(UTC) - timedelta(seconds=age)).isoformat().replace("+00:00", "Z")
    line = json.dumps({"message": "request", "time": moment, "code": code}, separators=(",", ":")) + "\n"
    with layout.path("log", "auth.log").open("a") as log:
        log.write(line * number)


def told(function: type[Function]) -> list[dict[str, Any]]:
    return [json.loads(base64.b64decode(body["message"]["data"])) for _, body in function.seen]


def test_an_alert_reaches_the_function(cloud: Cloud, function: type[Function], eventually: Any) -> None:
    write(cloud.layout, 6)
    url = cloud.layout.url("monitoring")

    (opened,) = requests.post(url + "/evaluate", timeout=10).json()["incidents"]

    assert (opened["alert"], opened["value"], opened["ended"]) == ("failed_log_ins", 6, None)
    eventually(lambda: function.seen)
    (document,) = told(function)
    assert document["version"] == "1.2"
    assert (document["incident"]["incident_id"], document["incident"]["state"]) == (opened["id"], "open")
    assert document["incident"]["policy_user_labels"]["alert"] == "failed_log_ins"
    assert requests.get(url + "/alerts", timeout=10).json()["incidents"] == [opened]


def test_an_incident_opens_and_closes_once(layout: Layout) -> None:
    layout.path("log").mkdir()
    heard: list[dict[str, Any]] = []
    watcher, now = Monitoring(layout, heard.append), time.time()

    def look(later: float = 0) -> list[str]:
        watcher.read()
        watcher.evaluate(now + later)
        return [each["incident"]["state"] for each in heard]

    write(layout, 5)
    assert look() == []
    write(layout, 1)
    assert look() == ["open"]
    assert look() == ["open"]
    watcher = Monitoring(layout, heard.append)  # it was killed
    assert look(10) == ["open"]
    assert look(70) == ["open", "closed"]
    assert look(70) == ["open", "closed"]
    assert len({each["incident"]["incident_id"] for each in heard}) == 1


@pytest.mark.parametrize(("code", "age"), [("not_found", 5), ("invalid_credentials", 70), ("invalid_credentials", 0)])
def test_what_does_not_count(layout: Layout, code: str, age: float) -> None:
    layout.path("log").mkdir()
    heard: list[dict[str, Any]] = []
    watcher = Monitoring(layout, heard.append)
    write(layout, 50, code, age)

    watcher.read()
    watcher.evaluate(time.time())

    assert heard == []
