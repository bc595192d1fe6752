"""What injected SQL gets from the functions of incidents: no more than the sealed caller may have."""

from collections.abc import Callable, Iterator
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Api, Person
from tests.privacy.incidents import Officer, ago
from tests.tenancy.conftest import Attacker

Attackers = Callable[[str], Attacker]
SECRET = "private words"
TIMES = "now() - interval '1 day', now() + interval '1 day', NULL, NULL"


@pytest.fixture
def attackers(stack: dict[str, Any]) -> Iterator[Attackers]:
    made: list[Attacker] = []

    def of(role: str) -> Attacker:
        made.append(Attacker(stack, role))
        return made[-1]

    yield of
    for attacker in made:
        attacker.connection.close()


def attempts(incident: str, victim: Person) -> list[str]:
    return [
        "SELECT * FROM app.incidents",
        "SELECT * FROM app.incident_notices",
        "SELECT * FROM app.incident_subjects",
        "SELECT app.incident_json(i) FROM app.incidents i",
        f"SELECT * FROM app.incident_people({TIMES})",
        f"SELECT app.incident_facts({TIMES})",
        f"SELECT * FROM app.incident_events({TIMES})",
        f"SELECT app.keep_scope('{incident}', {TIMES}, 1, ARRAY['billing'])",
        f"SELECT platform.mail_incident_draft('{incident}', 'draft_authority')",
        f"SELECT platform.tell_incident_subjects('{incident}', 'x')",
        f"UPDATE app.incidents SET title = 'taken', version = 9 WHERE id = '{incident}'",
        f"UPDATE app.incidents SET first_detected_at = now(), created_by = NULL WHERE id = '{incident}'",
        "UPDATE app.incident_notices SET told_at = now()",
        "DELETE FROM app.incident_notices",
        f"DELETE FROM app.incidents WHERE id = '{incident}'",
        "SELECT * FROM platform.incidents",
        "SELECT * FROM platform.incident_mails",
        "SELECT * FROM platform.list_incidents(100)",
        f"SELECT platform.fan_out_incident('{incident}', 9, 'x')",
        "SELECT * FROM platform.remind_of_incidents(true)",
        f"SELECT * FROM platform.incident_managers('{victim.tenant_id}')",
        f"SELECT platform.post_incident_mails('{victim.tenant_id}', '{incident}', 'told', now(),"
        f" ARRAY['{victim.user_id}'::uuid], NULL)",
        "COMMIT",
    ]


@pytest.mark.parametrize("who", ["mallory", "viewer", "nobody"])
def test_nobody_gets_what_is_not_theirs(
    api: Api,
    admin: pg8000.native.Connection,
    attackers: Attackers,
    alice: Person,
    vera: Person,
    dan: Person,
    mallory: Person,
    who: str,
) -> None:
    """Another organization's officer, a colleague without the right, and somebody without a seal."""
    officer = Officer(api, admin, alice)
    made = officer.open(title=SECRET)
    officer.happened("user.updated", dan, dan.user_id)
    officer.keep_scope(made["id"], **{"from": ago(hours=1), "to": ago()})
    officer.tell(made["id"], reference=SECRET)
    before = officer.read(made["id"])
    attacker = attackers("audit_fn")
    if who == "nobody":
        attacker.connection.run("BEGIN")
    else:
        attacker.begin_sealed(mallory if who == "mallory" else vera)

    seen = attacker.try_all(attempts(made["id"], alice))

    assert SECRET not in seen
    assert dan.user_id not in seen
    assert officer.read(made["id"]) == before
    mails = "SELECT count(*) FROM platform.incident_mails WHERE incident_id = :id"
    assert admin.run(mails, id=made["id"]) == [[0]]


def test_the_officer_gets_it_by_the_same_calls_but_changes_no_notice(
    api: Api, admin: pg8000.native.Connection, attackers: Attackers, alice: Person, dan: Person
) -> None:
    """What the test above rests on; and what the record promises: notices, and what was stated first, stay."""
    officer = Officer(api, admin, alice)
    made = officer.open(title=SECRET)
    told = officer.tell(made["id"], told_at=ago(minutes=30)).json
    attacker = attackers("audit_fn")
    attacker.begin_sealed(alice)

    assert SECRET in attacker.try_all(attempts(made["id"], alice))

    after = officer.read(made["id"])
    assert told in after["notices"]
    assert (after["first_detected_at"], after["created_by"]) == (made["first_detected_at"], alice.user_id)
