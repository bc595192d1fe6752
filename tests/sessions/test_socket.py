"""A session by WebSocket: events both ways, who may, and how it ends."""

import struct
from typing import Any

from tests.common.test_cookies import Browser, log_in
from tests.conftest import Person
from tests.sessions.clients import BINARY, CONTINUED, PING, TEXT, WebSocket
from tests.sessions.conftest import Room

KIB = 1024


def socket(room: Room, by: Person | None = None, query: str = "", **options: Any) -> WebSocket:
    """A WebSocket of this person, the room's owner unless said otherwise."""
    return WebSocket(f"{room.api.base}{room.path}/ws{query}", by or room.owner, **options)


def event(data: Any, kind: str = "said") -> dict[str, Any]:
    return {"type": kind, "data": data}


def problem_of(answer: Any) -> tuple[int, str, int]:
    """Status, code and number of the message that was refused."""
    found = answer["problem"]
    return found["status"], found["code"], found["message"]


def refused(answer: WebSocket, status: int, code: str) -> bool:
    assert answer.answer_headers["content-type"] == "application/problem+json"
    return (answer.status, answer.problem["status"], answer.problem["code"]) == (status, status, code)


def test_what_is_said_comes_to_everybody(room, dan):
    with socket(room) as hers, socket(room, dan) as his, room.stream(by=dan) as stream:
        hers.send(event({"text": "hallo"}, "chat.message"))
        expected = {"seq": 1, "type": "chat.message", "data": {"text": "hallo"}}
        assert hers.next() == his.next() == stream.next().json == expected
        his.send(event(None))
        assert his.next() == {"seq": 2, "type": "said", "data": None}
        room.say("by POST")
        assert [each["seq"] for each in hers.take(2)] == [each["seq"] for each in stream.take(2)] == [2, 3]
        assert [each["created_by"] for each in room.get("/events").json["items"]] == [
            room.owner.user_id,
            dan.user_id,
            room.owner.user_id,
        ]


def test_the_order_is_kept_however_fast_it_comes(room, dan):
    said = list(range(500))
    with socket(room) as hers, socket(room, dan) as his:
        hers.raw(b"".join(hers.frame(TEXT, b'{"type":"said","data":%d}' % number) for number in said))
        heard = his.take(500)
        assert [each["seq"] for each in heard] == list(range(1, 501))
        assert [each["data"] for each in heard] == said
        assert hers.take(500) == heard


def test_who_says_much_and_leaves_has_said_it_all(room):
    with socket(room) as hers:
        hers.raw(b"".join(hers.frame(TEXT, b'{"type":"s","data":%d}' % number) for number in range(1000)))
        assert hers.shut().code == 1000
    with socket(room, query="?after=0") as again:
        assert [each["data"] for each in again.take(1000)] == list(range(1000))


def test_it_resumes_behind_a_seq(room):
    room.say(*range(5))
    with (
        socket(room, query="?after=0") as everything,
        socket(room, query="?after=3") as part,
        WebSocket(f"{room.api.base}{room.path}/ws?after=1", {**room.owner, "Last-Event-ID": "4"}) as header,
        socket(room) as new,
    ):
        room.say("new")
        assert [each["seq"] for each in everything.take(6)] == [1, 2, 3, 4, 5, 6]
        assert [each["seq"] for each in part.take(3)] == [4, 5, 6]
        assert [each["seq"] for each in header.take(2)] == [5, 6]
        assert new.next()["data"] == "new"


REFUSED = {
    '{"type": "said"}': 422,
    '{"type": "", "data": 1}': 422,
    '{"type": "said", "data": 1, "seq": 4}': 422,
    '{"type": "said", "data": "\\u0000"}': 422,
    '{"type": "said", "data": "\\ud800"}': 422,
    '[{"type": "said", "data": 1}]': 422,
    '{"type": "said", "data": NaN}': 400,
    "hallo": 400,
    "": 400,
}


def test_a_refused_message_is_answered_and_the_rest_goes_on(room):
    with socket(room) as hers:
        for number, (message, status) in enumerate(REFUSED.items()):
            hers.raw(b"".join(hers.frame(TEXT, each) for each in (b'{"type":"said","data":1}', message.encode())))
            hers.send(event(3))
            answers = hers.take(3)
            code = "invalid_request" if status == 422 else "malformed_request"
            assert [problem_of(each) for each in answers if "problem" in each] == [(status, code, 3 * number + 2)], (
                message
            )
            seqs = [(each["seq"], each["data"]) for each in answers if "seq" in each]
            assert seqs == [(2 * number + 1, 1), (2 * number + 2, 3)]


