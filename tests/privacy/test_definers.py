"""What injected SQL gets from the desk's functions: no more than the sealed caller may have."""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Person
from tests.privacy.conftest import Desk, due_at
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


def attempts(request_id: str, victim: Person) -> list[str]:
    everything = "NULL, NULL, NULL, 'infinity', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 100"
    new = uuid.uuid4()
    return [
        f"SELECT * FROM platform.privacy_requests({everything})",
        f"SELECT platform.privacy_request('{request_id}')",
        f"SELECT platform.extend_request('{request_id}', 2, 'x')",
        f"SELECT platform.approve_deletion('{request_id}', 'erase')",
        f"SELECT platform.receive_export('{new}', '{victim.user_id}', now(), 'x')",
        f"SELECT platform.receive_erasure('{new}', '{victim.user_id}', now(), 'x', interval '0')",
        "SELECT * FROM platform.privacy_concerns()",
        "SELECT * FROM platform.privacy_queue",
        "SELECT * FROM platform.privacy_notices",
        "SELECT platform.remind_of_deadlines(true)",
        "SELECT platform.requeue_stuck_jobs('0', '0')",
        "COMMIT",
    ]


@pytest.mark.parametrize("who", ["mallory", "viewer", "nobody"])
def test_nobody_gets_what_is_not_theirs(
    attackers: Attackers,
    vera: Person,
    dan: Person,
    mallory: Person,
    desk: Desk,
    admin: pg8000.native.Connection,
    who: str,
) -> None:
    """Another organization's officer, a colleague without the right, and somebody without a seal."""
    request = desk.erasure(dan, approval_needed=True, reason="private words")
    before, attacker = due_at(admin, request), attackers("audit_fn")
    if who == "nobody":
        attacker.connection.run("BEGIN")
    else:
        attacker.begin_sealed(mallory if who == "mallory" else vera)

    seen = attacker.try_all(attempts(request, dan))

    assert "private words" not in seen
    assert dan.user_id not in seen.replace(f"'{dan.user_id}'", "")
    assert due_at(admin, request) == before
    assert admin.run("SELECT approved_at FROM platform.deletions WHERE job_id = :id", id=request) == [[None]]
    made = "SELECT count(*) FROM platform.exports WHERE subject_account_id = :id"
    assert admin.run(made, id=dan.user_id) == [[0]]


def test_the_officer_gets_it_by_the_same_calls(attackers: Attackers, alice: Person, dan: Person, desk: Desk) -> None:
    """What the test above rests on."""
    request = desk.erasure(dan, approval_needed=True, reason="private words")
    attacker = attackers("audit_fn")
    attacker.begin_sealed(alice)
    assert "private words" in attacker.try_all(attempts(request, dan))


def test_a_mail_is_told_to_its_sender_alone(
    attackers: Attackers, alice: Person, vera: Person, mallory: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    request = desk.export(vera, due=timedelta(days=1))
    desk.remind()
    mail = admin.run(
        "SELECT o.id FROM platform.outbox o JOIN platform.privacy_notices n ON n.id = o.reference WHERE n.job_id = :id",
        id=request,
    )[0][0]
    admin.run("UPDATE platform.outbox SET claimed_until = now() + interval '1 hour' WHERE id = :id", id=mail)
    attacker = attackers("auth_fn")
    attacker.begin_sealed(mallory)

    seen = attacker.try_all([f"SELECT * FROM platform.privacy_notice('{mail}')", "COMMIT"])

    assert alice.email not in seen
    assert request not in seen
