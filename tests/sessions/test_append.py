"""POST /v1/sessions/{id}/events: what is taken, what is refused, and that a refused batch leaves nothing behind."""

import json

import pytest

from tests.conftest import last_audit_event
from tests.sessions.conftest import let_time_pass

LONGEST = 65_536


def event(data, kind="said"):
    return {"type": kind, "data": data}


def of_length(size):
    """An event whose compact JSON has so many bytes."""
    return event("x" * (size - len('{"type":"said","data":""}')))


def stored(admin, room):
    """The rows of the session's events, in order."""
    return admin.run(
        "SELECT seq, type, data::text, created_by::text FROM app.session_events WHERE session_id = :id ORDER BY seq",
        id=room.id,
    )


def test_it_works(admin, alice, dan, room):
    created = last_audit_event(admin, alice)

    answer = room.post([event({"text": "Hello"}), event([1, 2.5, None], "note:b.1_c-d")])
    second = room.post([event(True)], by=dan)

    assert (answer.status_code, answer.json) == (201, {"first_seq": 1, "last_seq": 2})
    assert answer.headers["Location"] == f"{room.path}/events?after=0"
    assert second.json == {"first_seq": 3, "last_seq": 3}
    assert stored(admin, room) == [
        [1, "said", '{"text":"Hello"}', alice.user_id],
        [2, "note:b.1_c-d", "[1,2.5,null]", alice.user_id],
        [3, "said", "true", dan.user_id],
    ]
    session = room.get().json
    assert session["last_event_at"] >= session["created_at"]
    assert session["version"] == 1
    assert last_audit_event(admin, alice) == created, "the events are a log of their own"


@pytest.mark.parametrize(
    "data",
    [None, False, 0, -0.0, 1e300, 10**40, "", "é😀\u2028\x7f", '\t\n\r"\\/', [], {}, {"": {"ä": []}}, [[[[]]]]],
    ids=ascii,
)
def test_any_json(admin, room, data):
    room.say(data)
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    assert stored(admin, room)[0][2] == text
    assert room.get("/events").json["items"][0]["data"] == data


def test_the_longest_and_one_byte_more(admin, room):
    assert room.post([of_length(LONGEST)] * 3).status_code == 201
    assert room.post([event("é" * 32_755)]).status_code == 201, "bytes of UTF-8 count, not escapes"

    answer = room.post([event(1), of_length(LONGEST + 1), event(2), event("é" * 32_768)])

    assert (answer.status_code, sorted(answer.json["errors"])) == (422, ["events.1", "events.3"])
    assert len(stored(admin, room)) == 4


@pytest.mark.parametrize("count", [1, 99, 100])
def test_batches(room, count):
    assert room.post([event(n) for n in range(count)]).json == {"first_seq": 1, "last_seq": count}


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ("said", "events.1._schema"),
        ({"type": "said"}, "events.1.data"),
        ({"data": 1}, "events.1.type"),
        (event(1, ""), "events.1.type"),
        (event(1, "-said"), "events.1.type"),
        (event(1, "said it"), "events.1.type"),
        (event(1, "said\n"), "events.1.type"),
        (event(1, "gesägt"), "events.1.type"),
        (event(1, "x" * 65), "events.1.type"),
        (event(1, 7), "events.1.type"),
        (event(1) | {"seq": 7}, "events.1.seq"),
        (event(1) | {"created_by": "x"}, "events.1.created_by"),
        (event("a\x00b"), "events"),
        (event({"a\x00b": 1}), "events"),
        (event("\ud800"), "events"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_refused_leaves_no_gap(admin, room, bad, field):
    room.say("before")

    answer = room.post([event("good"), bad])

    assert (answer.status_code, answer.json["code"], list(answer.json["errors"])) == (422, "invalid_request", [field])
    assert room.say("after") == 2
    assert [row[2] for row in stored(admin, room)] == ['"before"', '"after"']


@pytest.mark.parametrize("events", [[], [event(1)] * 101, {}, None], ids=["none", "101", "object", "null"])
def test_what_is_no_batch(admin, room, events):
    answer = room.post(events)
    assert (answer.status_code, list(answer.json["errors"])) == (422, ["events"])
    assert stored(admin, room) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"events":[{"type":"said","data":1e999}]}', "invalid_request"),
        (b'{"events":[{"type":"said","data":NaN}]}', "malformed_request"),
        (b'{"events":[{"type":"said","data":"\xff"}]}', "malformed_request"),
        (b'{"events":[{"type":"said","data":' + b"[" * 990 + b"]" * 990 + b"}]}", "malformed_request"),
        (b'{"events":[{"type":"said","data":' + b"[" * 9000 + b"]" * 9000 + b"}]}", "malformed_request"),
        (b'{"events":[{"type":"said","data":"' + b"x" * 1_048_576 + b'"}]}', "body_too_large"),
    ],
    ids=["infinite", "no number", "no UTF-8", "deep", "deeper", "long"],
)
def test_bodies_that_are_none(api, admin, alice, room, body, code):
    headers = {**alice, "Content-Type": "application/json"}
    assert api.post(f"{room.path}/events", data=body, headers=headers).json["code"] == code
    assert stored(admin, room) == []


def test_a_closed_one_takes_nothing(admin, room):
    room.say("before")
    room.close()

    answer = room.post([event("after")])

    assert (answer.status_code, answer.json["code"]) == (409, "session_closed")
    assert len(stored(admin, room)) == 1


def test_nor_one_whose_time_is_over(admin, room):
    let_time_pass(admin, room, 3600)
    assert room.post([event("after")]).json["code"] == "session_closed"
    assert stored(admin, room) == []


def test_the_same_key_appends_once(admin, room):
    first, again = (room.post([event(1), event(2)], {"Idempotency-Key": "once"}) for _ in range(2))
    other = room.post([event(3)], {"Idempotency-Key": "once"})

    assert (first.json, again.json) == ({"first_seq": 1, "last_seq": 2},) * 2
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert other.json["code"] == "idempotency_key_reused"
    assert len(stored(admin, room)) == 2


def test_who_may(people, alice, mallory, vera, room):
    member = people.create("member", alice.tenant_id)
    assert room.post([event(1)], by=vera).json["code"] == "permission_denied"
    assert room.post([], by=vera).status_code == 403
    assert room.post([event(1)], by=mallory).json["code"] == "not_found"
    assert room.post([event(1)], by=member).json == {"first_seq": 1, "last_seq": 1}


def test_an_api_key_appends_in_its_makers_name(api, people, admin, alice, room):
    fresh = people.log_in(alice)
    body = {"name": "Robot", "permissions": ["session.update"]}
    made = api.post("/v1/api-keys", json=body, headers=fresh)
    assert made.status_code == 201, made.text

    answer = api.post(
        f"{room.path}/events", json={"events": [event(1)]}, headers={"Authorization": f"Bearer {made.json['key']}"}
    )

    assert answer.status_code == 201
    assert stored(admin, room)[0][3] == alice.user_id