def test_an_event_has_64_kib(room):
    longest = "x" * (64 * KIB - len('{"type":"said","data":""}'))
    with socket(room) as hers:
        hers.send(event(longest))
        assert hers.next()["data"] == longest
        hers.send(event(longest + "x"))
        answer = hers.next()
        assert problem_of(answer) == (422, "invalid_request", 2)
        assert list(answer["problem"]["errors"]) == ["data"]
        hers.send(event("y" * 128 * KIB))
        assert hers.over().code == 1009
    assert room.get("/events").json["last_seq"] == 1


def test_a_message_may_come_in_pieces_with_pings_between(room):
    with socket(room) as hers:
        text = '{"type":"said","data":"€"}'.encode()
        pieces = [text[place : place + 1] for place in range(len(text))]
        for place, piece in enumerate(pieces):
            hers.raw(hers.frame(CONTINUED if place else TEXT, piece, fin=place == len(pieces) - 1))
            hers.raw(hers.frame(PING, b"?"))
        assert hers.next()["data"] == "€"
        assert hers.pongs == [b"?"] * len(pieces)


def test_who_may_only_view_listens(admin, room, vera):
    with socket(room, vera) as hers, socket(room) as owner:
        for number in (1, 2):
            hers.send(event("no"))
            assert problem_of(hers.next()) == (403, "permission_denied", number)
        owner.send(event("yes"))
        assert hers.next()["data"] == "yes"
    denied = admin.run(
        "SELECT data FROM app.audit_events WHERE tenant_id = :tenant AND outcome = 'denied'", tenant=vera.tenant_id
    )
    assert len(denied) == 1, "one event of the chain for a socket, however often she tries"
    assert denied[0][0]["reason"] == "permission_denied"


def test_the_permission_is_asked_for_with_every_message(admin, room, dan):
    with socket(room, dan) as his:
        his.send(event(1))
        assert his.next()["data"] == 1
        admin.run("UPDATE app.members SET role = 'viewer' WHERE user_id = :user", user=dan.user_id)
        his.send(event(2))
        assert problem_of(his.next()) == (403, "permission_denied", 2)
        room.say("still heard")
        assert his.next()["data"] == "still heard"


def test_a_closed_session_ends_its_sockets(room, dan):
    with socket(room) as hers, socket(room, dan) as his:
        room.say("the last word")
        room.close()
        for each in (hers, his):
            assert each.next()["data"] == "the last word"
            over = each.over()
            assert (over.code, over.reason) == (1000, "session_closed")
    with socket(room, query="?after=0") as late:
        assert late.next()["data"] == "the last word"
        assert late.over().reason == "session_closed"


def test_a_session_whose_time_is_over_takes_nothing(admin, room):
    with socket(room) as hers:
        admin.run("UPDATE app.sessions SET closes_at = now() - interval '1 second' WHERE id = :id", id=room.id)
        hers.send(event("too late"))
        over = hers.over()
        assert (over.code, over.reason) == (1000, "session_closed")
    assert room.get("/events").json["last_seq"] == 0


def test_a_deleted_session_ends_its_sockets(room):
    with socket(room) as hers:
        room.delete()
        over = hers.over()
        assert (over.code, over.reason) == (1000, "not_found")


def test_a_log_out_ends_what_she_says_at_once(api, room):
    with socket(room) as hers:
        assert api.post("/v1/auth/logout", headers=room.owner).status_code == 204
        hers.send(event("afterwards"))
        over = hers.over()
        assert (over.code, over.reason) == (1008, "invalid_token")


def test_what_is_no_text_is_not_spoken_here(room):
    with socket(room) as hers:
        hers.raw(hers.frame(BINARY, b"\x00"))
        over = hers.over()
        assert (over.code, over.reason) == (1003, "unsupported_media_type")


