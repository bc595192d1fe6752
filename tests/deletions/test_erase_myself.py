"""POST /v1/deletions: the account and everything about it goes, and her tokens are dead at once."""

import uuid
from typing import Any

import pg8000.native

from tests.conftest import PASSWORD, Api, Inbox, People, Person, wait_until
from tests.deletions.conftest import Backstage, Erasures, count


def test_it_works(api: Api, alice: Person, erasures: Erasures, admin: pg8000.native.Connection) -> None:
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    api.post(f"/v1/projects/{project}/tasks", json={"title": "Climb"}, headers=alice)

    answer = api.post("/v1/deletions", json={"scope": "me", "reason": "I move on"}, headers=alice)

    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/deletions/{answer.json['id']}"
    assert answer.json["scope"] == "me"
    assert answer.json["status"] == "scheduled"
    assert answer.json["certificate"] is None
    assert {step["status"] for step in answer.json["steps"]} == {"pending"}
    certificate = erasures.ended(answer.json["id"])
    assert set(erasures.steps(answer.json["id"]).values()) == {"done"}
    assert certificate["scan"]["hits"] == 0
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=alice.user_id)[0][0] == 0
    for table in ("app.organizations", "app.members", "app.projects", "app.tasks", "app.audit_events"):
        assert count(admin, table, alice.tenant_id) == 0


