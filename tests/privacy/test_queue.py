"""GET /v1/privacy/requests: every export and erasure that concerns the organization, and nothing else."""

from datetime import UTC, datetime, timedelta

import pg8000.native

from tests.conftest import Api, People, Person, last_audit_event
from tests.privacy.conftest import REQUESTS, Desk


def test_it_works(api: Api, alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection) -> None:
    export = desk.export(vera, requested_by=alice.user_id)

    answer = api.get(REQUESTS, headers=alice)

    assert answer.status_code == 200
    (item,) = answer.json["items"]
    assert item["id"] == export
    assert (item["kind"], item["scope"], item["status"], item["channel"]) == ("export", "user", "queued", "api")
    assert (item["subject_user_id"], item["requested_by"]) == (vera.user_id, alice.user_id)
    assert (item["overdue"], item["days_left"], item["extended"], item["stuck"]) == (False, 19, False, False)
    assert answer.headers["Cache-Control"] == "no-store"
    event = last_audit_event(admin, alice)
    assert (event["action"], event["outcome"]) == ("privacy_request.read", "success")


def test_each_kind_of_request_is_there_newest_first(alice: Person, vera: Person, dan: Person, desk: Desk) -> None:
    made = [
        desk.export(vera, "user"),
        desk.export(alice, "organization"),
        desk.export(dan, "me"),
        desk.erasure(vera, "user", approval_needed=True),
        desk.erasure(alice, "organization"),
        desk.erasure(dan, "me"),
    ]

    assert desk.queue(alice) == made[::-1]
    assert [desk.read(alice, each)["status"] for each in made[3:]] == ["awaiting_approval", "scheduled", "scheduled"]
    assert desk.queue(alice, kind="deletion") == made[:2:-1]
    assert desk.queue(alice, status="awaiting_approval") == [made[3]]
    assert desk.queue(alice, status="refused") == []


def test_pages(api: Api, alice: Person, vera: Person, desk: Desk) -> None:
    now = datetime.now(UTC)
    made = [desk.erasure(vera, finished_at=now, received_at=now - timedelta(days=day % 3)) for day in range(7)]
    seen: list[str] = []
    path = f"{REQUESTS}?limit=3&kind=deletion"
    while path:
        answer = api.get(path, headers=alice)
        seen += [item["id"] for item in answer.json["items"]]
        path = answer.headers["Link"].split(">")[0][1:] if "Link" in answer.headers else ""

    assert seen == desk.queue(alice)
    assert sorted(seen) == sorted(made)
    cursor = api.get(f"{REQUESTS}?limit=3", headers=alice).json["next_cursor"]
    assert api.get(f"{REQUESTS}?limit=3&kind=export&cursor={cursor}", headers=alice).json["code"] == "invalid_cursor"


def test_what_is_late(alice: Person, vera: Person, dan: Person, desk: Desk) -> None:
    late = desk.export(vera, due=timedelta(minutes=-1))
    answered = desk.export(dan, due=timedelta(minutes=-1), status="ready", job_status="done")
    soon = desk.erasure(vera, due=timedelta(hours=1))

    assert desk.queue(alice, overdue="true") == [late]
    assert sorted(desk.queue(alice, overdue="false")) == sorted([answered, soon])
    assert [desk.read(alice, each)["days_left"] for each in (late, soon, answered)] == [-1, 0, None]


def test_a_failed_request_is_owed_until_it_is_asked_anew(alice: Person, vera: Person, desk: Desk) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    failed = desk.export(
        vera, due=timedelta(minutes=-1), status="failed", job_status="failed", error="step_failed", requested_at=past
    )

    shown = desk.read(alice, failed)
    assert (shown["overdue"], shown["reason"]) == (True, "step_failed")
    desk.export(vera)
    assert desk.read(alice, failed)["overdue"] is False


def test_what_a_hold_keeps_is_due_after_the_hold(
    alice: Person, vera: Person, desk: Desk, admin: pg8000.native.Connection
) -> None:
    kept = desk.erasure(vera, due=timedelta(days=-1), channel="hold_end")
    admin.run("UPDATE platform.deletions SET execute_after = now() + interval '1 year' WHERE job_id = :id", id=kept)

    shown = desk.read(alice, kept)

    assert (shown["overdue"], shown["stuck"]) == (False, False)
    assert shown["days_left"] > 365
    desk.remind()
    assert admin.run("SELECT count(*) FROM platform.privacy_notices WHERE job_id = :id", id=kept) == [[0]]


def test_another_organization_sees_nothing(
    api: Api, people: People, alice: Person, vera: Person, mallory: Person, desk: Desk
) -> None:
    people.join(vera.user_id, mallory.tenant_id, "viewer")
    made = [desk.export(vera), desk.export(alice, "organization"), desk.erasure(vera, approval_needed=True)]

    assert desk.queue(mallory) == []
    for each in made:
        assert api.get(f"{REQUESTS}/{each}", headers=mallory).status_code == 404
        extension = api.post(f"{REQUESTS}/{each}/extend", json={"reason": "x"}, headers=mallory)
        assert (extension.status_code, extension.json["code"]) == (404, "not_found")
        assert api.post(f"{REQUESTS}/{each}/approve", json={}, headers=mallory).status_code == 404


def test_of_a_persons_own_request_it_shows_what_is_needed(
    people: People, alice: Person, vera: Person, mallory: Person, desk: Desk
) -> None:
    """Each of her organizations knows that it runs and until when, none reads why."""
    people.join(vera.user_id, mallory.tenant_id, "viewer")
    erasure = desk.erasure(vera, "me", reason="I am ill")

    for officer in (alice, mallory):
        shown = desk.read(officer, erasure)
        assert (shown["scope"], shown["subject_user_id"], shown["note"]) == ("me", vera.user_id, None)
    user = desk.erasure(vera, reason="She left")
    assert desk.read(alice, user)["note"] == "She left"


def test_the_organizations_part_takes_the_place_of_the_request(alice: Person, vera: Person, desk: Desk) -> None:
    whole = desk.erasure(vera, "me", job_status="running")
    assert desk.queue(alice) == [whole]

    part = desk.erasure(vera, parent_id=whole, channel="child", requested_by=None)

    assert desk.queue(alice) == [part]
    assert desk.read(alice, part)["channel"] == "child"


def test_who_may_read_it(api: Api, people: People, alice: Person, dan: Person, vera: Person) -> None:
    officer = people.create("admin", alice.tenant_id)
    assert api.get(REQUESTS, headers=officer).status_code == 200
    for reader in (dan, vera):
        assert api.get(REQUESTS, headers=reader).json["code"] == "permission_denied"
    assert api.get(REQUESTS).status_code == 401


def test_unknown_filters(api: Api, alice: Person) -> None:
    for query in ("kind=letters", "status=open", "overdue=1", "limit=101", "due=soon"):
        assert api.get(f"{REQUESTS}?{query}", headers=alice).status_code == 422, query
