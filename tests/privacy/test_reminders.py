"""POST /internal/privacy/remind: seven and two days before a request is due, and once it is overdue; each once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Api, Inbox, People, Person, database, wait_until
from tests.deletions.conftest import Backstage, Erasures
from tests.privacy.conftest import REMIND, REQUESTS, Desk


def notices(admin: pg8000.native.Connection, request_id: str) -> list[tuple[str, str | None]]:
    """Kind and reader of each notice about a request."""
    found = admin.run(
        "SELECT n.kind, n.account_id::text FROM platform.privacy_notices n WHERE job_id = :id ORDER BY created_at",
        id=request_id,
    )
    return [tuple(row) for row in found]


def mails(admin: pg8000.native.Connection, request_id: str) -> int:
    """How many mails about a request were written."""
    found = admin.run(
        "SELECT count(*) FROM platform.outbox o JOIN platform.privacy_notices n ON n.id = o.reference"
        " WHERE n.job_id = :id",
        id=request_id,
    )
    return int(found[0][0])


def move(admin: pg8000.native.Connection, request_id: str, due: timedelta) -> None:
    """Let a request be due so long from now."""
    admin.run("UPDATE platform.exports SET due_at = now() + :due WHERE id = :id", due=due, id=request_id)
    admin.run("UPDATE platform.deletions SET due_at = now() + :due WHERE job_id = :id", due=due, id=request_id)


@pytest.mark.parametrize("kind", ["export", "deletion"])
def test_it_works(
    alice: Person, vera: Person, desk: Desk, inbox: Inbox, admin: pg8000.native.Connection, kind: str
) -> None:
    request = desk.export(vera) if kind == "export" else desk.erasure(vera, approval_needed=True)
    words = {"week": "due in a week", "two_days": "due in two days", "overdue": "is overdue"}
    desk.remind()
    assert notices(admin, request) == []

    for level, due in (("week", timedelta(days=6)), ("two_days", timedelta(days=1)), ("overdue", timedelta(hours=-1))):
        move(admin, request, due)
        desk.remind()
        desk.remind()
        assert notices(admin, request)[-1] == (level, alice.user_id)
        desk.drain()
        mail = inbox.wait_for(alice.email, words[level])
        assert request in mail["text"]
        for personal in (vera.email, vera.name, vera.user_id):
            assert personal not in mail["text"]

    assert [level for level, _ in notices(admin, request)] == list(words)


def test_who_may_act_on_it_is_told(
    people: People,
    alice: Person,
    dan: Person,
    vera: Person,
    mallory: Person,
    desk: Desk,
    admin: pg8000.native.Connection,
) -> None:
    """Owners, admins and whoever has a role with the right; nobody else, and nobody whose account is frozen."""
    officer, frozen = people.create("admin", alice.tenant_id), people.create("admin", alice.tenant_id)
    role = admin.run(
        "INSERT INTO app.roles (tenant_id, name, permissions) VALUES (:t, 'DPO', '{audit.view,deletion.create}')"
        " RETURNING id",
        t=alice.tenant_id,
    )[0][0]
    admin.run("UPDATE app.members SET role = NULL, role_id = :r WHERE user_id = :u", r=role, u=dan.user_id)
    admin.run("UPDATE identity.accounts SET status = 'frozen' WHERE id = :id", id=frozen.user_id)
    request = desk.erasure(vera, due=timedelta(days=1))

    desk.remind()

    assert sorted(notices(admin, request)) == sorted(("two_days", person.user_id) for person in (alice, officer, dan))


def test_at_most_twenty(
    people: People, alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    for _ in range(25):
        people.create("admin", alice.tenant_id)
    request = desk.erasure(vera, due=timedelta(days=1))
    desk.remind()
    told = notices(admin, request)
    assert len(told) == 20
    assert ("two_days", alice.user_id) in told


def test_who_comes_later_is_not_told(
    people: People, alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    request = desk.erasure(vera, due=timedelta(days=1))
    desk.remind()
    people.create("admin", alice.tenant_id)

    desk.remind()

    assert notices(admin, request) == [("two_days", alice.user_id)]


def test_two_runs_at_once_write_each_once(
    people: People, backstage: Backstage, desk: Desk, admin: pg8000.native.Connection
) -> None:
    owners = [people.create("owner") for _ in range(12)]
    made = [desk.export(owner, due=timedelta(days=1)) for owner in owners]

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: backstage.call("retention", "scheduler", REMIND), range(4)))

    assert {answer.status_code for answer in answers} == {200}
    for request, owner in zip(made, owners, strict=True):
        assert notices(admin, request) == [("two_days", owner.user_id)]
    assert [mails(admin, request) for request in made] == [1] * len(made)


def test_a_run_that_meets_another_waits_and_writes_nothing(
    stack: dict[str, Any], alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    request = desk.export(vera, due=timedelta(days=1))
    run = "SELECT count(*) FROM platform.remind_of_deadlines(true) WHERE job_id = :id"
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE pid = :pid AND wait_event_type = 'Lock'"
    with database(stack["postgres"]["admin"]) as second, ThreadPoolExecutor(1) as pool:
        pid = second.run("SELECT pg_backend_pid()")[0][0]
        admin.run("BEGIN")
        assert admin.run(run, id=request) == [[1]]
        waiting = pool.submit(second.run, run, id=request)
        wait_until(lambda: admin.run(blocked, pid=pid) == [[1]], what="the second run at the first one's row")
        admin.run("COMMIT")
        assert waiting.result(30) == [[0]]

    assert notices(admin, request) == [("two_days", alice.user_id)]
    assert mails(admin, request) == 1


def test_a_notice_and_its_mail_are_one(
    alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    """A run that dies before its commit has written neither: the next one writes both."""
    request = desk.export(vera, due=timedelta(days=1))
    admin.run("BEGIN")
    admin.run("SELECT platform.remind_of_deadlines(true)")
    assert notices(admin, request) != []
    admin.run("ROLLBACK")

    desk.remind()

    assert notices(admin, request) == [("two_days", alice.user_id)]
    assert mails(admin, request) == 1


def test_what_is_answered_needs_no_reminder(
    alice: Person, vera: Person, desk: Desk, inbox: Inbox, admin: pg8000.native.Connection
) -> None:
    over = [
        desk.export(vera, due=timedelta(days=1), status="ready", job_status="done"),
        desk.erasure(vera, due=timedelta(days=-1), job_status="cancelled"),
    ]
    answered_since = desk.export(vera, due=timedelta(days=1))
    desk.remind()
    assert [notices(admin, each) for each in over] == [[], []]
    admin.run("UPDATE platform.exports SET status = 'ready' WHERE id = :id", id=answered_since)
    desk.drain()
    delivered = (
        "SELECT bool_and(o.delivered_at IS NOT NULL) FROM platform.outbox o"
        " JOIN platform.privacy_notices n ON n.id = o.reference WHERE n.job_id = :id"
    )
    wait_until(lambda: admin.run(delivered, id=answered_since) == [[True]], what="the end of the mail")
    assert inbox.messages(alice.email) == []


def test_after_an_extension_it_begins_anew(
    api: Api, alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    request = desk.erasure(vera, due=timedelta(days=1))
    desk.remind()
    api.post(f"{REQUESTS}/{request}/extend", json={"reason": "x"}, headers=alice)
    desk.remind()
    assert [kind for kind, _ in notices(admin, request)] == ["two_days", "extended"]
    move(admin, request, timedelta(days=1))
    desk.remind()
    assert [kind for kind, _ in notices(admin, request)] == ["two_days", "extended", "two_days"]


def test_who_is_erased_leaves_no_notice(
    api: Api, people: People, alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    other = people.create("owner", alice.tenant_id)
    request = desk.export(vera, due=timedelta(days=1))
    desk.remind()
    notice = admin.run("SELECT id FROM platform.privacy_notices WHERE account_id = :id", id=alice.user_id)[0][0]
    erasures = Erasures(api, admin)

    erasures.erase(alice)

    assert notices(admin, request) == [("two_days", other.user_id)]
    assert admin.run("SELECT count(*) FROM platform.outbox WHERE reference = :id", id=notice) == [[0]]


def test_without_an_address_the_operator_is_told_in_the_log(
    stack: dict[str, Any], vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    """A person's own request is the platform's to answer; this stack has no PRIVACY_MAIL."""
    request = desk.erasure(vera, "me", due=timedelta(days=1))

    desk.remind()

    assert notices(admin, request) == [("two_days", None)]
    assert mails(admin, request) == 0
    log = Path(stack["path"]).parent / "log" / "retention.log"
    (line,) = [line for line in log.read_text().splitlines() if request in line]
    assert '"severity":"CRITICAL"' in line.replace(" ", "")
    assert vera.user_id not in line


def test_only_the_scheduler_may_call(backstage: Backstage) -> None:
    for account in ("workflows", "tasks", "gateway"):
        assert backstage.call("retention", account, REMIND).status_code == 403
