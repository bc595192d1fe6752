"""PATCH and DELETE of a session: title, closing, keeping awake, versions, audit."""

import pytest

from tests.conftest import last_audit_event
from tests.sessions.conftest import let_time_pass, new_room

HALF_AN_HOUR = 1800


def events(admin, person):
    """The audit events of the person's organization about sessions."""
    rows = admin.run(
        "SELECT action, data FROM app.audit_events WHERE tenant_id = :t AND resource_type = 'session' ORDER BY seq",
        t=person.tenant_id,
    )
    return [(action, data) for action, data in rows]


def test_the_title_changes(admin, alice, room):
    answer = room.patch({"title": "Second part"})

    assert (answer.status_code, answer.json["title"], answer.json["version"]) == (200, "Second part", 2)
    assert answer.headers["ETag"] == '"2"'
    assert events(admin, alice)[-1] == ("session.updated", {"fields": ["title"]})


def test_closing(admin, alice, room):
    room.say("Hello")
    answer = room.patch({"status": "closed"})

    assert (answer.status_code, answer.json["status"], answer.json["version"]) == (200, "closed", 2)
    assert answer.json["closed_at"] > answer.json["last_event_at"]
    assert answer.headers["ETag"] == '"2"'
    assert room.get().json == answer.json
    assert events(admin, alice)[1:] == [("session.closed", {"reason": "request"})]


def test_closing_again_changes_nothing(admin, alice, room):
    room.close()
    before = room.get().json

    again = room.patch({"status": "closed"})

    assert (again.status_code, again.json, again.headers["ETag"]) == (200, before, '"2"')
    assert len(events(admin, alice)) == 2


def test_a_last_title(admin, alice, room):
    answer = room.patch({"title": "Done", "status": "closed"})

    assert (answer.json["title"], answer.json["status"], answer.json["version"]) == ("Done", "closed", 2)
    assert [action for action, _ in events(admin, alice)] == ["session.created", "session.updated", "session.closed"]
    assert events(admin, alice)[1][1] == {"fields": ["title"]}


@pytest.mark.parametrize("how", ["by hand", "by time"])
@pytest.mark.parametrize("change", [{"status": "active"}, {"title": "New"}, {"title": "New", "status": "closed"}])
def test_what_is_closed_stays_as_it_is(admin, room, how, change):
    if how == "by hand":
        room.close()
    else:
        let_time_pass(admin, room, HALF_AN_HOUR * 2)
    before = room.get().json
    assert before["status"] == "closed"

    answer = room.patch(change)

    assert (answer.status_code, answer.json["code"]) == (409, "session_closed")
    assert room.get().json == before


def test_kept_awake(admin, alice, room):
    let_time_pass(admin, room, HALF_AN_HOUR - 300)
    assert room.get().json["status"] == "idle"

    answer = room.patch({"status": "active"})

    assert (answer.status_code, answer.json["status"]) == (200, "active")
    assert events(admin, alice)[-1] == ("session.updated", {"fields": ["status"]})
    let_time_pass(admin, room, HALF_AN_HOUR)
    assert room.get().json["status"] == "idle"


def test_never_early(admin, room):
    """Each event keeps it open for a whole idle time, although the time of its end is written now and then only."""
    for seconds in (20, 20, 40, 1000, 10):
        let_time_pass(admin, room, seconds)
        room.say("Hello")
        left = "SELECT extract(epoch FROM closes_at - active_at) FROM app.sessions WHERE id = :id"
        assert HALF_AN_HOUR <= admin.run(left, id=room.id)[0][0] <= HALF_AN_HOUR * 62 / 60


@pytest.mark.parametrize(
    "body", [{"status": "idle"}, {"status": "open"}, {"title": ""}, {"project_id": "x"}, {"title": None}]
)
def test_invalid_changes(room, body):
    answer = room.patch(body)
    assert (answer.status_code, list(answer.json["errors"])) == (422, list(body))


@pytest.mark.parametrize("tag", ['"7"', 'W/"1"', "1"])
def test_a_stale_or_weak_tag_changes_nothing(room, tag):
    before = room.get().json
    assert room.patch({"title": "New"}, {"If-Match": tag}).json["code"] == "precondition_failed"
    assert room.patch({"status": "closed"}, {"If-Match": tag}).status_code == 412
    headers = {**room.owner, "If-Match": tag}
    assert room.api.delete(room.path, headers=headers).status_code == 412
    assert room.get().json == before


def test_an_event_changes_no_version(room):
    room.say("Hello")
    assert room.patch({"title": "New"}, {"If-Match": '"1"'}).json["version"] == 2


def test_deleting_takes_the_events_along(admin, alice, room):
    room.say(*range(5))

    answer = room.delete()

    assert (answer.status_code, answer.text) == (204, "")
    assert admin.run("SELECT count(*) FROM app.session_events WHERE session_id = :id", id=room.id) == [[0]]
    assert last_audit_event(admin, alice)["action"] == "session.deleted"
    for path in ("", "/events", "/stream", "/ws"):
        assert room.get(path).json["code"] == "not_found"
    assert room.post([{"type": "said", "data": 1}]).status_code == 404
    assert room.patch({"title": "New"}).status_code == 404
    assert room.delete().status_code == 404


def test_a_closed_one_can_be_deleted(room):
    room.close()
    assert room.delete().status_code == 204


def test_a_project_takes_its_sessions_along(admin, room):
    room.say("Hello")
    assert room.api.delete(f"/v1/projects/{room.project_id}", headers=room.owner).status_code == 204
    assert room.get().status_code == 404
    assert admin.run("SELECT count(*) FROM app.session_events WHERE session_id = :id", id=room.id) == [[0]]


def test_who_may(api, people, alice, dan, vera, room):
    member = people.create("member", alice.tenant_id)
    assert room.patch({"title": "New"}, by=vera).status_code == 403
    assert room.patch({"title": "New"}, by=member).status_code == 200
    assert room.delete(by=member).status_code == 403
    assert room.delete(by=dan).status_code == 204


def test_another_organization_changes_nothing(api, mallory, room):
    before = room.get().json
    own = new_room(api, mallory)
    for answer in (room.get(by=mallory), room.patch({"title": "Mine"}, by=mallory), room.delete(by=mallory)):
        assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert room.get().json == before
    assert own.get().status_code == 200
