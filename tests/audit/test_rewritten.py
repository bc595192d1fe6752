"""What an administrator of the database might try, who may write whatever they like: the anchors tell."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.audit.chains import Signer
from tests.audit.conftest import Ledger

EVENTS, ANCHORED = 5, 3
ALTER = "UPDATE app.audit_events SET outcome = 'failure' WHERE tenant_id = :t AND seq = "
DELETE = "DELETE FROM app.audit_events WHERE tenant_id = :t AND seq "
HEAD = "UPDATE app.audit_heads SET seq = {0}, hash = (SELECT e.hash FROM app.audit_events e" + (
    " WHERE e.tenant_id = :t AND e.seq = least({0}, 5)) WHERE tenant_id = :t"
)


class Attack(NamedTuple):
    """What is done; where the API finds it; where an auditor finds it in an export that is made afterwards.

    Such an export begins with an event of its own. None: nothing is found. NO_EXPORT: no event can be appended.
    """

    act: Callable[[Ledger], None]
    api: int | None
    auditor: int | None


NO_EXPORT = -1


def by(*statements: str, rehash: int = 0) -> Callable[[Ledger], None]:
    def act(ledger: Ledger) -> None:
        ledger.run(*statements)
        if rehash:
            ledger.rehash(rehash)

    return act


def swap_organizations(ledger: Ledger) -> None:
    """Another organization's chain in the place of this one: every link holds."""
    (other,) = ledger.admin.run(
        "INSERT INTO app.organizations (tenant_id, slug, name) VALUES (gen_random_uuid(), 'x', 'X') RETURNING tenant_id"
    )[0]
    ledger.admin.run(
        "SELECT platform.record_event(CAST(:o AS uuid), 'x.y', 'x', NULL, '{}', 'r') FROM generate_series(1, 5)",
        o=other,
    )
    ledger.run("DELETE FROM app.audit_events WHERE tenant_id = :t", "DELETE FROM app.audit_heads WHERE tenant_id = :t")
    for table in ("app.audit_events", "app.audit_heads"):
        ledger.admin.run(f"UPDATE {table} SET tenant_id = :t WHERE tenant_id = :o", t=ledger.id, o=other)


def forge_checkpoint(ledger: Ledger) -> None:
    """Signed by a key of their own, over the very point that an anchor names."""
    ledger.move_base(ANCHORED)
    forged = Signer().sign(
        {"kind": "audit_checkpoint", "organization_id": ledger.id, "base": point_of_base(ledger), "at": "x"}
    )
    ledger.admin.run(
        "UPDATE app.audit_heads SET checkpoint = CAST(:c AS jsonb) WHERE tenant_id = :t",
        c=json.dumps(forged),
        t=ledger.id,
    )


def head_before_base(ledger: Ledger) -> None:
    """What is written from now on has a seq that nobody looks at any more, and that nothing keeps from being used."""
    ledger.move_base(ANCHORED)
    ledger.run(DELETE + "> 3", "UPDATE app.audit_heads SET seq = 1 WHERE tenant_id = :t")


def point_of_base(ledger: Ledger) -> dict[str, Any]:
    (row,) = ledger.admin.run("SELECT base_seq, base_hash FROM app.audit_heads WHERE tenant_id = :t", t=ledger.id)
    return {"seq": row[0], "hash": row[1]}


