"""Policy approve: the organization's part waits for who may decide; the rest of the person is erased at once."""

import pg8000.native
import pytest

from tests.conftest import Api, People, Person, wait_until
from tests.deletions.conftest import Backstage, Erasures, count
from tests.deletions.test_children import policy


@pytest.fixture
def waiting(api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage) -> tuple[str, str]:
    """Dan's own erasure, which rests, and its part that waits for Alice's organization."""
    policy(api, alice, "approve")
    api.post("/v1/projects", json={"name": "Atlas"}, headers=dan)
    parent = erasures.ask(dan)
    wait_until(lambda: erasures.steps(parent)["children"] == "running", what="the rest")
    wait_until(lambda: erasures.state(parent) == "queued", what="the rest")
    (child,) = backstage.children(parent).values()
    return parent, child


def test_it_waits(
    api: Api, alice: Person, dan: Person, waiting: tuple[str, str], erasures: Erasures, backstage: Backstage,
    admin: pg8000.native.Connection,
) -> None:  # fmt: skip
    parent, child = waiting

    assert admin.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=dan.user_id) == [[0]]
    assert api.get(f"/v1/deletions/{child}", headers=alice).json["status"] == "awaiting_approval"
    shown = api.get("/v1/deletions", params={"status": "awaiting_approval"}, headers=alice).json["items"]
    assert [item["id"] for item in shown] == [child]
    assert backstage.execute(child)["result"] == '"waiting"'
    assert backstage.execute(parent)["result"] == '"waiting"'
    assert count(admin, "app.members", alice.tenant_id) == 2


@pytest.mark.parametrize(("body", "left"), [({}, 1), ({"policy": "keep_pseudonymous"}, 1), ({"policy": "erase"}, 0)])
def test_an_approval_lets_it_begin(
    api: Api, alice: Person, waiting: tuple[str, str], erasures: Erasures, backstage: Backstage,
    admin: pg8000.native.Connection, body: dict[str, str], left: int,
) -> None:  # fmt: skip
    parent, child = waiting

    answer = api.post(f"/v1/privacy/requests/{child}/approve", json=body, headers=alice)
    assert answer.status_code == 200, answer.text
    admin.run("UPDATE platform.outbox SET created_at = now() - interval '1 minute' WHERE reference = :id", id=child)
    backstage.call("retention", "scheduler", "/internal/outbox/drain")

    assert erasures.ended(child)["scan"]["hits"] == 0
    assert erasures.ended(parent)["scan"]["hits"] == 0
    assert count(admin, "app.projects", alice.tenant_id) == left
    assert count(admin, "app.members", alice.tenant_id) == 1
    again = api.post(f"/v1/privacy/requests/{child}/approve", json=body, headers=alice)
    assert (again.status_code, again.json["code"]) == (409, "conflict")


def test_nobody_else_approves(
    api: Api, people: People, alice: Person, vera: Person, mallory: Person, waiting: tuple[str, str]
) -> None:
    _, child = waiting
    for person, status in ((vera, 403), (mallory, 404)):
        assert api.post(f"/v1/privacy/requests/{child}/approve", json={}, headers=person).status_code == status


def test_the_deadline_decides_when_nobody_does(
    waiting: tuple[str, str], alice: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    """Art. 12(3) GDPR: one month. What is not hers alone stays then, with an opaque id."""
    parent, child = waiting
    admin.run("UPDATE platform.deletions SET due_at = now() WHERE job_id = :id", id=child)

    assert backstage.execute(child)["result"] == '"done"'

    erasures.ended(parent)
    assert count(admin, "app.projects", alice.tenant_id) == 1


def test_an_organizations_own_request_waits_too_and_can_be_called_off(
    api: Api, alice: Person, dan: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    policy(api, alice, "approve")
    asked = api.post("/v1/deletions", json={"scope": "user", "user_id": dan.user_id}, headers=alice)

    assert (asked.status_code, asked.json["status"]) == (202, "awaiting_approval")
    admin.run("UPDATE platform.deletions SET due_at = now() WHERE job_id = :id", id=asked.json["id"])
    assert backstage.execute(asked.json["id"])["result"] == '"waiting"'  # a letter may be anybody's: never by itself
    cancelled = api.post(f"/v1/deletions/{asked.json['id']}/cancel", headers=alice)
    assert (cancelled.status_code, cancelled.json["status"]) == (200, "cancelled")
    assert api.get("/v1/projects", headers=dan).status_code == 200


def test_a_sole_member_needs_nobody(
    api: Api, alice: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    policy(api, alice, "approve")
    erasures.erase(alice)
    assert count(admin, "app.organizations", alice.tenant_id) == 0


def test_the_setting_is_one_of_three(api: Api, alice: Person) -> None:
    for wrong in ("burn", 1, None, True):
        answer = api.patch("/v1/organization", json={"settings": {"erasure_policy": wrong}}, headers=alice)
        assert answer.status_code == 422
        assert list(answer.json["errors"]) == ["settings"]
