"""POST /internal/audit/anchor: heads outside the database, and what a rewritten history looks like from there."""

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from common.audit import holds
from local.identity import Issuer
from local.layout import service_account
from local.stack import ANCHOR_BUCKET
from tests.audit.aging import Aging
from tests.conftest import Api, Person
from tests.deletions.conftest import Backstage
from tests.retention.chains import ANCHOR, PLATFORM, Chains


def test_it_works(api: Api, admin: Any, alice: Person, aging: Aging, chains: Chains) -> None:
    chains.write(alice, 3)
    assert chains.anchor()["anchored"] >= 1

    (row, document), *more = aging.anchors(alice.tenant_id)
    now = chains.head(alice.tenant_id)
    assert more == []
    assert (document["kind"], document["organization_id"]) == ("audit_anchor", alice.tenant_id)
    assert document["head"] == {"seq": 3, "hash": now["hash"]}
    assert document["base"] == {"seq": 0, "hash": "0" * 64}
    assert re.fullmatch(rf"anchors/{alice.tenant_id}/\d{{8}}T\d{{6}}Z-0000000000000003\.json", row["name"])
    keys = api.get("/v1/audit-events/keys").json["keys"]
    assert holds(document, keys[document["key_id"]])
    assert set(document) == {"kind", "organization_id", "base", "head", "at", "hash", "signature", "key_id"}
    assert (now["anchored_seq"], now["anchored_at"] is not None) == (3, True)
    verdict = chains.verdict(alice)
    assert (verdict["valid"], verdict["anchored"]) == (
        True,
        {"seq": 3, "hash": document["head"]["hash"], "at": document["at"]},
    )


def test_only_what_has_moved_or_rests_for_a_month_is_anchored(
    admin: Any, alice: Person, aging: Aging, chains: Chains
) -> None:
    chains.write(alice, 1)
    chains.anchor()
    chains.anchor()
    assert len(aging.anchors(alice.tenant_id)) == 1
    aging.age(alice.tenant_id, 31)
    chains.anchor()
    chains.write(alice, 1)
    chains.anchor()

    assert [document["head"]["seq"] for _, document in aging.anchors(alice.tenant_id)] == [1, 1, 2]
    assert chains.alarms(alice.tenant_id) == []


def test_the_platforms_own_chain_is_anchored(admin: Any, aging: Aging, chains: Chains) -> None:
    admin.run("SELECT platform.record_event(NULL, 'x.done', 'x', NULL, '{}', 'r')")
    chains.anchor()

    newest = aging.anchors(PLATFORM)[-1][1]
    row = admin.run(
        "SELECT hash FROM app.audit_events WHERE tenant_id = :p AND seq = :s", p=PLATFORM, s=newest["head"]["seq"]
    )
    assert row == [[newest["head"]["hash"]]]


