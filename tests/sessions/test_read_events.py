"""GET /v1/sessions/{id}/events: in order, behind a seq, in pages."""

import pytest

from tests.conftest import Api


def seqs(answer):
    assert answer.status_code == 200, answer.text
    return [item["seq"] for item in answer.json["items"]], answer.json["last_seq"]


def test_it_works(alice, dan, vera, room):
    assert room.get("/events").json == {"items": [], "last_seq": 0}
    room.say({"text": "Hello"})
    room.say("Hi", by=dan)

    answer = room.get("/events", by=vera)

    assert answer.json["last_seq"] == 2
    first, second = answer.json["items"]
    assert first == {
        "seq": 1,
        "type": "said",
        "data": {"text": "Hello"},
        "created_by": alice.user_id,
        "created_at": first["created_at"],
    }
    assert second["created_by"] == dan.user_id
    assert room.get().json["created_at"] < first["created_at"] < second["created_at"]
    assert "Link" not in answer.headers


def test_pages_behind_a_seq(api: Api, alice, room):
    for _ in range(3):
        room.say(*range(50))

    assert seqs(room.get("/events")) == (list(range(1, 51)), 150)
    assert seqs(room.get("/events?after=148")) == ([149, 150], 150)
    assert seqs(room.get("/events?after=10&limit=3")) == ([11, 12, 13], 150)
    for beyond in (150, 151, 2**63 - 1):
        assert seqs(room.get(f"/events?after={beyond}")) == ([], 150)

    found, path = [], f"{api.base}{room.path}/events?limit=40"
    while path:
        page = api.get(path, headers=alice)
        found += seqs(page)[0]
        path = page.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert found == list(range(1, 151))


def test_events_that_have_gone_are_passed_over(admin, room):
    for _ in range(3):
        room.say(*range(60))
    admin.run("DELETE FROM app.session_events WHERE session_id = :id AND seq BETWEEN 3 AND 170", id=room.id)

    assert seqs(room.get("/events?limit=5")) == ([1, 2], 180)
    assert seqs(room.get("/events?after=2&limit=5")) == ([171, 172, 173, 174, 175], 180)
    assert seqs(room.get("/events?after=168&limit=5")) == ([171, 172, 173], 180)
    assert seqs(room.get(f"/events?after={2**63 - 1}")) == ([], 180)


def test_a_closed_session_is_read_on(room):
    room.say("Hello")
    room.close()
    assert seqs(room.get("/events")) == ([1], 1)


def test_a_hundred_of_the_longest(room):
    for _ in range(10):
        assert room.post([{"type": "said", "data": "x" * 65_000}] * 10).status_code == 201
    assert seqs(room.get("/events?limit=100"))[0] == list(range(1, 101))


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=9223372036854775808", "limit=0", "limit=101", "from=1"]
)
def test_wrong_queries_are_refused(room, query):
    answer = room.get(f"/events?{query}")
    assert (answer.status_code, list(answer.json["errors"])) == (422, [query.split("=")[0]])


def test_another_organization_reads_nothing(mallory, room):
    room.say("Hello")
    answer = room.get("/events", by=mallory)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
