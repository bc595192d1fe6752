"""Scope user: an organization has what it holds about a member erased; the account, and the rest of the world, stay."""

from collections.abc import Callable

import pg8000.native
import pytest

from tests.conftest import Answer, Api, Inbox, People, Person, last_audit_event, wait_until
from tests.deletions.conftest import Erasures, chain


def ask(api: Api, by: Person, about: str, **body: object):
    return api.post("/v1/deletions", json={"scope": "user", "user_id": about, **body}, headers=by)


def test_it_works(
    api: Api, people: People, alice: Person, dan: Person, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    own = people.organization()
    people.join(dan.user_id, own, "owner")
    elsewhere = people.log_in(dan, tenant_id=own)
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=dan).json["id"]
    api.post("/v1/projects", json={"name": "Private"}, headers=elsewhere)

    answer = ask(api, alice, dan.user_id, reason="left us")

    assert answer.status_code == 202
    assert (answer.json["scope"], answer.json["subject_user_id"]) == ("user", dan.user_id)
    assert last_audit_event(admin, alice, "deletion.requested")["resource_id"] == answer.json["id"]
    certificate = erasures.ended(answer.json["id"])
    assert {(e["table"], e["action"]): e["rows"] for e in certificate["tables"]}["app.members", "delete"] == 1
    assert api.get(f"/v1/projects/{project}", headers=alice).json["created_by"] == dan.user_id
    assert [m["user_id"] for m in api.get("/v1/members", headers=alice).json["items"]] == [alice.user_id]
    assert admin.run("SELECT status FROM identity.accounts WHERE id = :id", id=dan.user_id) == [["active"]]
    assert api.get("/v1/projects", headers=dan).status_code == 401
    assert api.get("/v1/projects", headers=elsewhere).json["items"][0]["name"] == "Private"
    assert chain(admin, alice.tenant_id).broken is None


def test_the_person_is_told_twice(
    api: Api, alice: Person, dan: Person, erasures: Erasures, inbox: Inbox, drain: Callable[[], Answer]
) -> None:
    deletion_id = ask(api, alice, dan.user_id).json["id"]
    erasures.ended(deletion_id)

    assert f"/deletion#id={deletion_id}" in str(inbox.wait_for(dan.email, "has been erased"))
    assert f"/deletion#id={deletion_id}" in str(inbox.wait_for(dan.email, "was asked for", meanwhile=drain))


def test_who_sees_it(api: Api, people: People, alice: Person, dan: Person, vera: Person, mallory: Person) -> None:
    deletion_id = ask(api, alice, dan.user_id).json["id"]
    admin_too = people.create("admin", alice.tenant_id)

    for person, status in ((alice, 200), (admin_too, 200), (vera, 404), (mallory, 404)):
        assert api.get(f"/v1/deletions/{deletion_id}", headers=person).status_code == status
        listed = [item["id"] for item in api.get("/v1/deletions", headers=person).json["items"]]
        assert (deletion_id in listed) is (status == 200)
        assert api.post(f"/v1/deletions/{deletion_id}/cancel", headers=person).status_code in (
            {404} if status == 404 else {200, 409}
        )


@pytest.mark.parametrize("role", ["developer", "member", "viewer"])
def test_it_needs_the_permission(api: Api, people: People, alice: Person, role: str) -> None:
    caller = people.create(role, alice.tenant_id)
    for body in ({"user_id": alice.user_id}, {"user_id": 5}, {}):  # 403 comes before 422
        answer = api.post("/v1/deletions", json={"scope": "user", **body}, headers=caller)
        assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")


def test_it_needs_a_fresh_proof_of_identity(api: Api, people: People, alice: Person, dan: Person) -> None:
    answer = ask(api, people.log_in(alice, age_seconds=3600), dan.user_id)
    assert (answer.status_code, answer.json["code"]) == (403, "step_up_required")


def test_nobody_who_holds_more(api: Api, people: People, alice: Person) -> None:
    people.create("owner", alice.tenant_id)
    answer = ask(api, people.create("admin", alice.tenant_id), alice.user_id)
    assert (answer.status_code, answer.json["code"]) == (403, "permission_denied")


def test_nobody_elsewhere(api: Api, alice: Person, mallory: Person) -> None:
    for unknown in (mallory.user_id, "00000000-0000-4000-8000-000000000000"):
        for dry_run in (False, True):
            answer = ask(api, alice, unknown, dry_run=dry_run)
            assert (answer.status_code, answer.json["code"]) == (404, "not_found")


def test_the_last_owner_stays(api: Api, alice: Person, dan: Person) -> None:
    answer = ask(api, alice, alice.user_id)
    assert (answer.status_code, answer.json["code"]) == (409, "last_owner")


def test_one_at_a_time(api: Api, alice: Person, dan: Person, admin: pg8000.native.Connection) -> None:
    api.patch("/v1/organization", json={"settings": {"erasure_policy": "approve"}}, headers=alice)
    assert ask(api, alice, dan.user_id).status_code == 202
    answer = ask(api, alice, dan.user_id)
    assert (answer.status_code, answer.json["code"]) == (409, "deletion_in_progress")


def test_the_plan_is_what_happens(api: Api, alice: Person, dan: Person, erasures: Erasures) -> None:
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=dan).json["id"]
    api.post(f"/v1/projects/{project}/tasks", json={"title": "Climb"}, headers=dan)

    plan = ask(api, alice, dan.user_id, dry_run=True)
    certificate = erasures.ended(ask(api, alice, dan.user_id).json["id"])

    assert plan.status_code == 200
    wanted = {(e["table"], e["action"]): e["rows"] for e in plan.json["plan"] if e["action"] != "keep"}
    assert {(e["table"], e["action"]): e["rows"] for e in certificate["tables"]} == wanted


def test_somebody_who_has_left(api: Api, alice: Person, dan: Person, erasures: Erasures) -> None:
    api.post("/v1/projects", json={"name": "Atlas"}, headers=dan)
    assert api.delete(f"/v1/members/{dan.user_id}", headers=alice).status_code == 204

    certificate = erasures.ended(ask(api, alice, dan.user_id).json["id"])

    assert {e["table"] for e in certificate["tables"]} >= {"app.projects", "app.audit_events"}


def test_packages_that_hold_her_go(api: Api, alice: Person, dan: Person, erasures: Erasures) -> None:
    api.post("/v1/projects", json={"name": "Atlas"}, headers=dan)
    made = [
        api.post("/v1/exports", json=body, headers=alice).json["id"]
        for body in ({"scope": "organization"}, {"scope": "user", "user_id": dan.user_id}, {"scope": "me"})
    ]
    for export in made:
        wait_until(lambda: api.get(f"/v1/exports/{export}", headers=alice).json["status"] == "ready", 60, export)  # noqa: B023

    certificate = erasures.ended(ask(api, alice, dan.user_id).json["id"])

    assert certificate["objects_deleted"] >= 2
    states = [api.get(f"/v1/exports/{export}", headers=alice).json for export in made]
    assert [(found["status"], found["error"]) for found in states] == [
        ("expired", "erased"), ("expired", "erased"), ("ready", None)
    ]  # fmt: skip
