"""Audit events go in one way only: from the beginning, when they are over, anchored and not held; whoever asks."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Api, Person
from tests.tenancy.conftest import Attacker

MOVE = "SELECT platform.move_audit_base(:t, :was, :seq, :hash, CAST(:signed AS jsonb))"
ANCHORED = 4


@pytest.fixture
def retention(stack: dict[str, Any]) -> Iterator[Attacker]:
    """SQL in the retention service, which has every chain to look after."""
    attacker = Attacker(stack, "retention_fn")
    attacker.connection.run("BEGIN")
    attacker.authorize(attacker.token(kind="s"))
    yield attacker
    attacker.connection.close()


@pytest.fixture
def old(api: Api, admin: pg8000.native.Connection, alice: Person) -> Person:
    """Alice, with five events of which three are over and the fourth is anchored."""
    for _ in range(5):
        assert api.post("/v1/projects", json={"name": str(uuid.uuid4())}, headers=alice).status_code == 201
    change = "UPDATE app.audit_events SET at = now() - interval '91 days' WHERE tenant_id = :t AND seq <= 3"
    admin.run(change, t=alice.tenant_id)
    mark = "UPDATE app.audit_heads SET anchored_seq = :seq, anchored_at = now() WHERE tenant_id = :t"
    admin.run(mark, t=alice.tenant_id, seq=ANCHORED)
    return alice


def asked(admin: pg8000.native.Connection, person: Person, seq: int, **changed: Any) -> dict[str, Any]:
    """The parameters of a move to an event, right unless changed; `facts` change the checkpoint."""
    tenant = person.tenant_id
    rows = admin.run("SELECT hash FROM app.audit_events WHERE tenant_id = :t AND seq = :s", t=tenant, s=seq)
    digest = rows[0][0] if rows else "0" * 64
    facts = {
        "kind": "audit_checkpoint",
        "organization_id": tenant,
        "base": {"seq": seq, "hash": digest},
        "before": {"seq": 0, "hash": "0" * 64},
        **changed.pop("facts", {}),
    }
    return {"t": tenant, "was": 0, "seq": seq, "hash": digest, "signed": json.dumps(facts), **changed}


def base(admin: pg8000.native.Connection, person: Person) -> int:
    rows = admin.run("SELECT base_seq FROM app.audit_heads WHERE tenant_id = :t", t=person.tenant_id)
    return int(rows[0][0])


def seqs(admin: pg8000.native.Connection, person: Person) -> list[int]:
    rows = admin.run("SELECT seq FROM app.audit_events WHERE tenant_id = :t ORDER BY seq", t=person.tenant_id)
    return [row[0] for row in rows]


REFUSED: dict[str, tuple[int, dict[str, Any]]] = {
    "an event that is not over": (4, {}),
    "an event that is not anchored": (5, {}),
    "an event that is not there": (9, {}),
    "another hash": (3, {"hash": "a" * 64}),
    "no event at all": (0, {}),
    "a checkpoint of another kind": (3, {"facts": {"kind": "audit_anchor"}}),
    "a checkpoint of another organization": (3, {"facts": {"organization_id": str(uuid.uuid4())}}),
    "a checkpoint of another base": (3, {"facts": {"base": {"seq": 2, "hash": "a" * 64}}}),
    "a checkpoint from another base": (3, {"facts": {"before": {"seq": 1, "hash": "a" * 64}}}),
    "no checkpoint": (3, {"signed": "null"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_base_does_not_move(retention: Attacker, admin: Any, old: Person, case: str) -> None:
    seq, changed = REFUSED[case]

    outcome = retention.connection.run(MOVE, **asked(admin, old, seq, **dict(changed)))
    retention.connection.run("COMMIT")

    assert outcome == [["refused"]]
    assert base(admin, old) == 0


def test_what_is_over_and_anchored_may_go(retention: Attacker, admin: Any, old: Person) -> None:
    """The harness is not blind; and no more goes than the base has passed."""
    assert retention.connection.run(MOVE, **asked(admin, old, 3)) == [["moved"]]
    assert retention.connection.run(MOVE, **asked(admin, old, 2)) == [["raced"]]
    drop = "SELECT platform.drop_events(:t, 0, 1000)"
    assert retention.connection.run(drop, t=old.tenant_id) == [[3]]
    retention.connection.run("COMMIT")

    assert base(admin, old) == 3
    assert seqs(admin, old) == [4, 5]


def test_a_gap_is_not_covered_up(retention: Attacker, admin: Any, old: Person) -> None:
    admin.run("DELETE FROM app.audit_events WHERE tenant_id = :t AND seq = 2", t=old.tenant_id)
    assert retention.connection.run(MOVE, **asked(admin, old, 3)) == [["refused"]]


def test_a_held_persons_event_stays(retention: Attacker, admin: Any, old: Person) -> None:
    admin.run(
        "INSERT INTO app.legal_holds (tenant_id, subject_user_id, reason, until, created_by)"
        " VALUES (:t, :u, 'A claim', now() + interval '1 day', :u)",
        t=old.tenant_id,
        u=old.user_id,
    )
    assert retention.connection.run(MOVE, **asked(admin, old, 3)) == [["refused"]]


def test_not_even_the_definer_deletes_or_rewrites(admin: Any, old: Person) -> None:
    """The owner of the functions, sealed for the organization as they are."""
    admin.run("BEGIN")
    admin.run("SELECT platform.enter_chain(:t)", t=old.tenant_id)
    admin.run("SET LOCAL ROLE context_definer")
    admin.run("DELETE FROM app.audit_events WHERE tenant_id = :t", t=old.tenant_id)
    admin.run("DELETE FROM app.audit_heads WHERE tenant_id = :t", t=old.tenant_id)
    admin.run("COMMIT")

    assert seqs(admin, old) == [1, 2, 3, 4, 5]
    assert base(admin, old) == 0


@pytest.mark.parametrize("role", ["audit_fn", "exports_jobs_fn"])
def test_what_was_dropped_is_read_by_nobody(stack: dict[str, Any], admin: Any, old: Person, role: str) -> None:
    """Though its rows still stand."""
    admin.run("UPDATE app.audit_heads SET base_seq = 3 WHERE tenant_id = :t", t=old.tenant_id)
    attacker = Attacker(stack, role)
    job = str(uuid.uuid4())
    admin.run("INSERT INTO platform.jobs (id, kind, status) VALUES (:id, 'export', 'running')", id=job)
    admin.run("INSERT INTO platform.job_tenants (job_id, tenant_id) VALUES (:id, :t)", id=job, t=old.tenant_id)
    attacker.begin_sealed(old, job)

    seen = attacker.connection.run("SELECT seq FROM app.audit_events ORDER BY seq")
    attacker.connection.close()

    assert seen == [[4], [5]]
