"""What a hold kept erases itself when the hold ends: by its time, or lifted; never before, and never not at all."""

import pg8000.native

from tests.conftest import PASSWORD, Api, People, Person
from tests.deletions.conftest import Backstage, Erasures, count
from tests.deletions.test_holds import content, held, place


def follow_up(admin: pg8000.native.Connection, deletion_id: str) -> str:
    found = admin.run("SELECT job_id::text FROM platform.deletions WHERE follows = :id", id=deletion_id)
    assert len(found) == 1
    return str(found[0][0])


def at_once(admin: pg8000.native.Connection, backstage: Backstage, job: str) -> None:
    """What the drain does within a minute."""
    admin.run("UPDATE platform.outbox SET created_at = now() - interval '1 minute' WHERE reference = :id", id=job)
    backstage.call("retention", "scheduler", "/internal/outbox/drain")


def partly_erased(api: Api, alice: Person, dan: Person, erasures: Erasures) -> tuple[str, str]:
    """Dan is erased but for a task; the erasure and the hold."""
    api.patch("/v1/organization", json={"settings": {"erasure_policy": "erase"}}, headers=alice)
    _, task, _ = content(api, dan)
    hold = place(api, alice, dan.user_id, ("task", task)).json["id"]
    body = {"scope": "user", "user_id": dan.user_id}
    deletion_id = api.post("/v1/deletions", json=body, headers=alice).json["id"]
    assert held(erasures.ended(deletion_id))["app.tasks"] == 1
    return deletion_id, hold


