"""POST /internal/jobs/requeue: a silent job starts anew; one that gets no further is shown, and tried every hour."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Person
from tests.privacy.conftest import Desk

STALLS = 5


def let_pass(admin: pg8000.native.Connection, request_id: str, minutes: int) -> None:
    admin.run(
        "UPDATE platform.jobs SET heartbeat_at = heartbeat_at - make_interval(mins => :minutes) WHERE id = :id",
        minutes=minutes,
        id=request_id,
    )


def started(admin: pg8000.native.Connection, request_id: str) -> int:
    """How many messages have started the job."""
    return int(admin.run("SELECT count(*) FROM platform.outbox WHERE reference = :id", id=request_id)[0][0])


def fall_silent(admin: pg8000.native.Connection, desk: Desk, request_id: str, times: int) -> None:
    """An execution takes the job, does nothing, and dies; so often."""
    for _ in range(times):
        admin.run(
            "UPDATE platform.jobs SET status = 'running', execution_id = 'x', attempts = attempts + 1 WHERE id = :id",
            id=request_id,
        )
        let_pass(admin, request_id, 16)
        desk.requeue()


@pytest.mark.parametrize("kind", ["export", "deletion"])
def test_it_is_shown_and_tried_every_hour(
    stack: dict[str, Any], alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection, kind: str
) -> None:
    request = desk.export(vera) if kind == "export" else desk.erasure(vera)
    fall_silent(admin, desk, request, STALLS - 1)
    shown = desk.read(alice, request)
    assert (shown["stuck"], shown["attempts"], started(admin, request)) == (False, STALLS - 1, STALLS - 1)

    fall_silent(admin, desk, request, 1)

    shown = desk.read(alice, request)
    assert (shown["stuck"], shown["reason"], shown["attempts"]) == (True, "no_heartbeat", STALLS)
    log = (Path(stack["path"]).parent / "log" / "retention.log").read_text().splitlines()
    (line,) = [line for line in log if request in line and "CRITICAL" in line]
    assert vera.user_id not in line
    let_pass(admin, request, 16)
    desk.requeue()
    assert started(admin, request) == STALLS
    let_pass(admin, request, 60)
    desk.requeue()
    assert started(admin, request) == STALLS + 1


def test_who_gets_further_is_not_stuck(
    alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    """A long job that is killed again and again, but finishes a part each time."""
    request = desk.export(vera)
    for part in range(STALLS + 2):
        fall_silent(admin, desk, request, 1)
        assert desk.read(alice, request)["stuck"] is False
        admin.run(
            "INSERT INTO platform.export_parts (job_id, name, table_name, status) VALUES (:id, :name, 'x', 'done')",
            id=request,
            name=str(part),
        )


def test_it_heals(alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection) -> None:
    request = desk.erasure(vera)
    fall_silent(admin, desk, request, STALLS)
    assert desk.read(alice, request)["stuck"] is True

    admin.run(
        "INSERT INTO platform.deletion_steps (job_id, position, name, status) VALUES (:id, 1, 'plan', 'done')",
        id=request,
    )

    assert desk.read(alice, request)["stuck"] is False
    fall_silent(admin, desk, request, 1)
    assert desk.read(alice, request)["stuck"] is False


def test_a_job_that_was_never_begun(alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection) -> None:
    request = desk.export(vera)
    for _ in range(STALLS):
        let_pass(admin, request, 16)
        desk.requeue()
    shown = desk.read(alice, request)
    assert (shown["stuck"], shown["reason"], shown["attempts"]) == (True, "not_started", 0)


def test_what_waits_is_not_stuck(
    alice: Person, vera: Person, dan: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    waiting = desk.erasure(vera, approval_needed=True)
    grace = desk.erasure(dan)
    admin.run("UPDATE platform.deletions SET execute_after = now() + interval '7 days' WHERE job_id = :id", id=grace)
    for request in (waiting, grace):
        for _ in range(STALLS + 1):
            let_pass(admin, request, 120)
            desk.requeue()
        assert (desk.read(alice, request)["stuck"], started(admin, request)) == (False, 0)


def test_a_part_that_nobody_decides_about_begins_when_its_time_is_over(
    vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    """A person's own erasure does not wait for one of her organizations for ever."""
    whole = desk.erasure(vera, "me", job_status="running")
    part = desk.erasure(vera, due=timedelta(minutes=-1), parent_id=whole, channel="child", approval_needed=True)
    let_pass(admin, part, 16)

    desk.requeue()

    assert started(admin, part) == 1


def test_an_erasure_that_fails_again_and_again(
    alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    """What it failed of stays known while it is tried again."""
    request = desk.erasure(vera)
    for _ in range(STALLS):
        admin.run(
            "UPDATE platform.jobs SET status = 'failed', finished_at = now() - interval '2 hours' WHERE id = :id",
            id=request,
        )
        admin.run(
            "UPDATE platform.deletions SET frozen_at = now(), started_at = now(), finished_at = now(),"
            " error = 'step_failed' WHERE job_id = :id",
            id=request,
        )
        desk.requeue()

    shown = desk.read(alice, request)
    assert (shown["status"], shown["stuck"], shown["reason"]) == ("running", True, "step_failed")
