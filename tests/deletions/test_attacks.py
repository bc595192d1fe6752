"""What somebody gets by asking for what is not hers, or by SQL injected into a service of copies and erasures."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Api, People, Person
from tests.deletions.conftest import Backstage
from tests.deletions.test_children import policy
from tests.tenancy.conftest import Attacker

Attackers = Callable[[str], Attacker]


@pytest.fixture
def attackers(stack: dict[str, Any]) -> Iterator[Attackers]:
    made: list[Attacker] = []

    def of(role: str) -> Attacker:
        made.append(Attacker(stack, role))
        return made[-1]

    yield of
    for attacker in made:
        attacker.connection.close()


def frozen(backstage: Backstage, person: Person) -> str:
    """Her own erasure, which has begun."""
    job = backstage.queued(person)
    for step in ("claim", "plan", "freeze"):
        assert backstage.step(job, step, "e").status_code == 200
    return job


def test_nothing_is_told_of_an_erasure_elsewhere(
    api: Api, alice: Person, mallory: Person, backstage: Backstage
) -> None:
    frozen(backstage, mallory)
    for dry_run in (True, False):
        body = {"scope": "user", "user_id": mallory.user_id, "dry_run": dry_run}
        assert api.post("/v1/deletions", json=body, headers=alice).status_code == 404


def test_a_colleagues_is_running(api: Api, alice: Person, dan: Person, backstage: Backstage) -> None:
    """What the test above rests on."""
    frozen(backstage, dan)
    answer = api.post("/v1/deletions", json={"scope": "user", "user_id": dan.user_id}, headers=alice)
    assert (answer.status_code, answer.json["code"]) == (409, "deletion_in_progress")


def test_without_the_second_factor_only_her_own(
    api: Api, alice: Person, dan: Person, admin: pg8000.native.Connection
) -> None:
    """Where the organization asks for one, a password alone neither shows nor ends what is the organization's."""
    policy(api, alice, "approve")
    export = api.post("/v1/exports", json={"scope": "organization"}, headers=alice).json["id"]
    erasure = api.post("/v1/deletions", json={"scope": "user", "user_id": dan.user_id}, headers=alice).json["id"]
    admin.run(
        "UPDATE app.organizations SET settings = settings || '{\"require_mfa\": true}' WHERE tenant_id = :t",
        t=alice.tenant_id,
    )

    assert api.get("/v1/exports", headers=alice).json["items"] == []
    assert api.get(f"/v1/exports/{export}", headers=alice).status_code == 404
    assert api.get(f"/v1/exports/{export}/download", headers=alice).status_code == 404
    assert api.delete(f"/v1/exports/{export}", headers=alice).status_code == 404
    assert api.post(f"/v1/deletions/{erasure}/cancel", headers=alice).status_code == 404
    assert api.post("/v1/exports", json={"scope": "me"}, headers=alice).status_code == 202

    admin.run("UPDATE identity.login_sessions SET amr = '{pwd,otp,mfa}' WHERE id = :id", id=alice.session_id)
    assert api.get(f"/v1/exports/{export}", headers=alice).status_code == 200
    assert api.post(f"/v1/deletions/{erasure}/cancel", headers=alice).status_code == 200


def test_nobody_approves_the_erasure_of_who_stands_above_by_now(
    api: Api, people: People, alice: Person, vera: Person, admin: pg8000.native.Connection
) -> None:
    policy(api, alice, "approve")
    deputy = people.create("admin", alice.tenant_id)
    asked = api.post("/v1/deletions", json={"scope": "user", "user_id": vera.user_id}, headers=deputy)
    assert asked.json["status"] == "awaiting_approval"
    admin.run("UPDATE app.members SET role = 'owner' WHERE user_id = :u", u=vera.user_id)
    approval = f"/v1/privacy/requests/{asked.json['id']}/approve"

    refused = api.post(approval, json={}, headers=deputy)

    assert (refused.status_code, refused.json["code"]) == (403, "permission_denied")
    assert api.post(approval, json={}, headers=alice).status_code == 200