def test_lifted(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    deletion_id, hold = partly_erased(api, alice, dan, erasures)
    later = follow_up(admin, deletion_id)
    assert backstage.execute(later)["result"] == '"early"'

    assert api.delete(f"/v1/legal-holds/{hold}", headers=alice).status_code == 204
    at_once(admin, backstage, later)

    certificate = erasures.ended(later)
    assert held(certificate) == {}
    assert [count(admin, f"app.{name}", alice.tenant_id) for name in ("members", "tasks", "projects")] == [1, 0, 0]
    assert admin.run("SELECT count(*) FROM platform.deletions WHERE follows = :id", id=later) == [[0]]
    assert admin.run("SELECT status FROM identity.accounts WHERE id = :id", id=dan.user_id) == [["active"]]


def test_by_its_time(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    deletion_id, hold = partly_erased(api, alice, dan, erasures)
    later = follow_up(admin, deletion_id)
    due, until = admin.run(
        "SELECT d.execute_after, h.until FROM platform.deletions d, app.legal_holds h"
        " WHERE d.job_id = :job AND h.id = :hold",
        job=later,
        hold=hold,
    )[0]
    assert due == until
    admin.run("UPDATE app.legal_holds SET until = now() WHERE id = :id", id=hold)
    admin.run("UPDATE platform.deletions SET execute_after = now() WHERE job_id = :id", id=later)

    assert backstage.execute(later)["result"] == '"done"'

    assert held(erasures.ended(later)) == {}
    assert count(admin, "app.tasks", alice.tenant_id) == 0


def test_another_hold_goes_on(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    deletion_id, hold = partly_erased(api, alice, dan, erasures)
    later = follow_up(admin, deletion_id)
    second = place(api, alice, dan.user_id, seconds=172_800).json["id"]
    assert api.delete(f"/v1/legal-holds/{hold}", headers=alice).status_code == 204

    assert backstage.execute(later)["result"] == '"early"'

    moved = admin.run(
        "SELECT d.execute_after = h.until FROM platform.deletions d, app.legal_holds h"
        " WHERE d.job_id = :job AND h.id = :hold",
        job=later,
        hold=second,
    )
    assert moved == [[True]]
    assert count(admin, "app.tasks", alice.tenant_id) == 1
    assert api.delete(f"/v1/legal-holds/{second}", headers=alice).status_code == 204
    at_once(admin, backstage, later)
    erasures.ended(later)
    assert count(admin, "app.tasks", alice.tenant_id) == 0


def test_of_a_person_in_all_her_organizations(
    api: Api, people: People, alice: Person, dan: Person, mallory: Person, erasures: Erasures, backstage: Backstage,
    admin: pg8000.native.Connection,
) -> None:  # fmt: skip
    people.join(dan.user_id, mallory.tenant_id, "developer")
    content(api, dan)
    hold = place(api, alice, dan.user_id).json["id"]
    deletion_id = erasures.ask(dan)
    erasures.ended(deletion_id)
    later = follow_up(admin, deletion_id)

    assert api.delete(f"/v1/legal-holds/{hold}", headers=alice).status_code == 204
    at_once(admin, backstage, later)

    assert held(erasures.ended(later)) == {}
    assert admin.run("SELECT count(*) FROM identity.accounts WHERE id = :id", id=dan.user_id) == [[0]]
    assert count(admin, "app.members", alice.tenant_id) == 1
    open_ones = "SELECT count(*) FROM platform.deletions WHERE subject_id = :id AND finished_at IS NULL"
    assert admin.run(open_ones, id=dan.user_id) == [[0]]


def test_of_an_organization(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    _, task, _ = content(api, dan)
    hold = place(api, alice, dan.user_id, ("task", task)).json["id"]
    deletion_id = api.post("/v1/deletions", json={"scope": "organization"}, headers=alice).json["id"]
    admin.run("UPDATE platform.deletions SET execute_after = now() WHERE job_id = :id", id=deletion_id)
    backstage.run(deletion_id, "e")
    later = follow_up(admin, deletion_id)
    admin.run("UPDATE app.legal_holds SET until = now() WHERE id = :id", id=hold)
    admin.run("UPDATE platform.deletions SET execute_after = now() WHERE job_id = :id", id=later)

    backstage.run(later, "e")

    assert held(erasures.ended(later)) == {}
    assert count(admin, "app.organizations", alice.tenant_id) == 0


def test_the_receipt_opens_what_follows(
    api: Api, alice: Person, dan: Person, erasures: Erasures, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    deletion_id, _ = partly_erased(api, alice, dan, erasures)
    receipt = {"receipt": backstage.receipt(deletion_id)}

    shown = api.get(f"/v1/deletions/{deletion_id}/status", params=receipt).json
    after = api.get(f"/v1/deletions/{shown['followed_by']}/status", params=receipt)

    assert (after.status_code, after.json["status"]) == (200, "scheduled")
    wrong = {"receipt": backstage.receipt(shown["followed_by"])}
    assert api.get(f"/v1/deletions/{deletion_id}/status", params=wrong).status_code == 404


def test_what_is_kept_is_no_place_to_log_in_to(
    api: Api, people: People, alice: Person, mallory: Person, erasures: Erasures
) -> None:
    dan = people.create("developer", alice.tenant_id, password=PASSWORD)
    people.join(dan.user_id, mallory.tenant_id, "developer")
    partly_erased(api, alice, dan, erasures)

    answer = api.post("/v1/auth/login", json={"email": dan.email, "password": PASSWORD})

    assert answer.status_code == 200, answer.text
    assert answer.json["organization"]["id"] == mallory.tenant_id
    assert [organization["id"] for organization in answer.json["organizations"]] == [mallory.tenant_id]
    token = {"Authorization": f"Bearer {answer.json['access_token']}"}
    assert api.post("/v1/auth/switch", json={"organization_id": alice.tenant_id}, headers=token).status_code >= 400


def test_a_follow_up_that_she_takes_over_herself_holds_up_nothing(
    api: Api, people: People, alice: Person, dan: Person, mallory: Person, erasures: Erasures,
    admin: pg8000.native.Connection,
) -> None:  # fmt: skip
    """Her own erasure finds what a hold left of an earlier one, wholly held by now: refused there, done elsewhere."""
    people.join(dan.user_id, mallory.tenant_id, "developer")
    earlier, _ = partly_erased(api, alice, dan, erasures)
    later = follow_up(admin, earlier)
    assert place(api, alice, dan.user_id, seconds=10 * 365 * 86_400).status_code == 201

    certificate = erasures.erase(people.log_in(dan, tenant_id=mallory.tenant_id))

    assert held(certificate)["app.tasks"] == 1
    ended = admin.run(
        "SELECT refused_reason IS NOT NULL, finished_at IS NOT NULL FROM platform.deletions WHERE job_id = :id",
        id=later,
    )
    assert ended == [[True, True]]
    waiting = admin.run(
        "SELECT scope, channel FROM platform.deletions WHERE subject_id = :id AND finished_at IS NULL", id=dan.user_id
    )
    assert waiting == [["me", "hold_end"]]
