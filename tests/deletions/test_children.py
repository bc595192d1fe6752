"""A person's own erasure has a part in each of her organizations; it is complete when each of them is."""

import pg8000.native

from tests.conftest import Api, People, Person, wait_until
from tests.deletions.conftest import Backstage, Erasures, count


def policy(api: Api, owner: Person, name: str) -> None:
    assert api.patch("/v1/organization", json={"settings": {"erasure_policy": name}}, headers=owner).status_code == 200


def figures(certificate: dict) -> dict[tuple[str, str], int]:
    return {(entry["table"], entry["action"]): entry["rows"] for entry in certificate["tables"]}


def test_each_organization_by_its_own_policy(
    api: Api, people: People, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    keeps, erases = people.create("owner"), people.create("owner")
    policy(api, erases, "erase")
    dan = people.create("developer", keeps.tenant_id)
    people.join(dan.user_id, erases.tenant_id, "developer")
    own = people.organization()
    people.join(dan.user_id, own, "owner")
    for tenant in (keeps.tenant_id, erases.tenant_id, own):
        api.post("/v1/projects", json={"name": "Atlas"}, headers=people.log_in(dan, tenant_id=tenant))

    deletion_id = erasures.ask(dan)
    certificate = erasures.ended(deletion_id)

    assert set(backstage.children(deletion_id)) == {keeps.tenant_id, erases.tenant_id, own}
    assert [count(admin, "app.projects", t) for t in (keeps.tenant_id, erases.tenant_id, own)] == [1, 0, 0]
    assert [count(admin, "app.organizations", t) for t in (keeps.tenant_id, erases.tenant_id, own)] == [1, 1, 0]
    assert figures(certificate)["app.members", "delete"] == 3
    assert figures(certificate)["app.projects", "delete"] == 2
    assert figures(certificate)["app.projects", "pseudonym"] == 1
    for child in backstage.children(deletion_id).values():
        assert erasures.ended(child)["scope"] == "user"


def test_the_organization_sees_its_part_alone(
    api: Api, people: People, alice: Person, dan: Person, mallory: Person, erasures: Erasures, backstage: Backstage
) -> None:
    people.join(dan.user_id, mallory.tenant_id, "developer")
    deletion_id = erasures.ask(dan)
    erasures.ended(deletion_id)
    parts = backstage.children(deletion_id)

    for owner in (alice, mallory):
        shown = api.get("/v1/deletions", headers=owner).json["items"]
        assert [item["id"] for item in shown] == [parts[owner.tenant_id]]
        assert (shown[0]["scope"], shown[0]["parent_id"]) == ("user", deletion_id)
        assert api.get(f"/v1/deletions/{deletion_id}", headers=owner).status_code == 404


def test_a_part_cannot_be_called_off(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage
) -> None:
    policy(api, alice, "approve")
    deletion_id = erasures.ask(dan)
    child = wait_until(lambda: backstage.children(deletion_id).get(alice.tenant_id), what="the part")

    assert api.post(f"/v1/deletions/{child}/cancel", headers=alice).status_code == 409


def test_never_complete_before_its_parts(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    policy(api, alice, "approve")
    job = backstage.queued(dan)
    for step in ("claim", "plan", "freeze", "revoke", "organizations", "objects", "account"):
        assert backstage.step(job, step, "e").status_code == 200
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=dan.user_id) == [[0]]

    for step in ("scan", "certificate", "notify"):
        backstage.step(job, step, "e")
    assert backstage.step(job, "finish", "e").status_code == 500
    assert backstage.step(job, "children", "e").json == {"outcome": "waiting"}
    assert backstage.step(job, "finish", "e").status_code == 409
    assert erasures.state(job) == "queued"


def test_a_request_that_waits_there_becomes_its_part(
    api: Api, people: People, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage,
    admin: pg8000.native.Connection,
) -> None:  # fmt: skip
    body = {"scope": "user", "user_id": dan.user_id}
    policy(api, alice, "approve")
    waiting = api.post("/v1/deletions", json=body, headers=alice).json["id"]

    deletion_id = erasures.ask(dan)
    wait_until(lambda: backstage.children(deletion_id), what="the parts")

    assert backstage.children(deletion_id) == {alice.tenant_id: waiting}
    again = api.post("/v1/deletions", json=body, headers=alice)
    assert (again.status_code, again.json["code"]) == (409, "deletion_in_progress")


def test_a_parked_job_is_not_a_stuck_one(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    policy(api, alice, "approve")
    deletion_id = erasures.ask(dan)
    wait_until(lambda: erasures.steps(deletion_id)["children"] == "running", what="the rest")
    wait_until(lambda: erasures.state(deletion_id) == "queued", what="the rest")

    backstage.call("retention", "scheduler", "/internal/jobs/requeue")

    assert erasures.state(deletion_id) == "queued"
    assert admin.run("SELECT heartbeat_at > now() FROM platform.jobs WHERE id = :id", id=deletion_id) == [[True]]


def test_it_looks_by_itself_should_the_wake_be_lost(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    policy(api, alice, "approve")
    job = backstage.queued(dan)
    backstage.run_until_it_rests(job)
    (child,) = backstage.children(job).values()
    admin.run("UPDATE platform.jobs SET status = 'cancelled', finished_at = now() WHERE id = :id", id=child)
    admin.run("UPDATE platform.deletions SET finished_at = now(), mail_to = NULL WHERE job_id = :id", id=child)
    admin.run("UPDATE platform.jobs SET heartbeat_at = now() - interval '1 day' WHERE id = :id", id=job)

    backstage.call("retention", "scheduler", "/internal/jobs/requeue")
    admin.run("UPDATE platform.outbox SET created_at = now() - interval '1 minute' WHERE reference = :id", id=job)
    backstage.call("retention", "scheduler", "/internal/outbox/drain")

    assert erasures.ended(job)["scan"]["hits"] == 0