def test_a_deadline_of_others_stays(
    attackers: Attackers, vera: Person, mallory: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(mallory)
    before = admin.run("SELECT due_at FROM platform.deletions WHERE job_id = :id", id=job)
    attacker = attackers("audit_fn")
    attacker.begin_sealed(vera)
    attacker.try_all(
        [
            f"SELECT platform.receive_erasure('{job}', '{uuid.uuid4()}', '2001-01-01', 'x', interval '0')",
            "COMMIT",
        ]
    )
    assert admin.run("SELECT due_at FROM platform.deletions WHERE job_id = :id", id=job) == before


def test_no_hold_on_people_elsewhere(
    attackers: Attackers, alice: Person, dan: Person, mallory: Person, admin: pg8000.native.Connection
) -> None:
    """It would keep their accounts from being erased."""
    attacker = attackers("deletions_fn")
    attacker.begin_sealed(alice)
    held = [
        "INSERT INTO app.legal_holds (tenant_id, subject_user_id, reason, until, created_by)"
        f" VALUES ('{alice.tenant_id}', '{who.user_id}', 'x', now() + interval '9 years', '{alice.user_id}')"
        for who in (mallory, dan)
    ]
    attacker.try_all([*held, "COMMIT"])
    found = admin.run("SELECT subject_user_id FROM app.legal_holds WHERE tenant_id = :t", t=alice.tenant_id)
    assert [str(who) for (who,) in found] == [dan.user_id]


@pytest.mark.parametrize("channel", ["child", "hold_end", "replay"])
def test_a_channel_of_ours_is_nobodys(
    attackers: Attackers, alice: Person, dan: Person, channel: str, admin: pg8000.native.Connection
) -> None:
    """They are told nothing by mail, and ask no owner."""
    attacker = attackers("deletions_fn")
    attacker.begin_sealed(alice)
    seen = attacker.try_all(
        [
            f"SELECT platform.request_deletion('{uuid.uuid4()}', 'user', '{dan.user_id}', '0', '', '', '{channel}',"
            " NULL)",
            "COMMIT",
        ]
    )
    assert "denied" in seen
    assert admin.run("SELECT count(*) FROM platform.deletions WHERE subject_id = :id", id=dan.user_id) == [[0]]


@pytest.mark.parametrize("role", ["exports_jobs_fn", "deletions_jobs_fn"])
def test_a_job_neither_begins_before_its_time_nor_ends_without_a_certificate(
    attackers: Attackers, alice: Person, role: str, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice, "organization")
    admin.run("UPDATE platform.deletions SET execute_after = now() + interval '7 days' WHERE job_id = :id", id=job)
    attacker = attackers(role)
    attacker.connection.run("BEGIN")
    attacker.authorize(attacker.token(kind="s"))
    attacker.try_all(
        [
            f"SELECT platform.claim_deletion('{job}', 'evil')",
            f"SELECT platform.claim_job('{job}', 'deletion', 'evil')",
            f"SELECT platform.finish_job('{job}', 'evil', 'done')",
            "COMMIT",
        ]
    )
    assert admin.run("SELECT status FROM platform.jobs WHERE id = :id", id=job) == [["queued"]]


def test_what_an_officer_wrote_about_her_goes_too(
    api: Api, alice: Person, dan: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(dan, "user")
    admin.run(
        "UPDATE platform.deletions SET extended_at = now(), extension_reason = 'Mr. Dan is hard to find'"
        " WHERE job_id = :id",
        id=job,
    )
    backstage.run(job, "e")
    assert left_of(admin, job) == [None, []]


def test_a_refusal_keeps_no_number(
    alice: Person, dan: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(dan, "user")
    admin.run("UPDATE platform.deletions SET phones_to_find = '{v1.x.y}' WHERE job_id = :id", id=job)
    admin.run("SELECT platform.refuse_deletion(:id)", id=job)
    assert left_of(admin, job) == [None, []]


def left_of(admin: pg8000.native.Connection, job: str) -> Any:
    """What is kept with a request that is over: the reason of its extension, and numbers."""
    return admin.run("SELECT extension_reason, phones_to_find FROM platform.deletions WHERE job_id = :id", id=job)[0]
