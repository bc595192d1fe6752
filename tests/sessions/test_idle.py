"""Automatic log-off of a session: what nobody uses is closed, in the database too, and its streams end."""

import pytest

from tests.conftest import Api, Person, last_audit_event, wait_until
from tests.sessions.conftest import Room, let_time_pass, new_room

PERIOD, SLACK = 1800, 30  # it closes up to a sixtieth later


@pytest.mark.parametrize("quiet", [False, True])
def test_it_closes_by_itself(quiet: bool, api: Api, admin, alice: Person, vera: Person, room: Room) -> None:
    """Whether somebody watches it or nobody does; the event in the chain is the system's."""
    other = new_room(api, alice, room.project_id)
    tag = room.get().headers["ETag"]
    stream = None if quiet else room.stream(by=vera)

    let_time_pass(admin, room, PERIOD + SLACK + 1)

    read = "SELECT closed_at = closes_at FROM app.sessions WHERE id = :id AND closed_at IS NOT NULL"
    assert wait_until(lambda: admin.run(read, id=room.id), what="the closing") == [[True]]
    if stream is not None:
        with stream:
            end = stream.next()
            assert (end.name, end.json) == ("end", {"code": "session_closed", "resume_after": 0})
    shown = room.get()
    assert (shown.json["status"], shown.json["version"]) == ("closed", 2)
    assert (tag, shown.headers["ETag"]) == ('"1"', '"2"')
    assert room.post([{"type": "said", "data": 1}]).json["code"] == "session_closed"
    assert other.get().json["status"] == "active"
    event = last_audit_event(admin, alice, "session.closed")
    assert (event["actor_type"], event["actor_id"], event["outcome"]) == ("system", None, "success")
    assert (event["resource_id"], event["data"], event["personal"]) == (room.id, {"reason": "idle"}, None)


def test_it_is_closed_once_by_many(api: Api, admin, alice: Person, project: str) -> None:
    """Both replicas sweep: each session has one event, whoever closed it, and the chain holds them all."""
    rooms = [new_room(api, alice, project) for _ in range(6)]
    for room in rooms:
        let_time_pass(admin, room, PERIOD + SLACK + 1)

    still = "SELECT FROM app.sessions WHERE tenant_id = :tenant AND closed_at IS NULL"
    wait_until(lambda: admin.run(still, tenant=alice.tenant_id) == [], what="the closing")

    closed = admin.run(
        "SELECT resource_id FROM app.audit_events WHERE tenant_id = :tenant AND action = 'session.closed'",
        tenant=alice.tenant_id,
    )
    assert sorted(row[0] for row in closed) == sorted(room.id for room in rooms)
    assert {room.get().json["version"] for room in rooms} == {2}


def test_a_session_that_is_used_stays_open(admin, room: Room) -> None:
    let_time_pass(admin, room, PERIOD - 60)
    assert room.get().json["status"] == "idle"

    room.say("still here")
    let_time_pass(admin, room, PERIOD - 60)

    assert room.get().json["status"] == "idle"
    room.say("and again")
