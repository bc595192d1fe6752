"""The last owner of an organization with other members has to hand it over first."""

import pg8000.native

from tests.conftest import Api, People, Person
from tests.deletions.conftest import Backstage, Erasures, count


def test_it_is_refused(api: Api, alice: Person, dan: Person) -> None:
    for body in ({"scope": "me"}, {"scope": "me", "dry_run": True}):
        answer = api.post("/v1/deletions", json=body, headers=alice)
        assert (answer.status_code, answer.json["code"]) == (409, "last_owner")
    assert api.get("/v1/deletions", headers=alice).json["items"] == []
    assert api.get("/v1/projects", headers=alice).status_code == 200


def test_it_counts_in_every_organization(api: Api, people: People, alice: Person, mallory: Person) -> None:
    people.join(alice.user_id, mallory.tenant_id, "owner")
    people.join(mallory.user_id, alice.tenant_id, "viewer")

    answer = api.post("/v1/deletions", json={"scope": "me"}, headers=people.log_in(alice, tenant_id=mallory.tenant_id))

    assert (answer.status_code, answer.json["code"]) == (409, "last_owner")


def test_with_a_second_owner_she_may_go(people: People, alice: Person, dan: Person, erasures: Erasures) -> None:
    people.create("owner", alice.tenant_id)

    assert erasures.erase(alice)["scan"]["hits"] == 0


def test_a_co_owner_who_goes_herself_does_not_count(
    api: Api, people: People, alice: Person, dan: Person, backstage: Backstage
) -> None:
    bob = people.create("owner", alice.tenant_id)
    backstage.queued(bob)

    answer = api.post("/v1/deletions", json={"scope": "me"}, headers=alice)

    assert (answer.status_code, answer.json["code"]) == (409, "last_owner")


def test_last_owner_by_the_time_it_starts(
    api: Api,
    people: People,
    alice: Person,
    dan: Person,
    backstage: Backstage,
    erasures: Erasures,
    admin: pg8000.native.Connection,
) -> None:
    job = backstage.queued(alice)

    backstage.execute(job)

    erasures.ended(job, "failed")
    shown = api.get(f"/v1/deletions/{job}", headers=alice).json
    assert (shown["status"], shown["error"]) == ("failed", "last_owner")
    kept = admin.run("SELECT mail_to, name_to_find FROM platform.deletions WHERE job_id = :id", id=job)
    assert kept == [[None, None]]
    assert api.get("/v1/projects", headers=alice).status_code == 200
    assert count(admin, "app.members", alice.tenant_id) == 2


def test_two_members_who_leave_at_once_leave_nothing_behind(
    people: People, backstage: Backstage, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    alice = people.create("owner")
    bob = people.create("owner", alice.tenant_id)
    first, second = backstage.queued(alice), backstage.queued(bob)
    admin.run("UPDATE app.members SET role = 'member' WHERE tenant_id = :id", id=alice.tenant_id)

    for step in ("claim", "plan", "freeze", "revoke"):
        for job in (first, second):
            assert backstage.step(job, step, "e").status_code == 200
    for step in ("organizations", "objects", "account", "children"):
        for job in (first, second):
            answer = backstage.step(job, step, "e")
            assert answer.status_code == 200, (step, answer.text)
            if answer.json["outcome"] == "done" and step == "children":
                backstage.run(job, "e")
    for job in (first, second):
        backstage.over(job)

    assert count(admin, "app.organizations", alice.tenant_id) == 0
    assert erasures.state(first) == erasures.state(second) == "done"
