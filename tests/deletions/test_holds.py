"""Legal holds: what is held stays with what it hangs on, and is listed; all else goes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Answer, Api, Inbox, People, Person, last_audit_event
from tests.deletions.conftest import Backstage, Erasures, count

SECRET = "the lawsuit of Smith against Jones"  # pragma: allowlist secret


def place(api: Api, by: Person, about: str, *resources: tuple[str, str], seconds: float = 86_400) -> Answer:
    until = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    body: dict[str, Any] = {"subject_user_id": about, "reason": SECRET, "until": until}
    if resources:
        body["resources"] = [{"type": kind, "id": key} for kind, key in resources]
    return api.post("/v1/legal-holds", json=body, headers=by)


def content(api: Api, person: Person) -> tuple[str, str, str]:
    """A project with two tasks; their ids."""
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=person).json["id"]
    made = [
        api.post(f"/v1/projects/{project}/tasks", json={"title": title}, headers=person).json["id"] for title in "ab"
    ]
    return project, made[0], made[1]


def held(shown: dict[str, Any]) -> dict[str, int]:
    """Table → rows that a legal hold keeps."""
    return {entry["table"]: entry["rows"] for entry in shown["retained"] if "legal hold" in entry["ground"]}


def test_the_list(api: Api, people: People, alice: Person, dan: Person, vera: Person, mallory: Person) -> None:
    _, task, _ = content(api, dan)
    first, second = place(api, alice, dan.user_id), place(api, alice, vera.user_id, ("task", task))

    assert first.status_code == second.status_code == 201
    assert first.headers["Location"] == f"/v1/legal-holds/{first.json['id']}"
    assert (first.json["status"], first.json["resources"], first.json["created_by"]) == ("active", None, alice.user_id)
    assert second.json["resources"] == [{"type": "task", "id": task}]
    items = api.get("/v1/legal-holds", headers=alice).json["items"]
    assert [item["id"] for item in items] == [second.json["id"], first.json["id"]]
    of_dan = api.get("/v1/legal-holds", params={"subject_user_id": dan.user_id, "status": "active"}, headers=alice)
    assert [item["id"] for item in of_dan.json["items"]] == [first.json["id"]]
    page = api.get("/v1/legal-holds", params={"limit": 1}, headers=alice)
    rest = api.get("/v1/legal-holds", params={"limit": 1, "cursor": page.json["next_cursor"]}, headers=alice)
    assert [item["id"] for item in rest.json["items"]] == [first.json["id"]]
    assert api.get("/v1/legal-holds", headers=mallory).json["items"] == []
    assert api.get("/v1/legal-holds", headers=vera).status_code == 403
    assert place(api, vera, dan.user_id).status_code == 403
    stale = people.log_in(alice, age_seconds=3600)
    assert place(api, stale, dan.user_id).json["code"] == "step_up_required"


def test_it_is_recorded_and_lifted(
    api: Api, alice: Person, dan: Person, mallory: Person, admin: pg8000.native.Connection
) -> None:
    hold = place(api, alice, dan.user_id).json
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_id"]) == ("legal_hold.placed", hold["id"])
    assert SECRET not in str(event)

    path = f"/v1/legal-holds/{hold['id']}"
    assert api.delete(path, headers=mallory).status_code == 404
    assert api.delete(path, headers={**alice, "If-Match": '"7"'}).status_code == 412
    for _ in range(2):
        assert api.delete(path, headers=alice).status_code == 204
    assert last_audit_event(admin, alice)["action"] == "legal_hold.released"
    assert api.get("/v1/legal-holds", headers=alice).json["items"][0]["status"] == "released"


@pytest.mark.parametrize("wrong", ["person", "task", "time", "far", "reason", "kind"])
def test_what_is_not_there_is_not_held(api: Api, alice: Person, dan: Person, mallory: Person, wrong: str) -> None:
    _, theirs, _ = content(api, mallory)
    answer = {
        "person": lambda: place(api, alice, mallory.user_id),
        "task": lambda: place(api, alice, dan.user_id, ("task", theirs)),
        "time": lambda: place(api, alice, dan.user_id, seconds=-1),
        "far": lambda: place(api, alice, dan.user_id, seconds=101 * 366 * 86_400),
        "reason": lambda: api.post("/v1/legal-holds", json={"subject_user_id": dan.user_id}, headers=alice),
        "kind": lambda: place(api, alice, dan.user_id, ("member", theirs)),
    }[wrong]()
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")


def test_wholly_held_is_refused(
    api: Api,
    alice: Person,
    dan: Person,
    inbox: Inbox,
    admin: pg8000.native.Connection,
    drain: Callable[[], Answer],
) -> None:
    content(api, dan)
    place(api, alice, dan.user_id)

    for person, body in ((dan, {"scope": "me"}), (alice, {"scope": "user", "user_id": dan.user_id})):
        rehearsed = api.post("/v1/deletions", json={**body, "dry_run": True}, headers=person)
        assert (rehearsed.status_code, rehearsed.json["code"]) == (409, "legal_hold")
        answer = api.post("/v1/deletions", json=body, headers=person)
        assert (answer.status_code, answer.json["code"]) == (409, "legal_hold")
        shown = api.get(f"/v1/deletions/{answer.json['deletion_id']}", headers=person).json
        assert shown["status"] == "refused"
        assert "legal hold" in shown["refusal"]["reason"]
        assert "supervisory authority" in shown["refusal"]["rights"]
        assert SECRET not in str(shown) + answer.text
        assert last_audit_event(admin, alice, "deletion.refused")["outcome"] == "denied"
    assert api.get("/v1/projects", headers=dan).status_code == 200
    message = str(inbox.wait_for(dan.email, "refused", meanwhile=drain))
    assert "supervisory authority" in message
    assert SECRET not in message


def test_named_rows_stay_with_what_they_hang_on(
    api: Api, alice: Person, dan: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    api.patch("/v1/organization", json={"settings": {"erasure_policy": "erase"}}, headers=alice)
    project, task, other = content(api, dan)
    place(api, alice, dan.user_id, ("task", task))
    body = {"scope": "user", "user_id": dan.user_id}
    plan = api.post("/v1/deletions", json={**body, "dry_run": True}, headers=alice).json["plan"]

    deletion_id = api.post("/v1/deletions", json=body, headers=alice).json["id"]
    certificate = erasures.ended(deletion_id)

    assert api.get(f"/v1/tasks/{task}", headers=alice).status_code == 200
    assert api.get(f"/v1/projects/{project}", headers=alice).status_code == 200
    assert api.get(f"/v1/tasks/{other}", headers=alice).status_code == 404
    assert held(certificate) == {"app.tasks": 1, "app.projects": 1, "app.members": 1, "app.legal_holds": 1}
    assert {entry["table"]: entry["rows"] for entry in plan if "legal hold" in str(entry["ground"])} == held(
        certificate
    )
    assert {(e["table"], e["rows"]) for e in certificate["tables"] if e["table"] == "app.tasks"} == {("app.tasks", 1)}
    assert SECRET not in str(certificate)
    assert api.get("/v1/projects", headers=dan).status_code == 401  # she is kept as a record, not as a member
    shown = api.get(f"/v1/deletions/{deletion_id}", headers=alice).json
    assert held(shown) == held(certificate)
    follow_up = api.get(f"/v1/deletions/{shown['followed_by']}", headers=alice).json
    assert (follow_up["status"], follow_up["follows"]) == ("scheduled", deletion_id)
    assert api.post(f"/v1/deletions/{follow_up['id']}/cancel", headers=alice).status_code == 409


def test_a_hold_in_one_of_her_organizations(
    api: Api, people: People, alice: Person, dan: Person, mallory: Person, erasures: Erasures, backstage: Backstage,
    admin: pg8000.native.Connection,
) -> None:  # fmt: skip
    people.join(dan.user_id, mallory.tenant_id, "developer")
    content(api, dan)
    place(api, alice, dan.user_id)

    deletion_id = erasures.ask(dan)
    certificate = erasures.ended(deletion_id)

    parts = backstage.children(deletion_id)
    assert api.get(f"/v1/deletions/{parts[alice.tenant_id]}", headers=alice).json["status"] == "refused"
    assert erasures.state(parts[mallory.tenant_id]) == "done"
    assert held(certificate)["identity.accounts"] == 1
    assert held(certificate)["app.members"] == 1
    assert admin.run("SELECT status FROM identity.accounts WHERE id = :id", id=dan.user_id) == [["frozen"]]
    assert (count(admin, "app.members", alice.tenant_id), count(admin, "app.members", mallory.tenant_id)) == (2, 1)
    assert admin.run("SELECT count(*) FROM identity.login_sessions WHERE account_id = :id", id=dan.user_id) == [[0]]
    assert api.get("/v1/projects", headers=dan).status_code == 401


def test_an_organization_with_somebody_held(
    api: Api, alice: Person, dan: Person, vera: Person, erasures: Erasures, backstage: Backstage,
    admin: pg8000.native.Connection,
) -> None:  # fmt: skip
    _, task, _ = content(api, dan)
    place(api, alice, dan.user_id, ("task", task))
    deletion_id = api.post("/v1/deletions", json={"scope": "organization"}, headers=alice).json["id"]
    admin.run("UPDATE platform.deletions SET execute_after = now() WHERE job_id = :id", id=deletion_id)

    backstage.run(deletion_id, "e")

    certificate = erasures.ended(deletion_id)
    found = held(certificate)
    assert (found["app.organizations"], found["app.members"], found["app.projects"], found["app.tasks"]) == (1, 1, 1, 1)
    assert [count(admin, f"app.{name}", alice.tenant_id) for name in ("members", "tasks", "projects")] == [1, 1, 1]
    suspended = admin.run(
        "SELECT suspended_at IS NOT NULL FROM app.organizations WHERE tenant_id = :t", t=alice.tenant_id
    )
    assert suspended == [[True]]


@pytest.mark.parametrize("moment", ["scheduled", "claimed", "frozen"])
def test_a_hold_that_comes_while_it_runs(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, moment: str,
    admin: pg8000.native.Connection,
) -> None:  # fmt: skip
    api.patch("/v1/organization", json={"settings": {"erasure_policy": "erase"}}, headers=alice)
    content(api, dan)
    job = backstage.queued(dan, "user")
    admin.run("UPDATE platform.deletions SET policy = 'erase' WHERE job_id = :id", id=job)
    steps = {"scheduled": (), "claimed": ("claim",), "frozen": ("claim", "plan", "freeze", "revoke")}[moment]
    for step in steps:
        assert backstage.step(job, step, "e").status_code == 200

    assert place(api, alice, dan.user_id).status_code == 201

    if moment == "scheduled":
        assert backstage.execute(job)["result"] == '"refused"'
        assert api.get(f"/v1/deletions/{job}", headers=alice).json["status"] == "refused"
    else:
        backstage.run(job, "e")
        assert held(erasures.ended(job))["app.tasks"] == 2
    assert [count(admin, f"app.{name}", alice.tenant_id) for name in ("members", "tasks", "projects")] == [2, 2, 1]