def test_her_tokens_are_dead_at_once(
    api: Api, people: People, alice: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    elsewhere = people.log_in(alice)
    erasures.ask(alice)

    wait_until(lambda: api.get("/v1/projects", headers=alice).status_code == 401, what="the end of her session")
    assert api.get("/v1/projects", headers=elsewhere).status_code == 401


def test_a_frozen_account_is_dead_before_anything_goes(
    api: Api, alice: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    credentials = {"email": alice.email, "password": PASSWORD}
    assert api.post("/v1/auth/login", json=credentials).status_code == 200
    job = backstage.queued(alice)
    for step in ("claim", "plan", "freeze"):
        backstage.step(job, step, "e")

    assert api.get("/v1/projects", headers=alice).status_code == 401
    assert api.post("/v1/auth/login", json=credentials).status_code == 401
    assert count(admin, "app.members", alice.tenant_id) == 1


def test_the_last_mail_brings_the_receipt(
    api: Api, alice: Person, erasures: Erasures, inbox: Inbox, admin: pg8000.native.Connection
) -> None:
    deletion_id = erasures.ask(alice)
    erasures.ended(deletion_id)

    message = inbox.wait_for(alice.email, "erased")
    receipt = receipt_of(message, deletion_id)
    status = api.get(f"/v1/deletions/{deletion_id}/status", params={"receipt": receipt})
    proof = api.get(f"/v1/deletions/{deletion_id}/certificate", params={"receipt": receipt})
    assert (status.status_code, status.json["status"]) == (200, "completed")
    assert proof.json == status.json["certificate"]
    row = admin.run("SELECT mail_to, name_to_find, reason FROM platform.deletions WHERE job_id = :id", id=deletion_id)
    assert row == [[None, None, None]]


def receipt_of(message: dict[str, Any], deletion_id: str) -> str:
    text = str(message)
    start = text.index(f"/deletion#id={deletion_id}")
    return text[start:].split("receipt=")[1][:43]


def test_a_wrong_receipt_shows_nothing(api: Api, alice: Person, erasures: Erasures) -> None:
    deletion_id = erasures.ask(alice)

    for path in ("status", "certificate"):
        for wrong in ("x" * 43, deletion_id):
            answer = api.get(f"/v1/deletions/{deletion_id}/{path}", params={"receipt": wrong})
            assert answer.status_code == 404
    assert api.get(f"/v1/deletions/{deletion_id}/status").status_code == 422
    assert api.get(f"/v1/deletions/{deletion_id}/certificate").status_code == 401


def test_it_needs_a_fresh_proof_of_identity(api: Api, people: People, alice: Person) -> None:
    stale = people.log_in(alice, age_seconds=3600)

    answer = api.post("/v1/deletions", json={"scope": "me"}, headers=stale)

    assert (answer.status_code, answer.json["code"]) == (403, "step_up_required")


def test_a_scope_has_its_fields(api: Api, alice: Person) -> None:
    for body, wrong in (
        ({"scope": "everything"}, "scope"),
        ({"scope": "user"}, "user_id"),
        ({"scope": "me", "user_id": alice.user_id}, "user_id"),
        ({"scope": "user", "user_id": "x"}, "user_id"),
    ):
        answer = api.post("/v1/deletions", json=body, headers=alice)
        assert answer.status_code == 422
        assert list(answer.json["errors"]) == [wrong]


def test_nobody_else_sees_the_request(
    api: Api, people: People, alice: Person, mallory: Person, admin: pg8000.native.Connection
) -> None:
    bob = people.create("owner", alice.tenant_id)
    admin.run("BEGIN")
    deletion_id = str(uuid.uuid4())
    admin.run("INSERT INTO platform.jobs (id, kind) VALUES (:id, 'deletion')", id=deletion_id)
    admin.run(
        "INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at, receipt_hash)"
        " VALUES (:id, :who, 'me', now() + interval '1 day', now() + interval '1 month', '')",
        id=deletion_id,
        who=alice.user_id,
    )
    admin.run("COMMIT")

    assert api.get(f"/v1/deletions/{deletion_id}", headers=alice).status_code == 200
    assert [item["id"] for item in api.get("/v1/deletions", headers=alice).json["items"]] == [deletion_id]
    for other in (bob, mallory):
        assert api.get(f"/v1/deletions/{deletion_id}", headers=other).status_code == 404
        assert api.post(f"/v1/deletions/{deletion_id}/cancel", headers=other).status_code == 404
        assert api.get("/v1/deletions", headers=other).json["items"] == []


def test_asking_twice_is_refused(api: Api, people: People, alice: Person, admin: pg8000.native.Connection) -> None:
    scheduled = str(uuid.uuid4())
    admin.run("INSERT INTO platform.jobs (id, kind) VALUES (:id, 'deletion')", id=scheduled)
    admin.run(
        "INSERT INTO platform.deletions (job_id, subject_id, scope, execute_after, due_at, receipt_hash)"
        " VALUES (:id, :who, 'me', now() + interval '1 day', now() + interval '1 month', '')",
        id=scheduled,
        who=alice.user_id,
    )

    answer = api.post("/v1/deletions", json={"scope": "me"}, headers=alice)

    assert (answer.status_code, answer.json["code"]) == (409, "deletion_in_progress")


def test_the_request_is_audited(api: Api, people: People, admin: pg8000.native.Connection) -> None:
    owner = people.create("owner")
    dan = people.create("developer", owner.tenant_id)

    deletion_id = api.post("/v1/deletions", json={"scope": "me"}, headers=dan).json["id"]

    completed = (
        "SELECT count(*) FROM app.audit_events"
        " WHERE tenant_id = :t AND action = 'deletion.completed' AND resource_id = :id"
    )
    wait_until(lambda: admin.run(completed, t=owner.tenant_id, id=deletion_id) == [[1]], 60, "the end of the erasure")
    jobs = [deletion_id, *(job for (job,) in admin.run(
        "SELECT job_id::text FROM platform.deletions WHERE parent_id = :id", id=deletion_id))]  # fmt: skip
    actions = admin.run(
        "SELECT action FROM app.audit_events"
        " WHERE tenant_id = :id AND (resource_id = ANY (:jobs) OR data ->> 'deletion_id' = ANY (:jobs))",
        id=owner.tenant_id,
        jobs=jobs,
    )
    assert sorted(action for (action,) in actions) == [  # hers, and its part in the organization
        *("deletion.completed", "deletion.completed", "deletion.requested", "deletion.requested"),
        *("member.erased", "personal.erased"),
    ]
