"""Processors are told of an erasure, signed as Standard Webhooks has it, until they take it or are given up."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pg8000.native
import pytest
import yaml
from standardwebhooks.webhooks import Webhook
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from local.identity import Issuer
from local.layout import PROJECT, REGION, Layout, service_account
from local.secrets_store import SecretStore
from tests.conftest import Answer, Api, Person, running_stack, wait_until
from tests.deletions.conftest import Erasures

SIGNED = ("webhook-id", "webhook-timestamp", "webhook-signature")
LONG = 60


class Receiver:
    """The processors' own servers: what came, and what each answers; `crm` and `shop` are paths of one server."""

    def __init__(self) -> None:
        self.came: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: dict[str, int] = {}
        self.server = make_server("127.0.0.1", 0, self._app, threaded=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _app(self, environ: Any, start: Any) -> Any:
        request = Request(environ)
        name = request.path.lstrip("/")
        self.came.append((name, {key.lower(): value for key, value in request.headers.items()}, request.get_data()))
        status = self.answers.get(name, 200)
        headers = {"Location": "/elsewhere"} if status == 302 else {}
        return Response("", status, headers)(environ, start)

    def of(self, name: str, deletion_id: str) -> list[tuple[dict[str, str], bytes]]:
        """What came to one processor about one erasure."""
        return [(headers, body) for to, headers, body in self.came if to == name and deletion_id.encode() in body]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.server.shutdown()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("stack")
    base = f"http://127.0.0.1:{receiver.server.server_port}"
    listed = {name: {"url": f"{base}/{name}", "secret": f"processor-{name}"} for name in ("crm", "shop")}
    (folder / "processors.yaml").write_text(yaml.safe_dump(listed))
    settings = {"PROCESSORS": str(folder / "processors.yaml"), "PROCESSOR_PAUSE_SECONDS": "1"}
    with running_stack(folder, only=["deletions", "deletions-jobs"], **settings, SECRETS_CACHE_SECONDS="0") as running:
        yield running


@pytest.fixture
def layout(stack: dict[str, Any], receiver: Receiver) -> Layout:
    receiver.answers.clear()
    return Layout.load(Path(stack["path"]).parent / "layout.json")


def secret(layout: Layout, name: str) -> str:
    """What we share with a processor."""
    return (SecretStore(layout.path()).latest(f"processor-{name}") or b"").decode()


def drain(api: Api, layout: Layout) -> None:
    """Let Cloud Scheduler look at the outbox now, which else it does every minute."""
    url = f"{layout.url('scheduler')}/v1/projects/{PROJECT}/locations/{REGION}/jobs/outbox-drain:run"
    token = Issuer(layout.root).access_token(service_account("tester"))
    assert api.post(url, json={}, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def ended(api: Api, layout: Layout, erasures: Erasures, deletion_id: str) -> dict[str, Any]:
    """The certificate, with the minutes of the drain made short."""

    def over() -> bool:
        drain(api, layout)
        time.sleep(0.3)
        return erasures.state(deletion_id) == "done"

    wait_until(over, LONG, "the end of the erasure")
    return erasures.ended(deletion_id)


def parked(erasures: Erasures, deletion_id: str) -> None:
    """Wait until the job rests between two tries."""
    wait_until(
        lambda: erasures.state(deletion_id) == "queued" and erasures.steps(deletion_id)["processors"] == "running",
        LONG,
        "a resting job",
    )


def ask(erasures: Erasures, alice: Person, dan: Person) -> str:
    """One job alone: an organization's request about a member."""
    return erasures.ask(alice, scope="user", user_id=dan.user_id)


def told(certificate: dict[str, Any]) -> dict[str, tuple[bool, bool]]:
    """Processor → whether it was told, whether it has acknowledged, as the certificate says."""
    return {
        entry["name"]: (entry["told_at"] is not None, entry["acknowledged_at"] is not None)
        for entry in certificate["processors"]
    }


def test_each_is_told_once_and_can_check_who_says_it(
    alice: Person, erasures: Erasures, receiver: Receiver, layout: Layout, admin: pg8000.native.Connection
) -> None:
    deletion_id = erasures.ask(alice)
    certificate = erasures.ended(deletion_id)

    assert told(certificate) == {"crm": (True, True), "shop": (True, True)}
    for name in ("crm", "shop"):
        [(headers, body)] = receiver.of(name, deletion_id)
        message = Webhook(secret(layout, name)).verify(body, {key: headers[key] for key in SIGNED})
        assert message["type"] == "erasure.requested"
        assert message["data"] == {
            "deletion_id": deletion_id, "scope": "me", "subject_id": alice.user_id, "organization_id": None,
        }  # fmt: skip
        assert datetime.fromisoformat(message["timestamp"]) > datetime.now(UTC) - timedelta(minutes=5)
        assert headers["content-type"] == "application/json"
        assert alice.email.encode() not in body
    [[part]] = admin.run("SELECT job_id::text FROM platform.deletions WHERE parent_id = :id", id=deletion_id)
    [(_, in_organization)] = receiver.of("crm", part)
    assert json.loads(in_organization)["data"] == {
        "deletion_id": part, "scope": "user", "subject_id": alice.user_id, "organization_id": alice.tenant_id,
    }  # fmt: skip
    with pytest.raises(Exception, match=r"[Ss]ignature"):
        Webhook(secret(layout, "crm")).verify(body, {key: headers[key] for key in SIGNED})


def test_one_that_is_away_is_tried_again_and_nobody_is_told_twice(
    api: Api,
    alice: Person,
    dan: Person,
    erasures: Erasures,
    receiver: Receiver,
    layout: Layout,
    admin: pg8000.native.Connection,
) -> None:
    receiver.answers["shop"] = 503
    deletion_id = ask(erasures, alice, dan)
    parked(erasures, deletion_id)
    answer = "SELECT last_error, told_at FROM platform.deletion_processors WHERE job_id = :id AND name = 'shop'"
    assert admin.run(answer, id=deletion_id) == [["status 503", None]]

    def tried_again() -> bool:
        drain(api, layout)
        return len(receiver.of("shop", deletion_id)) > 1

    wait_until(tried_again, LONG, "a second try")  # the pause has grown meanwhile
    receiver.answers["shop"] = 204

    certificate = ended(api, layout, erasures, deletion_id)

    assert told(certificate) == {"crm": (True, True), "shop": (True, True)}
    tries = receiver.of("shop", deletion_id)
    assert len(tries) >= 3
    assert len({headers["webhook-id"] for headers, _ in tries}) == 1
    assert len({body for _, body in tries}) == 1
    assert len(receiver.of("crm", deletion_id)) == 1
    for headers, body in tries:
        Webhook(secret(layout, "shop")).verify(body, {key: headers[key] for key in SIGNED})


def test_a_redirect_is_not_followed(
    api: Api, alice: Person, dan: Person, erasures: Erasures, receiver: Receiver, layout: Layout
) -> None:
    receiver.answers["crm"] = 302
    deletion_id = ask(erasures, alice, dan)
    parked(erasures, deletion_id)
    assert receiver.of("elsewhere", deletion_id) == []
    receiver.answers["crm"] = 200

    assert told(ended(api, layout, erasures, deletion_id))["crm"] == (True, True)


def test_after_three_days_the_erasure_ends_and_says_so(
    api: Api,
    stack: dict[str, Any],
    alice: Person,
    dan: Person,
    erasures: Erasures,
    receiver: Receiver,
    layout: Layout,
    admin: pg8000.native.Connection,
) -> None:
    receiver.answers["crm"] = 500
    deletion_id = ask(erasures, alice, dan)
    parked(erasures, deletion_id)
    admin.run(
        "UPDATE platform.deletion_processors SET created_at = created_at - interval '3 days' WHERE job_id = :id",
        id=deletion_id,
    )

    certificate = ended(api, layout, erasures, deletion_id)

    assert told(certificate) == {"crm": (False, False), "shop": (True, True)}
    written = (Path(stack["path"]).parent / "log" / "deletions-jobs.log").read_text()
    critical = [json.loads(line) for line in written.splitlines() if '"CRITICAL"' in line and deletion_id in line]
    assert [(entry["processor"], entry["job_id"]) for entry in critical] == [("crm", deletion_id)]


def test_both_keys_sign_while_a_secret_changes(
    alice: Person, erasures: Erasures, receiver: Receiver, layout: Layout
) -> None:
    old = secret(layout, "crm")
    new = "whsec_" + "bmV3" * 8
    SecretStore(layout.path()).add("processor-crm", f"{new}\n{old}".encode())

    deletion_id = erasures.ask(alice)
    erasures.ended(deletion_id)

    [(headers, body)] = receiver.of("crm", deletion_id)
    for key in (old, new):
        Webhook(key).verify(body, {name: headers[name] for name in SIGNED})
    SecretStore(layout.path()).add("processor-crm", old.encode())


class Processor:
    """A processor that acknowledges later."""

    def __init__(self, api: Api, key: str) -> None:
        self._api, self._key = api, key

    def acknowledge(
        self, deletion_id: str, *, at: datetime | None = None, said: str | None = None, key: str | None = None
    ) -> Answer:
        """The answer to a signed message."""
        moment = at or datetime.now(UTC)
        data = {"deletion_id": said or deletion_id}
        body = json.dumps({"type": "erasure.acknowledged", "timestamp": datetime.now(UTC).isoformat(), "data": data})
        message_id = f"msg_{uuid.uuid4().hex}"
        signature = Webhook(key or self._key).sign(message_id, moment, body)
        signed = zip(SIGNED, (message_id, str(int(moment.timestamp())), signature), strict=True)
        headers = {**dict(signed), "Content-Type": "application/json"}
        return self._api.post(f"/v1/deletions/{deletion_id}/acknowledgements", data=body, headers=headers)


def test_one_that_needs_time_acknowledges_later(
    api: Api, alice: Person, dan: Person, erasures: Erasures, receiver: Receiver, layout: Layout
) -> None:
    receiver.answers["crm"] = 202
    deletion_id = ask(erasures, alice, dan)
    assert told(erasures.ended(deletion_id)) == {"crm": (True, False), "shop": (True, True)}
    crm = Processor(api, secret(layout, "crm"))

    answer = crm.acknowledge(deletion_id)

    assert answer.status_code == 200, answer.text
    assert answer.json["name"] == "crm"
    shown = api.get(f"/v1/deletions/{deletion_id}", headers=alice).json
    known = {entry["name"]: entry for entry in shown["processors"]}
    assert known["crm"]["acknowledged_at"] == answer.json["acknowledged_at"]
    assert crm.acknowledge(deletion_id).json == answer.json


def test_only_a_processor_that_was_told_may_acknowledge(
    api: Api, alice: Person, erasures: Erasures, receiver: Receiver, layout: Layout, admin: pg8000.native.Connection
) -> None:
    receiver.answers["crm"] = 202
    deletion_id = erasures.ask(alice)
    erasures.ended(deletion_id)
    crm = Processor(api, secret(layout, "crm"))

    refused = [
        crm.acknowledge(deletion_id, key="whsec_" + "Zm9y" * 8),
        crm.acknowledge(deletion_id, at=datetime.now(UTC) - timedelta(minutes=6)),
        crm.acknowledge(deletion_id, at=datetime.now(UTC) + timedelta(minutes=6)),
        api.post(
            f"/v1/deletions/{deletion_id}/acknowledgements",
            json={
                "type": "erasure.acknowledged",
                "timestamp": "2026-01-01T00:00:00Z",
                "data": {"deletion_id": deletion_id},
            },
        ),
    ]
    assert [(answer.status_code, answer.json["code"]) for answer in refused] == [(401, "signature_invalid")] * 4
    other = str(uuid.uuid4())
    assert crm.acknowledge(other).status_code == 404
    assert crm.acknowledge(deletion_id, said=other).status_code == 404
    found = admin.run(
        "SELECT acknowledged_at FROM platform.deletion_processors WHERE job_id = :id AND name = 'crm'", id=deletion_id
    )
    assert found == [[None]]