@pytest.fixture
def bucket(aging: Aging) -> Callable[..., requests.Response]:
    """A call to the storage with a service's own token."""
    token = Issuer(aging.layout.root).access_token(service_account("tester"))

    def call(method: str, path: str, **options: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.request(method, aging.layout.url("storage") + path, headers=headers, timeout=5, **options)

    return call


BUCKET, UPLOAD = f"/storage/v1/b/{ANCHOR_BUCKET}", f"/upload/storage/v1/b/{ANCHOR_BUCKET}/o?uploadType=media&name="


def test_nobody_takes_an_anchor_back(aging: Aging, alice: Person, chains: Chains, bucket: Any) -> None:
    chains.write(alice, 1)
    chains.anchor()
    name = aging.anchors(alice.tenant_id)[0][0]["name"]

    answers = [
        bucket("DELETE", f"{BUCKET}/o/{name.replace('/', '%2F')}"),
        bucket("POST", UPLOAD + name, data=b"{}"),
        bucket("PATCH", BUCKET, json={"retentionPolicy": None}),
        bucket("DELETE", BUCKET),
    ]

    assert [answer.status_code for answer in answers] == [403, 403, 403, 409]
    assert [answer.json()["error"]["errors"][0]["reason"] for answer in answers[:2]] == ["retentionPolicyNotMet"] * 2


def rewrite(admin: Any, aging: Aging, tenant_id: str) -> None:
    """All of it, hashes and head too: as an administrator of the database can."""
    admin.run("UPDATE app.audit_events SET outcome = 'failure' WHERE tenant_id = :t AND seq = 1", t=tenant_id)
    aging.age_head(tenant_id, aging.rehash(tenant_id), 0)


def cut(admin: Any, aging: Aging, tenant_id: str) -> None:
    admin.run("DELETE FROM app.audit_events WHERE tenant_id = :t AND seq > 1", t=tenant_id)
    aging.age_head(tenant_id, aging.rehash(tenant_id), 0)
    admin.run(
        "UPDATE app.audit_heads h SET seq = 1, hash = e.hash FROM app.audit_events e"
        " WHERE h.tenant_id = :t AND e.tenant_id = :t AND e.seq = 1",
        t=tenant_id,
    )


def drop(admin: Any, aging: Aging, tenant_id: str) -> None:
    """A beginning that nobody has anchored."""
    admin.run(
        "UPDATE app.audit_heads h SET base_seq = 1, base_hash = e.hash FROM app.audit_events e"
        " WHERE h.tenant_id = :t AND e.tenant_id = :t AND e.seq = 1",
        t=tenant_id,
    )


def alter_new(admin: Any, aging: Aging, tenant_id: str) -> None:
    """An event after the anchor, its hash left as it was."""
    admin.run("UPDATE app.audit_events SET outcome = 'failure' WHERE tenant_id = :t AND seq = 4", t=tenant_id)


def unreadable(admin: Any, aging: Aging, tenant_id: str) -> None:
    """A number that Python refuses to read: of this chain alone it says something."""
    admin.run(
        "UPDATE app.audit_events SET data = CAST(repeat('9', 5000) AS jsonb) WHERE tenant_id = :t AND seq = 4",
        t=tenant_id,
    )


def alter_anchored(admin: Any, aging: Aging, tenant_id: str) -> None:
    admin.run("UPDATE app.audit_events SET outcome = 'failure' WHERE tenant_id = :t AND seq = 3", t=tenant_id)


def remove_new(admin: Any, aging: Aging, tenant_id: str) -> None:
    admin.run("DELETE FROM app.audit_events WHERE tenant_id = :t AND seq = 4", t=tenant_id)


def put_back(admin: Any, aging: Aging, tenant_id: str) -> None:
    """To before the first event."""
    admin.run("UPDATE app.audit_heads SET seq = 0, hash = repeat('0', 64) WHERE tenant_id = :t", t=tenant_id)


def other_head(admin: Any, aging: Aging, tenant_id: str) -> None:
    admin.run("UPDATE app.audit_heads SET hash = repeat('a', 64) WHERE tenant_id = :t", t=tenant_id)


ATTACKS = {
    rewrite: 3,
    cut: 2,
    drop: 1,
    alter_new: 4,
    unreadable: 4,
    alter_anchored: 3,
    remove_new: 4,
    put_back: 1,
    other_head: 5,
}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_rewritten_history_is_not_anchored(
    admin: Any, alice: Person, aging: Aging, chains: Chains, attack: Any
) -> None:
    chains.write(alice, 3)
    chains.anchor()
    chains.write(alice, 2)
    attack(admin, aging, alice.tenant_id)

    assert chains.anchor()["broken"] >= 1
    chains.anchor()

    assert chains.alarms(alice.tenant_id) == [ATTACKS[attack]], "once for the same place"
    assert [document["head"]["seq"] for _, document in aging.anchors(alice.tenant_id)] == [3]
    assert chains.entries(alice.tenant_id)[-1] == ("CRITICAL", ATTACKS[attack])


def test_a_broken_chain_keeps_no_other_from_its_anchor(
    api: Api, admin: Any, alice: Person, mallory: Person, aging: Aging, chains: Chains
) -> None:
    chains.write(alice, 2)
    remove = "DELETE FROM app.audit_events WHERE tenant_id = :t AND seq = 1"
    admin.run(remove, t=alice.tenant_id)
    api.post("/v1/projects", json={"name": "Hers"}, headers=mallory)

    chains.anchor()

    assert aging.anchors(alice.tenant_id) == []
    assert len(aging.anchors(mallory.tenant_id)) == 1


def test_planted_objects_are_passed_over(
    api: Api, admin: Any, alice: Person, aging: Aging, chains: Chains, bucket: Any
) -> None:
    """One that nobody signed, one of another chain, rubbish: none hides the true one or stands in for it."""
    chains.write(alice, 2)
    chains.anchor()
    _, true = aging.anchors(alice.tenant_id)[0]
    far = {"seq": 9, "hash": "a" * 64}
    facts = {"kind": "audit_anchor", "base": true["base"], "head": far, "at": "2099-01-01T00:00:00Z"}
    foreign = aging.sign({**facts, "organization_id": PLATFORM})
    unsigned = {**true, "head": far, "at": facts["at"]}
    for second, content in enumerate((json.dumps(unsigned), json.dumps(foreign), "[]", "\xff{", "[" * 100_000)):
        name = f"anchors/{alice.tenant_id}/20990101T00000{second}Z-0000000000000009.json"
        assert bucket("POST", UPLOAD + name, data=content.encode("latin-1")).status_code == 200
    chains.write(alice, 1)
    chains.anchor()

    verdict = chains.verdict(alice)
    assert (verdict["valid"], verdict["anchored"]["seq"]) == (True, 3)
    assert chains.alarms(alice.tenant_id) == []


def test_two_runs_at_once_and_writers_meanwhile(
    stack: dict[str, Any], admin: Any, alice: Person, aging: Aging, chains: Chains
) -> None:
    chains.write(alice, 1)

    def write_on(number: int) -> None:
        client = Api(stack["api"])
        for each in range(10):
            body = {"name": f"{number}-{each}"}
            assert client.post("/v1/projects", json=body, headers=alice).status_code == 201
        client._session.close()

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(chains.anchor) for _ in range(2)]
        writers = [pool.submit(write_on, number) for number in range(2)]
        for done in runs + writers:
            done.result()
    chains.anchor()

    seqs = {document["head"]["seq"] for _, document in aging.anchors(alice.tenant_id)}
    assert max(seqs) == 21
    assert chains.alarms(alice.tenant_id) == []
    for _, document in aging.anchors(alice.tenant_id):
        row = admin.run(
            "SELECT hash FROM app.audit_events WHERE tenant_id = :t AND seq = :s",
            t=alice.tenant_id,
            s=document["head"]["seq"],
        )
        assert row == [[document["head"]["hash"]]]