def test_handshakes_that_are_refused(api, room, mallory):
    unknown = Room(api, room.owner, room.project_id, "00000000-0000-4000-8000-000000000000")
    assert refused(socket(unknown), 404, "not_found")
    assert refused(socket(room, mallory), 404, "not_found")
    url = f"{api.base}{room.path}/ws"
    assert refused(WebSocket(url), 401, "invalid_token")
    assert refused(WebSocket(f"{url}?access_token={room.owner.token}"), 401, "invalid_token")
    assert refused(WebSocket(url, {"Authorization": "Bearer nonsense"}), 401, "invalid_token")
    cookie = {"Cookie": f"__Host-access={room.owner.token}", "Origin": api.base}
    assert refused(WebSocket(url, {**cookie, "Authorization": ""}), 401, "invalid_token")
    assert refused(socket(room, query="?after=1"), 422, "invalid_request")
    assert refused(socket(room, query="?after=-1"), 422, "invalid_request")
    assert refused(socket(room, query="?since=1"), 422, "invalid_request")
    assert refused(WebSocket(f"{api.base}{room.path}/stream", room.owner), 400, "malformed_request")
    plain = room.get("/ws")
    assert (plain.status_code, plain.json["code"]) == (400, "malformed_request")
    for answer in (WebSocket(url), socket(unknown)):
        assert answer.answer_headers["x-request-id"] == answer.problem["request_id"]
        assert answer.answer_headers["cache-control"] == "no-store"


def test_the_answer_to_a_handshake_names_its_request(room):
    with WebSocket(f"{room.api.base}{room.path}/ws", {**room.owner, "X-Request-Id": "mine"}) as hers:
        assert hers.answer_headers["x-request-id"] == "mine"
        assert "ratelimit" in hers.answer_headers
        hers.send("nonsense")
        assert hers.next()["problem"]["request_id"] != "mine", "a stranger's id is in no record of ours"


def test_the_token_as_a_subprotocol(room):
    url, token = f"{room.api.base}{room.path}/ws", f"bearer.{room.owner.token}"
    for offered, chosen in (([token], token), (["dev-context.v1", token], "dev-context.v1"), ([token, "x"], token)):
        with WebSocket(url, subprotocols=offered) as hers:
            assert hers.status == 101
            assert hers.subprotocol == chosen
            hers.send(event(1))
            assert hers.next()["data"] == 1
    with socket(room, subprotocols=["x"]) as hers:
        assert hers.subprotocol is None
    assert refused(WebSocket(url, subprotocols=["bearer.nonsense"]), 401, "invalid_token")
    assert refused(WebSocket(url, subprotocols=["dev-context.v1"]), 401, "invalid_token")


def test_by_cookie_from_our_own_pages_alone(api, room):
    url = f"{api.base}{room.path}/ws"
    cookies = Browser(log_in(api, room.owner)).cookie
    for origin in (api.base, "https://app.example.org"):
        with WebSocket(url, {**cookies, "Origin": origin}) as hers:
            hers.send(event(1))
            assert hers.next()["data"] == 1
    for origin in (
        "https://evil.example.org",
        "null",
        api.base + ".evil.example.org",
        api.base.replace("http", "https"),
    ):
        assert refused(WebSocket(url, {**cookies, "Origin": origin}), 403, "csrf_failed")
    assert refused(WebSocket(url, cookies), 403, "csrf_failed")
    assert refused(WebSocket(url, cookies, subprotocols=["bearer.nonsense"]), 401, "invalid_token")
    with WebSocket(url, {**room.owner, "Origin": "https://evil.example.org"}) as hers:
        assert hers.status == 101, "who brings a token of her own is nobody's victim"


def test_an_api_key_speaks_in_its_makers_name(api, room):
    given = {"name": "bot", "permissions": ["session.view", "session.update"]}
    key = api.post("/v1/api-keys", json=given, headers=room.owner).json["key"]
    with WebSocket(f"{api.base}{room.path}/ws", {"Authorization": f"Bearer {key}"}) as bot:
        bot.send(event("beep"))
        assert bot.next()["data"] == "beep"
    assert room.get("/events").json["items"][0]["created_by"] == room.owner.user_id


def test_a_close_is_answered(room):
    with socket(room) as hers:
        assert hers.shut(1001).code == 1001
    with socket(room) as hers:
        hers.raw(hers.frame(8, struct.pack("!H", 4321) + b"own reason"))
        assert hers.over().code == 4321