UNREADABLE = "UPDATE app.audit_events SET data = CAST({} AS jsonb) WHERE tenant_id = :t AND seq = 2"
MOVE = (
    "UPDATE app.audit_heads h SET base_seq = 2, base_hash = e.hash FROM app.audit_events e"
    " WHERE h.tenant_id = :t AND e.tenant_id = :t AND e.seq = 2"
)
ATTACKS = {
    "a change, and all behind it hashed anew": Attack(by(ALTER + "2", rehash=2), 3, 3),
    "a change of the anchored event itself": Attack(by(ALTER + "3", rehash=3), 3, 3),
    "a number that nobody can read": Attack(by(UNREADABLE.format("repeat('9', 5000)")), 2, 2),
    "a depth that nobody can read": Attack(by(UNREADABLE.format("repeat('[', 3000) || repeat(']', 3000)")), 2, 2),
    "a change after the last anchor, hashed anew": Attack(by(ALTER + "4", rehash=4), None, None),
    "the whole chain invented": Attack(by(ALTER + "1", rehash=1), 3, 3),
    "a cut tail, and the head put back": Attack(by(HEAD.format(2), DELETE + "> 2"), 3, 3),
    "a cut tail, the head left": Attack(by(DELETE + "> 3"), 4, 4),
    "the head put back, its events left": Attack(by(HEAD.format(3)), 4, NO_EXPORT),
    "the head put forward": Attack(by(HEAD.format(9)), 6, 6),
    "another hash of the head": Attack(
        by("UPDATE app.audit_heads SET hash = repeat('a', 64) WHERE tenant_id = :t"), 5, 6
    ),
    "no head": Attack(by("DELETE FROM app.audit_heads WHERE tenant_id = :t"), 1, NO_EXPORT),
    "no head and no event": Attack(by("DELETE FROM app.audit_heads WHERE tenant_id = :t", DELETE + "> 0"), 1, 2),
    "an event behind the head": Attack(
        by(
            "INSERT INTO app.audit_events SELECT tenant_id, 6, at, actor_type, actor_id, action, resource_type,"
            " resource_id, outcome, request_id, data, personal, personal_salt, personal_hash, hash, hash"
            " FROM app.audit_events WHERE tenant_id = :t AND seq = 5"
        ),
        6,
        NO_EXPORT,
    ),
    "an event far behind the head": Attack(
        by(
            "INSERT INTO app.audit_events SELECT tenant_id, 9223372036854775807, at, actor_type, actor_id, action,"
            " resource_type, resource_id, outcome, request_id, data, personal, personal_salt, personal_hash, hash, hash"
            " FROM app.audit_events WHERE tenant_id = :t AND seq = 5"
        ),
        6,
        7,
    ),
    "two events swapped": Attack(
        by(
            "UPDATE app.audit_events SET seq = -seq WHERE tenant_id = :t AND seq IN (2, 3)",
            "UPDATE app.audit_events SET seq = 5 + seq WHERE tenant_id = :t AND seq < 0",
        ),
        2,
        2,
    ),
    "the base moved": Attack(by(MOVE, DELETE + "<= 2"), 1, 1),
    "the base moved, nothing dropped": Attack(by(MOVE), 1, 1),
    "the base moved with our signature, to where no anchor is": Attack(lambda ledger: ledger.move_base(2), 1, None),
    "the base moved behind the anchor": Attack(lambda ledger: ledger.move_base(4), 1, None),
    "the base moved with another's signature": Attack(forge_checkpoint, 1, 1),
    "another organization's checkpoint": Attack(lambda ledger: ledger.move_base(3, organization_id="x"), 1, 1),
    "an anchor for a checkpoint": Attack(lambda ledger: ledger.move_base(3, kind="audit_anchor"), 1, 1),
    "the head put back before the base": Attack(head_before_base, 2, NO_EXPORT),
    "another origin": Attack(by("UPDATE app.audit_heads SET base_hash = repeat('a', 64) WHERE tenant_id = :t"), 1, 1),
    "the chain of another organization": Attack(swap_organizations, 3, 3),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_it_is_found(ledger: Ledger, name: str) -> None:
    attack = ATTACKS[name]
    ledger.write(EVENTS)
    anchor = ledger.anchor(ANCHORED)
    attack.act(ledger)

    assert ledger.verdict()["first_broken_seq"] == attack.api
    if attack.auditor != NO_EXPORT:
        file = ledger.file()
        assert ledger.audited(file) == attack.auditor, ledger.said
        assert ledger.audited(file, anchor=anchor) == attack.auditor, ledger.said


def test_it_works(ledger: Ledger) -> None:
    ledger.write(EVENTS)
    anchor = ledger.anchor(ANCHORED)

    verdict = ledger.verdict()

    assert verdict == {
        "valid": True,
        "checked": EVENTS,
        "base": {"seq": 0, "hash": "0" * 64},
        "head": ledger.point(EVENTS),
        "anchored": {**ledger.point(ANCHORED), "at": anchor["at"]},
        "first_broken_seq": None,
    }


def test_what_retention_drops_is_not_missing(ledger: Ledger) -> None:
    """Behind a checkpoint of ours, where an anchor was; rows that are still to go are no part of the chain any more."""
    ledger.write(EVENTS)
    anchor = ledger.anchor(ANCHORED)
    base = ledger.point(ANCHORED)
    ledger.move_base(ANCHORED)

    verdict = ledger.verdict()
    assert (verdict["valid"], verdict["checked"], verdict["base"]) == (True, 2, base)
    assert ledger.audited(ledger.file(), anchor=anchor) is None, ledger.said
    assert f"{EVENTS + 1 - ANCHORED} events checked" in ledger.said


def test_an_anchor_alone_proves_the_base_of_an_older_one(ledger: Ledger) -> None:
    """Anchors age out of the bucket; the base of a chain that rests stands in each newer one."""
    ledger.write(EVENTS)
    ledger.anchor(4, base=ANCHORED)
    ledger.move_base(ANCHORED)
    assert ledger.verdict()["valid"] is True


def test_without_the_anchors_nothing_is_said(ledger: Ledger) -> None:
    ledger.write(EVENTS)
    with ledger.without_anchors():
        for path in ("verify", "export"):
            answer = ledger.api.get(f"/v1/audit-events/{path}", headers=ledger.person)
            assert (answer.status_code, answer.json["code"]) == (503, "unavailable"), answer.text
            assert "Retry-After" in answer.headers
    assert ledger.verdict()["valid"] is True