def test_a_silent_bucket_loses_nothing(
    admin: Any, alice: Person, aging: Aging, backstage: Backstage, chains: Chains
) -> None:
    chains.write(alice, 2)
    with aging.without_bucket():
        answer = backstage.call("retention", "scheduler", ANCHOR)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
    assert chains.head(alice.tenant_id)["anchored_at"] is None

    chains.anchor()

    assert [document["head"]["seq"] for _, document in aging.anchors(alice.tenant_id)] == [2]


def test_a_run_that_died_before_it_marked_the_head(admin: Any, alice: Person, aging: Aging, chains: Chains) -> None:
    chains.write(alice, 2)
    chains.anchor()
    admin.run("UPDATE app.audit_heads SET anchored_seq = 0, anchored_at = NULL WHERE tenant_id = :t", t=alice.tenant_id)
    chains.anchor()

    assert {document["head"]["seq"] for _, document in aging.anchors(alice.tenant_id)} == {2}
    assert chains.head(alice.tenant_id)["anchored_seq"] == 2
    assert chains.alarms(alice.tenant_id) == []


def test_only_the_scheduler_may_call(backstage: Backstage) -> None:
    assert backstage.call("retention", "workflows", ANCHOR).status_code == 403
    assert backstage.call("retention", "tasks", ANCHOR).status_code == 403
