"""POST /internal/privacy/remind: a day before the 72 hours of an incident are over, and once they are; each once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Api, Inbox, People, Person, wait_until
from tests.deletions.conftest import Backstage
from tests.privacy.conftest import REMIND, Desk
from tests.privacy.incidents import Officer, ago


@pytest.fixture
def officer(api: Api, admin: pg8000.native.Connection, alice: Person) -> Officer:
    return Officer(api, admin, alice)


def alarms(admin: pg8000.native.Connection, incident_id: str) -> list[tuple[str, str | None]]:
    """Level and reader of every mail about an incident, in order."""
    rows = admin.run(
        "SELECT kind, account_id::text FROM platform.incident_mails WHERE incident_id = :id ORDER BY created_at, kind",
        id=incident_id,
    )
    return [(kind, reader) for kind, reader in rows]


def log_lines(stack: dict[str, Any], incident_id: str) -> list[str]:
    log = Path(stack["path"]).parent / "log" / "retention.log"
    return [line for line in log.read_text().splitlines() if incident_id in line]


def test_each_level_once(
    stack: dict[str, Any], officer: Officer, desk: Desk, inbox: Inbox, admin: pg8000.native.Connection, alice: Person
) -> None:
    made = officer.open(title="Secret title", detected_at=ago(hours=47))
    desk.remind()
    assert alarms(admin, made["id"]) == []

    admin.run(
        "UPDATE app.incidents SET detected_at = now() - interval '49 hours' WHERE tenant_id = :t", t=alice.tenant_id
    )
    desk.remind()
    desk.remind()
    assert alarms(admin, made["id"]) == [("due", alice.user_id)]
    admin.run(
        "UPDATE app.incidents SET detected_at = now() - interval '73 hours' WHERE tenant_id = :t", t=alice.tenant_id
    )
    desk.remind()
    desk.remind()
    assert alarms(admin, made["id"]) == [("due", alice.user_id), ("overdue", alice.user_id)]

    desk.drain()
    mail = inbox.wait_for(alice.email, "the 72 hours of an incident are over")
    assert made["id"] in mail["text"]
    assert "Secret" not in mail["text"]
    assert all('"severity":"CRITICAL"' in line.replace(" ", "") for line in log_lines(stack, made["id"]))
    assert len(log_lines(stack, made["id"])) == 2


def test_who_may_act_is_told(
    people: People, officer: Officer, desk: Desk, admin: pg8000.native.Connection, dan: Person, mallory: Person
) -> None:
    second, frozen = (people.create("admin", officer.person.tenant_id) for _ in range(2))
    admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :id", id=frozen.user_id)
    made = officer.open(detected_at=ago(hours=60))
    desk.remind()
    assert sorted(alarms(admin, made["id"])) == sorted(("due", each.user_id) for each in (officer.person, second))


def test_what_is_decided_is_quiet(
    officer: Officer, desk: Desk, inbox: Inbox, admin: pg8000.native.Connection, alice: Person
) -> None:
    told, unlikely = officer.open(detected_at=ago(hours=60)), officer.open(detected_at=ago(hours=60))
    since = officer.open(detected_at=ago(hours=60))
    officer.tell(told["id"])
    officer.change(unlikely["id"], risk="unlikely", no_notification_reason="encrypted")
    desk.remind()
    assert [alarms(admin, each["id"]) for each in (told, unlikely)] == [[], []]
    assert len(alarms(admin, since["id"])) == 1
    officer.tell(since["id"])
    desk.drain()
    delivered = (
        "SELECT bool_and(o.delivered_at IS NOT NULL) FROM platform.outbox o"
        " JOIN platform.incident_mails n ON n.id = o.reference WHERE n.incident_id = :id"
    )
    wait_until(lambda: admin.run(delivered, id=since["id"]) == [[True]], what="the end of the mail")
    assert inbox.messages(alice.email) == []


def test_nobody_there_is_loud(
    stack: dict[str, Any], officer: Officer, desk: Desk, admin: pg8000.native.Connection, alice: Person
) -> None:
    made = officer.open(detected_at=ago(hours=90))
    admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :id", id=alice.user_id)
    desk.remind()
    assert alarms(admin, made["id"]) == [("overdue", None)]
    (line,) = log_lines(stack, made["id"])
    assert '"mails":0' in line.replace(" ", "")


def test_two_runs_at_once_write_each_once(
    api: Api, admin: pg8000.native.Connection, people: People, backstage: Backstage
) -> None:
    officers = [Officer(api, admin, people.create("owner")) for _ in range(6)]
    made = [officer.open(detected_at=ago(hours=60))["id"] for officer in officers]
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: backstage.call("retention", "scheduler", REMIND), range(3)))
    assert {answer.status_code for answer in answers} == {200}
    assert [alarms(admin, each) for each in made] == [[("due", officer.person.user_id)] for officer in officers]
    assert sum(answer.json["incidents"] for answer in answers) >= len(made)
