"""Scope organization: it is scheduled, can be called off, and then goes with everything; people keep their accounts."""

from collections.abc import Callable

import pg8000.native
import pytest

from tests.conftest import Answer, Api, Inbox, People, Person
from tests.deletions.conftest import Backstage, Erasures, count


def ask(api: Api, by: Person, **body: object):
    return api.post("/v1/deletions", json={"scope": "organization", **body}, headers=by)


def due(admin: pg8000.native.Connection, deletion_id: str) -> None:
    """Move the clock: the grace period is over."""
    admin.run("UPDATE platform.deletions SET execute_after = now() WHERE job_id = :id", id=deletion_id)


def test_it_waits_a_week_and_can_be_called_off(
    api: Api, people: People, alice: Person, dan: Person, backstage: Backstage
) -> None:
    answer = ask(api, alice, reason="we close")

    assert answer.status_code == 202
    assert (answer.json["status"], answer.json["subject_user_id"]) == ("scheduled", None)
    assert answer.json["execute_after"][:10] > answer.json["received_at"][:10]
    assert backstage.step(answer.json["id"], "claim", "e").json == {"outcome": "early"}
    assert api.get("/v1/projects", headers=dan).status_code == 200
    again = ask(api, alice)
    assert (again.status_code, again.json["code"]) == (409, "deletion_in_progress")
    other = people.create("owner", alice.tenant_id)
    cancelled = api.post(f"/v1/deletions/{answer.json['id']}/cancel", headers=other)
    assert (cancelled.status_code, cancelled.json["status"]) == (200, "cancelled")


def test_it_goes_with_everything(
    api: Api, alice: Person, dan: Person, mallory: Person, erasures: Erasures, backstage: Backstage,
    admin: pg8000.native.Connection, inbox: Inbox,
) -> None:  # fmt: skip
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=dan).json["id"]
    api.post(f"/v1/projects/{project}/tasks", json={"title": "Climb"}, headers=alice)
    api.post("/v1/projects", json={"name": "Theirs"}, headers=mallory)
    deletion_id = ask(api, alice).json["id"]
    due(admin, deletion_id)

    backstage.run(deletion_id, "e")

    certificate = erasures.ended(deletion_id)
    done = {(entry["table"], entry["action"]): entry["rows"] for entry in certificate["tables"]}
    assert (done["app.organizations", "delete"], done["app.members", "delete"]) == (1, 2)
    assert certificate["scan"]["hits"] == 0
    tables = admin.run("SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname = 'app'")
    assert [name for (name,) in tables if count(admin, name, alice.tenant_id)] == []
    for person in (alice, dan):
        assert api.get("/v1/projects", headers=person).status_code == 401
        assert admin.run("SELECT status FROM identity.accounts WHERE id = :id", id=person.user_id) == [["active"]]
    assert api.get("/v1/projects", headers=mallory).json["items"][0]["name"] == "Theirs"
    message = str(inbox.wait_for(alice.email, "organization has been erased"))
    receipt = message[message.index("receipt=") + 8 :][:43]
    shown = api.get(f"/v1/deletions/{deletion_id}/status", params={"receipt": receipt}).json
    assert (shown["status"], shown["certificate"]) == ("completed", certificate)


def test_frozen_at_once(
    api: Api, alice: Person, dan: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    deletion_id = ask(api, alice).json["id"]
    due(admin, deletion_id)
    for step in ("claim", "plan", "freeze"):
        assert backstage.step(deletion_id, step, "e").status_code == 200

    assert api.get("/v1/projects", headers=dan).json["code"] == "organization_suspended"
    assert backstage.step(deletion_id, "revoke", "e").status_code == 200
    assert api.get("/v1/projects", headers=dan).status_code == 401
    assert api.post(f"/v1/deletions/{deletion_id}/cancel", headers=alice).status_code == 401


@pytest.mark.parametrize("role", ["admin", "developer", "viewer"])
def test_it_needs_the_permission(api: Api, people: People, alice: Person, role: str) -> None:
    for body in ({}, {"user_id": 5}, {"dry_run": True}):
        answer = ask(api, people.create(role, alice.tenant_id), **body)
        assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")


def test_every_owner_is_told(
    api: Api, people: People, alice: Person, dan: Person, inbox: Inbox, drain: Callable[[], Answer]
) -> None:
    other = people.create("owner", alice.tenant_id)
    ask(api, alice)

    for owner in (alice, other):
        assert "called off" in str(inbox.wait_for(owner.email, "asked for", meanwhile=drain))
    assert inbox.messages(dan.email) == []


def test_the_plan_tells_what_stays(api: Api, alice: Person, admin: pg8000.native.Connection) -> None:
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    admin.run(
        "INSERT INTO app.invoices (tenant_id, number, issued_at, total, currency, status, billed_to)"
        " VALUES (:t, 'A1', now(), 100, 'EUR', 'paid', '{}')",
        t=alice.tenant_id,
    )

    plan = {(entry["table"], entry["action"]): entry for entry in ask(api, alice, dry_run=True).json["plan"]}

    assert plan["app.projects", "delete"]["rows"] == 1
    assert plan["app.invoices", "keep"]["rows"] == 1
    assert plan["app.invoices", "keep"]["until"]
    assert count(admin, "app.projects", alice.tenant_id) == 1


def test_who_waits_for_an_approval_there_is_not_lost(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    """With the organization goes everybody who could approve: the part that waits finds nothing left, and ends."""
    api.patch("/v1/organization", json={"settings": {"erasure_policy": "approve"}}, headers=alice)
    hers = erasures.ask(dan)
    deletion_id = ask(api, alice).json["id"]
    due(admin, deletion_id)

    backstage.run(deletion_id, "e")

    erasures.ended(deletion_id)
    assert erasures.ended(hers)["scan"]["hits"] == 0
