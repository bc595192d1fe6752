"""Retention of audit events: whole beginnings of a chain go behind a signed checkpoint, and the rest still proves."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from common.audit import holds
from tests.audit.aging import Aging
from tests.conftest import Api, People, Person, database
from tests.retention.chains import Chains

OVER = 91  # days: the register keeps events for 90


@pytest.fixture
def old(chains: Chains, aging: Aging, alice: Person) -> Person:
    """Alice, whose chain holds three events that are anchored and over, and two that are young."""
    chains.write(alice, 3)
    chains.anchor()
    aging.age(alice.tenant_id, OVER)
    chains.write(alice, 2)
    return alice


def test_it_works(api: Api, chains: Chains, aging: Aging, old: Person) -> None:
    digest = chains.hash(old.tenant_id, 3)

    chains.retire()

    assert chains.seqs(old.tenant_id) == [4, 5]
    row = chains.head(old.tenant_id)
    assert (row["base_seq"], row["base_hash"], row["seq"]) == (3, digest, 5)
    checkpoint = row["checkpoint"]
    assert set(checkpoint) == {"kind", "organization_id", "base", "before", "at", "hash", "signature", "key_id"}
    assert (checkpoint["kind"], checkpoint["organization_id"]) == ("audit_checkpoint", old.tenant_id)
    assert checkpoint["base"] == {"seq": 3, "hash": digest}
    assert checkpoint["before"] == {"seq": 0, "hash": "0" * 64}
    keys = api.get("/v1/audit-events/keys").json["keys"]
    assert holds(checkpoint, keys[checkpoint["key_id"]])
    verdict = chains.verdict(old)
    assert (verdict["valid"], verdict["base"], verdict["checked"]) == (True, {"seq": 3, "hash": digest}, 2)
    chains.anchor()
    newest = aging.anchors(old.tenant_id)[-1][1]
    assert (newest["base"], newest["head"]["seq"]) == ({"seq": 3, "hash": digest}, 5)
    assert chains.alarms(old.tenant_id) == []


def test_again_a_quarter_later(chains: Chains, aging: Aging, old: Person) -> None:
    chains.retire()
    chains.anchor()
    aging.age(old.tenant_id, OVER)
    chains.write(old, 1)
    chains.anchor()
    chains.retire()

    assert chains.seqs(old.tenant_id) == [6]
    assert chains.head(old.tenant_id)["checkpoint"]["before"]["seq"] == 3
    assert chains.verdict(old)["valid"] is True


def test_what_nobody_has_anchored_stays(chains: Chains, aging: Aging, alice: Person) -> None:
    chains.write(alice, 2)
    aging.age(alice.tenant_id, OVER)
    chains.retire()
    assert chains.seqs(alice.tenant_id) == [1, 2]

    chains.anchor()
    chains.write(alice, 1)
    aging.age(alice.tenant_id, OVER)
    chains.retire()
    assert chains.seqs(alice.tenant_id) == [3]


def test_what_is_not_over_stays(chains: Chains, aging: Aging, alice: Person) -> None:
    chains.write(alice, 2)
    chains.anchor()
    aging.age(alice.tenant_id, 89)

    chains.retire()

    assert chains.seqs(alice.tenant_id) == [1, 2]


def test_a_resting_chain_goes_as_a_whole_and_goes_on(chains: Chains, aging: Aging, alice: Person) -> None:
    chains.write(alice, 2)
    chains.anchor()
    aging.age(alice.tenant_id, OVER)
    digest = chains.hash(alice.tenant_id, 2)
    chains.retire()

    assert chains.seqs(alice.tenant_id) == []
    verdict = chains.verdict(alice)
    point = {"seq": 2, "hash": digest}
    assert (verdict["valid"], verdict["base"], verdict["head"], verdict["checked"]) == (True, point, point, 0)
    chains.anchor()
    chains.write(alice, 1)
    assert chains.seqs(alice.tenant_id) == [3]
    chains.anchor()
    assert chains.verdict(alice)["valid"] is True
    assert chains.alarms(alice.tenant_id) == []


def test_a_base_outlives_the_anchor_that_it_moved_to(chains: Chains, aging: Aging, old: Person) -> None:
    """That one leaves the bucket after 400 days; those of later, be the chain at rest, say the base as well."""
    chains.retire()
    chains.anchor()
    for _ in range(3):
        aging.age(old.tenant_id, 150)
        chains.anchor()

    assert {document["head"]["seq"] for _, document in aging.anchors(old.tenant_id)} == {5}
    assert (chains.verdict(old)["valid"], chains.verdict(old)["base"]["seq"]) == (True, 3)
    assert chains.alarms(old.tenant_id) == []


def test_a_held_person_keeps_the_chain_from_her_event_on(
    admin: Any, people: People, chains: Chains, aging: Aging, alice: Person, dan: Person
) -> None:
    chains.write(alice, 2)
    chains.anchor()
    chains.write(dan, 1)
    chains.anchor()
    chains.write(alice, 1)
    chains.anchor()
    aging.age(alice.tenant_id, OVER)
    admin.run(
        "INSERT INTO app.legal_holds (tenant_id, subject_user_id, reason, until, created_by)"
        " VALUES (:t, :u, 'A claim', now() + interval '1 day', :by)",
        t=alice.tenant_id,
        u=dan.user_id,
        by=alice.user_id,
    )

    chains.retire()
    assert chains.seqs(alice.tenant_id) == [3, 4]
    assert chains.verdict(alice)["valid"] is True
    admin.run("UPDATE app.legal_holds SET released_at = now() WHERE tenant_id = :t", t=alice.tenant_id)
    chains.retire()
    assert chains.seqs(alice.tenant_id) == []


ALTERED = "UPDATE app.audit_events SET outcome = 'failure' WHERE tenant_id = :t AND seq = 2"


def test_an_altered_beginning_is_kept_as_evidence(admin: Any, chains: Chains, old: Person) -> None:
    admin.run(ALTERED, t=old.tenant_id)

    chains.retire()

    assert chains.seqs(old.tenant_id) == [1, 2, 3, 4, 5]
    assert chains.alarms(old.tenant_id) == [2]
    assert chains.entries(old.tenant_id)[-1] == ("CRITICAL", 2)


def test_a_rewritten_beginning_is_kept_as_evidence(admin: Any, chains: Chains, aging: Aging, old: Person) -> None:
    """Its hashes fit each other, but not the anchor."""
    admin.run(ALTERED, t=old.tenant_id)
    aging.rehash(old.tenant_id)

    chains.retire()

    assert chains.seqs(old.tenant_id) == [1, 2, 3, 4, 5]
    assert chains.alarms(old.tenant_id) == [3]


def test_a_run_that_died_after_the_base_had_moved(
    api: Api, admin: Any, chains: Chains, aging: Aging, old: Person
) -> None:
    place = {"seq": 3, "hash": chains.hash(old.tenant_id, 3)}
    facts = {"kind": "audit_checkpoint", "organization_id": old.tenant_id, "base": place}
    before = {"before": {"seq": 0, "hash": "0" * 64}, "at": "2026-01-01T00:00:00Z"}
    admin.run(
        "UPDATE app.audit_heads SET base_seq = 3, base_hash = :hash, checkpoint = CAST(:signed AS jsonb),"
        " anchored_at = NULL WHERE tenant_id = :t",
        hash=place["hash"],
        signed=json.dumps(aging.sign({**facts, **before})),
        t=old.tenant_id,
    )

    assert chains.seqs(old.tenant_id) == [1, 2, 3, 4, 5]
    verdict = chains.verdict(old)
    assert (verdict["valid"], verdict["base"]["seq"]) == (True, 3)
    seen = {event["seq"] for event in api.get("/v1/audit-events", headers=old).json["items"]}
    assert seen >= {4, 5}
    assert seen.isdisjoint({1, 2, 3})
    exported = api.get("/v1/audit-events/export", headers=old).text.splitlines()
    assert min(line["seq"] for line in map(json.loads, exported) if "seq" in line) == 4
    chains.retire()
    assert chains.seqs(old.tenant_id)[0] == 4
    assert chains.verdict(old)["valid"] is True


def test_a_drop_waits_for_nobody_and_nobody_for_it(stack: dict[str, Any], chains: Chains, old: Person) -> None:
    """An erasure has an old event, a writer the head: the drop leaves the event to the next run."""
    with database(stack["postgres"]["admin"]) as other:
        other.run("BEGIN")
        other.run("SELECT FROM app.audit_events WHERE tenant_id = :t AND seq = 2 FOR UPDATE", t=old.tenant_id)
        chains.retire()
        assert chains.seqs(old.tenant_id) == [2, 4, 5]
        chains.write(old, 1)
        other.run("ROLLBACK")
    chains.retire()

    assert chains.seqs(old.tenant_id) == [4, 5, 6]
    assert chains.verdict(old)["valid"] is True


def test_a_silent_bucket_keeps_everything(chains: Chains, aging: Aging, old: Person) -> None:
    with aging.without_bucket():
        chains.retire()
    assert chains.seqs(old.tenant_id) == [1, 2, 3, 4, 5]

    chains.retire()
    assert chains.seqs(old.tenant_id) == [4, 5]


def test_a_dry_run_only_says_what_would_go(chains: Chains, old: Person) -> None:
    before = chains.head(old.tenant_id)

    report = chains.retire(dry_run=True)

    assert report["removed"]["app.audit_events"] >= 3
    assert chains.seqs(old.tenant_id) == [1, 2, 3, 4, 5]
    assert chains.head(old.tenant_id) == before


def test_two_runs_and_writers_and_anchors_at_once(stack: dict[str, Any], chains: Chains, old: Person) -> None:
    def write_on(number: int) -> None:
        client = Api(stack["api"])
        for each in range(8):
            answer = client.post("/v1/projects", json={"name": f"{number}-{each}"}, headers=old)
            assert answer.status_code == 201, answer.text
        client._session.close()

    with ThreadPoolExecutor(5) as pool:
        jobs = [pool.submit(act) for act in (chains.retire, chains.retire, chains.anchor)]
        jobs += [pool.submit(write_on, number) for number in range(2)]
        for done in jobs:
            done.result()

    assert chains.seqs(old.tenant_id) == list(range(4, 22))
    assert chains.verdict(old)["valid"] is True
    chains.anchor()
    assert chains.alarms(old.tenant_id) == []
