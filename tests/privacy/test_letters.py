"""POST /v1/privacy/requests: a request that came by letter is due a month after it arrived, and really answered."""

import uuid
from datetime import UTC, datetime, timedelta

import pg8000.native
import pytest

from tests.conftest import Api, Inbox, People, Person, last_audit_event, wait_until
from tests.privacy.conftest import REQUESTS, Desk, due_at
from tests.privacy.test_deadlines import months_after


def test_it_works(
    api: Api, alice: Person, vera: Person, desk: Desk, inbox: Inbox, admin: pg8000.native.Connection
) -> None:
    """The copy is made, and the officer gets the mail that sends it on."""
    answer = desk.letter(alice, vera, note="Came by post, identity checked")

    assert answer.status_code == 202, answer.text
    request = answer.json
    assert answer.headers["Location"] == f"{REQUESTS}/{request['id']}"
    assert (request["kind"], request["scope"], request["channel"]) == ("export", "user", "letter")
    assert (request["subject_user_id"], request["requested_by"]) == (vera.user_id, alice.user_id)
    assert request["note"] == "Came by post, identity checked"
    received = datetime.fromisoformat(request["received_at"])
    assert datetime.fromisoformat(request["due_at"]) == months_after(received, 1)
    event = last_audit_event(admin, alice)
    assert (event["action"], event["resource_id"]) == ("export.requested", request["id"])
    assert event["data"] == {"scope": "user", "channel": "letter"}

    desk.drain()
    wait_until(lambda: desk.read(alice, request["id"])["status"] == "ready", 60, "the copy")
    inbox.wait_for(alice.email, "export")
    found = api.get(f"/v1/exports/{request['id']}", headers=alice)
    assert (found.status_code, found.json["scope"]) == (200, "user")


def test_an_erasure_waits_for_its_approval(
    alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    received = datetime.now(UTC) - timedelta(days=100)

    request = desk.letter(alice, vera, "deletion", received_at=received.isoformat()).json

    assert (request["kind"], request["scope"], request["status"]) == ("deletion", "user", "awaiting_approval")
    assert (request["overdue"], request["days_left"] < -60) == (True, True)
    assert due_at(admin, request["id"]) == months_after(received, 1)
    desk.drain()
    desk.requeue()
    assert desk.read(alice, request["id"])["status"] == "awaiting_approval"
    assert admin.run("SELECT count(*) FROM app.members WHERE user_id = :id", id=vera.user_id) == [[1]]


@pytest.mark.parametrize("day", ["28", "29", "30", "31"])
def test_the_ends_of_months(alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection, day: str) -> None:
    """31 January is due on the last day of February."""
    now = datetime.now(UTC)
    year = now.year if now.month > 1 else now.year - 1
    received = datetime.fromisoformat(f"{year}-01-{day}T15:30:00+00:00")

    request = desk.letter(alice, vera, received_at=received.isoformat()).json

    assert due_at(admin, request["id"]) == months_after(received, 1)


@pytest.mark.parametrize("kind", ["export", "deletion"])
def test_one_at_a_time(alice: Person, vera: Person, desk: Desk, kind: str) -> None:
    assert desk.letter(alice, vera, kind).status_code == 202

    second = desk.letter(alice, vera, kind)

    assert (second.status_code, second.json["code"]) == (409, f"{kind}_in_progress")


def test_her_own_runs_already(alice: Person, vera: Person, desk: Desk) -> None:
    """What she asked for herself is erasing her account: the officer learns that, not that nobody is there."""
    desk.erasure(vera, "me", frozen_at=datetime.now(UTC))

    answer = desk.letter(alice, vera, "deletion")

    assert (answer.status_code, answer.json["code"]) == (409, "deletion_in_progress")


def test_when_it_can_have_arrived(alice: Person, vera: Person, desk: Desk) -> None:
    now = datetime.now(UTC)
    for moment in (now + timedelta(minutes=1), now - timedelta(days=367)):
        refused = desk.letter(alice, vera, received_at=moment.isoformat())
        assert refused.status_code == 422
        assert list(refused.json["errors"]) == ["received_at"]
    for body in ({"received_at": "2026-01-01T00:00:00"}, {"kind": "rectification"}, {"note": "x" * 1001}, {"due": 1}):
        assert desk.letter(alice, vera, **body).status_code == 422, body


@pytest.mark.parametrize("kind", ["export", "deletion"])
def test_only_about_somebody_here(
    alice: Person, mallory: Person, desk: Desk, admin: pg8000.native.Connection, kind: str
) -> None:
    assert desk.letter(alice, mallory, kind).json["code"] == "not_found"
    assert desk.letter(alice, mallory, kind, user_id=str(uuid.uuid4())).json["code"] == "not_found"
    assert desk.queue(alice) == []


def test_nobody_erases_who_may_more(people: People, alice: Person, desk: Desk) -> None:
    officer = people.create("admin", alice.tenant_id)

    refused = desk.letter(officer, alice, "deletion")

    assert (refused.status_code, refused.json["code"]) == (403, "permission_denied")


def test_the_last_owner_stays(alice: Person, vera: Person, desk: Desk) -> None:
    assert desk.letter(alice, alice, "deletion").json["code"] == "last_owner"


def test_what_a_legal_hold_keeps_is_recorded_as_refused(
    alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    admin.run(
        "INSERT INTO app.legal_holds (tenant_id, subject_user_id, reason, until, created_by)"
        " VALUES (:t, :u, 'Lawsuit', now() + interval '1 year', :by)",
        t=alice.tenant_id,
        u=vera.user_id,
        by=alice.user_id,
    )

    answer = desk.letter(alice, vera, "deletion")

    assert (answer.status_code, answer.json["code"]) == (409, "legal_hold")
    shown = desk.read(alice, answer.json["deletion_id"])
    assert (shown["status"], shown["channel"]) == ("refused", "letter")
    assert shown["reason"]
    actions = admin.run(
        "SELECT action, data FROM app.audit_events WHERE tenant_id = :t AND resource_id = :id ORDER BY seq LIMIT 1",
        t=alice.tenant_id,
        id=answer.json["deletion_id"],
    )
    assert actions == [["deletion.refused", {"scope": "user", "channel": "letter", "reason": "legal_hold"}]]


def test_who_may_take_it_down(api: Api, people: People, alice: Person, dan: Person, vera: Person, desk: Desk) -> None:
    assert desk.letter(dan, vera).json["code"] == "permission_denied"
    stale = people.log_in(alice, age_seconds=3600)
    assert desk.letter(stale, vera).json["code"] == "step_up_required"
    assert api.post(REQUESTS, json={}).status_code == 401


def test_a_copy_needs_the_right_to_copies_too(
    alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    role = admin.run(
        "INSERT INTO app.roles (tenant_id, name, permissions)"
        " VALUES (:t, 'Eraser', '{deletion.create,organizations.view,project.view,task.view,session.view}')"
        " RETURNING id",
        t=alice.tenant_id,
    )[0][0]
    officer = vera
    admin.run("UPDATE app.members SET role = NULL, role_id = :r WHERE user_id = :u", r=role, u=officer.user_id)

    assert desk.letter(officer, officer).json["code"] == "permission_denied"
    assert desk.letter(officer, officer, "deletion").status_code == 202
