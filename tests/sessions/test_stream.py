"""GET /v1/sessions/{id}/stream: where it begins, what it says, how it ends."""

import pytest

from tests.sessions.conftest import let_time_pass


def numbers(events):
    return [event["seq"] for event in events]


def end_of(stream):
    """The last event of a stream that the server ends, and what came before it."""
    *before, last = stream.rest()
    assert last.name == "end"
    assert last.id is None
    return numbers([event.json for event in before]), last.json


def test_from_now_on(alice, dan, room):
    room.say("before")
    with room.stream(by=dan) as stream:
        assert stream.status == 200
        assert stream.answer_headers["Content-Type"] == "text/event-stream"
        assert stream.answer_headers["Cache-Control"] == "no-store"
        room.say({"text": "é"}, [1])
        first, second = stream.next(), stream.next()

    assert (first.id, first.data) == ("2", '{"seq":2,"type":"said","data":{"text":"é"}}')
    assert (second.id, second.data) == ("3", '{"seq":3,"type":"said","data":[1]}')
    assert stream.retry == 1000


@pytest.mark.parametrize(
    ("query", "header", "first"),
    [
        ("", "0", 1),
        ("", "3", 4),
        ("?after=0", None, 1),
        ("?after=4", None, 5),
        ("?after=1", "3", 4),
        ("?after=2", "", 3),
    ],
)
def test_behind_an_event_without_gap_or_double(room, query, header, first):
    """What is there comes from the database, what follows as it happens; the header wins over the query."""
    room.say(*range(5))
    headers = {} if header is None else {"Last-Event-ID": header}
    with room.stream(headers, query) as stream:
        assert numbers(stream.take(6 - first)) == list(range(first, 6))
        room.say("more", "and more")
        assert numbers(stream.take(2)) == [6, 7]


def test_more_than_a_page_from_the_start(room):
    for _ in range(3):
        room.say(*(f"{n} {'x' * 5000}" for n in range(90)))
    with room.stream({"Last-Event-ID": "0"}) as stream:
        assert numbers(stream.take(270)) == list(range(1, 271))


def test_events_that_have_gone_are_passed_over(admin, room):
    for _ in range(3):
        room.say(*range(60))
    admin.run("DELETE FROM app.session_events WHERE session_id = :id AND seq BETWEEN 3 AND 170", id=room.id)
    with room.stream(query="?after=0") as stream:
        assert numbers(stream.take(12)) == [1, 2, *range(171, 181)]


@pytest.mark.parametrize("header", ["-1", "x", "1.0", "1 ", " ", "9" * 19, "9" * 20, "6", "0x1"])
def test_an_id_that_is_none(room, header):
    room.say(*range(5))
    with room.stream({"Last-Event-ID": header}) as stream:
        refused = header.strip() not in {"1", ""}  # spaces around a header's value are none of it
        assert stream.status == (422 if refused else 200)
        if refused:
            assert list(stream.problem["errors"]) == ["Last-Event-ID"]


@pytest.mark.parametrize("query", ["?after=6", "?after=-1", "?after=x", "?from=1"])
def test_a_query_that_is_none(room, query):
    room.say(*range(5))
    with room.stream(query=query) as stream:
        assert (stream.status, list(stream.problem["errors"])) == (422, [query[1:].split("=")[0]])


def test_closing_ends_it_behind_the_last_event(room):
    with room.stream({"Last-Event-ID": "0"}) as one, room.stream() as other:
        room.say("last words")
        room.close()
        for stream in (one, other):
            assert end_of(stream) == ([1], {"code": "session_closed", "resume_after": 1})


def test_deleting_ends_it(room):
    room.say("Hello")
    with room.stream() as stream:
        assert room.delete().status_code == 204
        assert end_of(stream) == ([], {"code": "not_found", "resume_after": 1})


@pytest.mark.parametrize("how", ["by hand", "by time"])
def test_a_closed_session(admin, room, how):
    """What is left behind the id, then the end; nothing left: 204, by which an EventSource stops."""
    room.say(*range(3))
    if how == "by hand":
        room.close()
    else:
        let_time_pass(admin, room, 7200)

    with room.stream({"Last-Event-ID": "1"}) as stream:
        assert end_of(stream) == ([2, 3], {"code": "session_closed", "resume_after": 3})
    for headers in ({"Last-Event-ID": "3"}, {}):
        with room.stream(headers) as stream:
            assert (stream.status, stream.body) == (204, b"")


def test_who_may(people, alice, vera, mallory, room):
    with room.stream(by=vera) as stream:
        assert stream.status == 200
    with room.stream(by=mallory) as stream:
        assert (stream.status, stream.problem["code"]) == (404, "not_found")
    with room.stream({"Authorization": "Bearer x"}) as stream:
        assert (stream.status, stream.problem["code"]) == (401, "invalid_token")
        assert stream.answer_headers["WWW-Authenticate"].startswith("Bearer ")


def test_a_head_is_no_stream(api, alice, room):
    answer = api.request("HEAD", f"{room.path}/stream", headers=alice)
    assert (answer.status_code, answer.headers["Content-Type"], answer.text) == (200, "text/event-stream", "")


def test_the_websocket_address_without_a_handshake(room):
    answer = room.get("/ws")
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_request")
