"""With a grace period an erasure is scheduled, can be called off, and begins only when it is due."""

from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Api, Person, last_audit_event, running_stack
from tests.deletions.conftest import Backstage, Erasures


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    only = ["deletions", "deletions-jobs"]
    with running_stack(tmp_path_factory.mktemp("stack"), only=only, DELETION_GRACE_USER_SECONDS="3600") as running:
        yield running


def test_it_waits(
    api: Api, alice: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    deletion_id = erasures.ask(alice)

    admin.run("UPDATE platform.outbox SET created_at = now() - interval '5 minutes'")
    assert backstage.call("retention", "scheduler", "/internal/outbox/drain").json == {"sent": 0, "waiting": 0}
    assert backstage.call("retention", "scheduler", "/internal/jobs/requeue").json["stuck"] == 0
    assert backstage.step(deletion_id, "claim", "e").json == {"outcome": "early"}
    assert backstage.execute(deletion_id)["result"] == '"early"'
    shown = api.get(f"/v1/deletions/{deletion_id}", headers=alice).json
    assert shown["status"] == "scheduled"
    assert shown["execute_after"] > shown["received_at"]
    again = api.post("/v1/deletions", json={"scope": "me"}, headers=alice)
    assert (again.status_code, again.json["code"]) == (409, "deletion_in_progress")


def test_it_begins_when_it_is_due(
    alice: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    deletion_id = erasures.ask(alice)
    admin.run("UPDATE platform.deletions SET execute_after = now() WHERE job_id = :id", id=deletion_id)
    admin.run(
        "UPDATE platform.outbox SET not_before = now(), created_at = now() - interval '1 minute' WHERE reference = :id",
        id=deletion_id,
    )

    assert backstage.call("retention", "scheduler", "/internal/outbox/drain").json["sent"] == 1
    assert erasures.ended(deletion_id)["scan"]["hits"] == 0


def test_it_can_be_called_off(
    api: Api, alice: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    deletion_id = erasures.ask(alice, reason="in anger")

    answer = api.post(f"/v1/deletions/{deletion_id}/cancel", headers=alice)

    assert (answer.status_code, answer.json["status"]) == (200, "cancelled")
    assert last_audit_event(admin, alice)["action"] == "deletion.cancelled"
    assert backstage.step(deletion_id, "claim", "e").json["outcome"] in {"early", "lost"}
    admin.run("UPDATE platform.deletions SET execute_after = now() WHERE job_id = :id", id=deletion_id)
    assert backstage.step(deletion_id, "claim", "e").json == {"outcome": "lost"}
    kept = admin.run("SELECT mail_to, name_to_find, reason FROM platform.deletions WHERE job_id = :id", id=deletion_id)
    assert kept == [[None, None, None]]
    assert api.post(f"/v1/deletions/{deletion_id}/cancel", headers=alice).status_code == 409
    assert api.post("/v1/deletions", json={"scope": "me"}, headers=alice).status_code == 202


def test_too_late_to_call_off(api: Api, alice: Person, erasures: Erasures, backstage: Backstage) -> None:
    job = backstage.queued(alice)
    backstage.step(job, "claim", "e")

    answer = api.post(f"/v1/deletions/{job}/cancel", headers=alice)

    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    assert erasures.state(job) == "running"
