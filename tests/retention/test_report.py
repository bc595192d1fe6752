"""What a run removed stands in the audit chains: of each organization that lost rows, and of the platform."""

import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pg8000.native

from tests.conftest import Person, database, pid_of, wait_until
from tests.deletions.conftest import Backstage, chain

RUN = "/internal/retention/run"
PLATFORM = "00000000-0000-4000-8000-000000000001"


def invitation(admin: pg8000.native.Connection, by: Person, days: int = 91) -> str:
    """An invitation by a member that expired so many days ago."""
    made = str(uuid.uuid4())
    admin.run(
        "INSERT INTO app.invitations (tenant_id, id, email, role, invited_by, expires_at)"
        " VALUES (:tenant, :id, :email, 'member', :by, now() - make_interval(days => :days))",
        tenant=by.tenant_id,
        id=made,
        email=f"{made}@example.org",
        by=by.user_id,
        days=days,
    )
    return made


def there(admin: pg8000.native.Connection, invitation: str) -> bool:
    return bool(admin.run("SELECT EXISTS (SELECT FROM app.invitations WHERE id = :id)", id=invitation)[0][0])


def told(admin: pg8000.native.Connection, tenant_id: str) -> list[dict[str, Any]]:
    """The data of an organization's reports, oldest first."""
    rows = admin.run(
        "SELECT data FROM app.audit_events WHERE tenant_id = :t AND action = 'retention.completed'"
        " AND actor_type = 'system' AND outcome = 'success' ORDER BY seq",
        t=tenant_id,
    )
    return [row[0] for row in rows]


def waiting(admin: pg8000.native.Connection, tenant_id: str) -> int:
    """Counts that no report has told."""
    sql = "SELECT count(*) FROM platform.retention_counts WHERE organization_id = :t"
    return int(admin.run(sql, t=tenant_id)[0][0])


def test_who_lost_rows_is_told(
    alice: Person, mallory: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    for _ in range(2):
        invitation(admin, alice)
    kept = invitation(admin, mallory, days=89)
    before = len(told(admin, PLATFORM))

    answer = backstage.call("retention", "scheduler", RUN)

    assert answer.json["complete"] is True
    assert answer.json["dry_run"] is False
    assert told(admin, alice.tenant_id) == [{"removed": {"app.invitations": 2}}]
    assert told(admin, mallory.tenant_id) == []
    assert there(admin, kept)
    (report,) = told(admin, PLATFORM)[before:]
    assert report["removed"]["app.invitations"] >= 2
    assert report["complete"] is True
    assert set(report) == {"removed", "expired_exports", "complete"}
    assert waiting(admin, alice.tenant_id) == waiting(admin, PLATFORM) == 0
    assert chain(admin, alice.tenant_id).broken is None


def test_an_organization_that_lost_nothing_more_is_not_told_again(
    alice: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    """Else each report would be the next one's reason, for ever: dropped events are the platform's to tell."""
    invitation(admin, alice)
    backstage.call("retention", "scheduler", RUN)
    admin.run("SELECT platform.count_retired(:t, 'app.audit_events', 7)", t=alice.tenant_id)

    backstage.call("retention", "scheduler", RUN)

    assert len(told(admin, alice.tenant_id)) == 1
    assert told(admin, PLATFORM)[-1]["removed"]["app.audit_events"] >= 7
    assert waiting(admin, alice.tenant_id) == 0


def test_a_dry_run_says_it_and_changes_nothing(
    alice: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    over = invitation(admin, alice)
    before = len(told(admin, PLATFORM))

    plan = backstage.call("retention", "scheduler", f"{RUN}?dry_run=true").json

    assert plan["dry_run"] is True
    assert plan["removed"]["app.invitations"] >= 1
    assert there(admin, over)
    assert told(admin, alice.tenant_id) == []
    assert len(told(admin, PLATFORM)) == before
    again = backstage.call("retention", "scheduler", f"{RUN}?dry_run=true").json
    assert again["removed"]["app.invitations"] == plan["removed"]["app.invitations"]
    done = backstage.call("retention", "scheduler", RUN).json
    assert done["removed"]["app.invitations"] == plan["removed"]["app.invitations"]
    assert not there(admin, over)
    assert backstage.call("retention", "scheduler", f"{RUN}?dry_run=perhaps").status_code == 422


def test_a_legal_hold_keeps_rows_for_as_long_as_it_lasts(
    alice: Person, dan: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    held, free = invitation(admin, alice), invitation(admin, dan)
    hold = str(uuid.uuid4())
    admin.run(
        "INSERT INTO app.legal_holds (tenant_id, id, subject_user_id, reason, until, created_by)"
        " VALUES (:tenant, :id, :person, 'A claim', now() + interval '1 hour', :person)",
        tenant=alice.tenant_id,
        id=hold,
        person=alice.user_id,
    )

    backstage.call("retention", "scheduler", RUN)
    assert (there(admin, held), there(admin, free)) == (True, False)

    admin.run("UPDATE app.legal_holds SET until = now() WHERE id = :id", id=hold)
    backstage.call("retention", "scheduler", RUN)
    assert not there(admin, held)


def test_a_run_that_is_killed_is_told_by_the_next(
    stack: dict[str, Any], alice: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    """The rows are gone and the report waits for the chain, which somebody else has: then the process dies."""
    over = invitation(admin, alice)
    admin.run("SELECT platform.record_event(:t, 'a.b', 'x', NULL, '{}', 'r')", t=alice.tenant_id)
    with database(stack["postgres"]["admin"]) as writer, ThreadPoolExecutor(1) as pool:
        writer.run("BEGIN")
        writer.run("SELECT FROM app.audit_heads WHERE tenant_id = :t FOR UPDATE", t=alice.tenant_id)
        run = pool.submit(backstage.call, "retention", "scheduler", RUN)
        wait_until(lambda: not there(admin, over), what="the removal")
        os.kill(pid_of(stack, "retention"), signal.SIGKILL)
        run.exception()
        assert told(admin, alice.tenant_id) == []
        assert waiting(admin, alice.tenant_id) == 1
        writer.run("ROLLBACK")

    wait_until(lambda: backstage.call("retention", "scheduler", RUN).status_code == 200, what="a run")

    assert told(admin, alice.tenant_id) == [{"removed": {"app.invitations": 1}}]
    assert waiting(admin, alice.tenant_id) == 0
    assert chain(admin, alice.tenant_id).broken is None


def test_two_runs_at_once_tell_each_row_once(
    stack: dict[str, Any], alice: Person, dan: Person, admin: pg8000.native.Connection
) -> None:
    """The engine itself, many times at once: the service works off one request after the other."""
    for person in (alice, dan) * 20:
        invitation(admin, person)
    before = len(told(admin, PLATFORM))

    def run(_: int) -> int:
        with database(stack["postgres"]["admin"]) as connection:
            gone = 0
            while batch := connection.run("SELECT platform.retire('app.invitations', 3)")[0][0]:
                gone += batch
            while connection.run("SELECT platform.report_retired('r')")[0][0]:
                pass
            connection.run("SELECT platform.report_run(true, 'r')")
            return gone

    with ThreadPoolExecutor(4) as pool:
        removed = list(pool.map(run, range(4)))
    run(0)

    assert sum(removed) == 40
    reports = told(admin, alice.tenant_id)
    assert sum(report["removed"]["app.invitations"] for report in reports) == 40
    total = sum(report["removed"].get("app.invitations", 0) for report in told(admin, PLATFORM)[before:])
    assert total == 40
    assert chain(admin, alice.tenant_id).broken is None
    assert chain(admin, PLATFORM).seq >= 5
