"""What somebody may not say on a WebSocket is refused and recorded, once, however often she tries."""

from typing import Any

import pytest

from common.tokens import Claim
from sessions.appending import Sender
from sessions.hub import Hub
from sessions.outcomes import Opening, Place
from sessions.socket import Inbox, _said
from tests.sessions.clients import WebSocket
from tests.sessions.test_fanout import run


def denials(admin, person):
    rows = admin.run(
        "SELECT resource_id, actor_id::text, data FROM app.audit_events"
        " WHERE tenant_id = :t AND action = 'access.denied' ORDER BY seq",
        t=person.tenant_id,
    )
    return [tuple(row) for row in rows]


def test_a_viewer_listens_only(admin, alice, vera, room):
    with WebSocket(f"{room.api.base}{room.path}/ws", vera) as hers:
        assert hers.status == 101
        for _ in range(3):
            hers.send({"type": "said", "data": "May I?"})
            problem = hers.next()["problem"]
            assert (problem["status"], problem["code"]) == (403, "permission_denied")
        room.say("You may not")
        assert hers.next() == {"seq": 1, "type": "said", "data": "You may not"}

    route = "GET /v1/sessions/<uuid:session_id>/ws"
    assert denials(admin, alice) == [(route, vera.user_id, {"reason": "permission_denied", "needs": "session.update"})]


def test_a_role_that_has_changed_counts_at_once(admin, alice, dan, room):
    with WebSocket(f"{room.api.base}{room.path}/ws", dan) as his:
        his.send({"type": "said", "data": 1})
        assert his.next()["seq"] == 1
        admin.run("UPDATE app.members SET role = 'viewer' WHERE user_id = :u", u=dan.user_id)
        his.send({"type": "said", "data": 2})
        assert his.next()["problem"]["code"] == "permission_denied"

    assert [event["data"] for event in room.get("/events").json["items"]] == [1]
    assert [who for _, who, _ in denials(admin, alice)] == [dan.user_id]


def counted(cache, key: str) -> int:
    return sum(int(cache.get(each)) for each in cache.scan_iter(f"*events*{key}*"))


def test_who_may_not_speak_uses_up_nobody_elses_limit(admin, cache, alice, dan, vera, room):
    room.say("The limit is the organization's")
    with WebSocket(f"{room.api.base}{room.path}/ws", vera) as hers:
        for number in range(20):
            hers.send({"type": "said", "data": "May I?"} if number % 2 else "nonsense")
            hers.next()
    assert counted(cache, vera.tenant_id) == 1
    assert counted(cache, vera.user_id) == 20

    with WebSocket(f"{room.api.base}{room.path}/ws", dan) as his:
        his.send({"type": "said", "data": 1})
        assert his.next()["seq"] == 2
        admin.run("UPDATE app.members SET role = 'viewer' WHERE user_id = :u", u=dan.user_id)
        for _ in range(5):
            his.send({"type": "said", "data": 2})
            assert his.next()["problem"]["code"] == "permission_denied"
        admin.run("UPDATE app.members SET role = 'developer' WHERE user_id = :u", u=dan.user_id)
        his.send({"type": "said", "data": 3})
        assert his.next()["seq"] == 3
    assert counted(cache, vera.tenant_id) == 3, "the refusal that told of it, and what was said before"
    assert counted(cache, dan.user_id) == 5, "until it was known again that he may"


@pytest.mark.parametrize("code", ["invalid_token", "organization_suspended"])
def test_nobody_speaks_on_after_her_access_by_reading_nothing(code):
    """The end of the stream waits behind what she does not take; what she says is not heard any more."""
    place, claim = Place("t", "s"), Claim("u", "t", "p", "l")

    async def no_events(_claim: Claim, _place: Place, _after: int) -> tuple[int, list[bytes]]:
        return 0, []

    async def story() -> None:
        hub = Hub(no_events)
        reader = hub.join(Opening(place, claim, after=0, tip=0, closed=False, expires_at=1), lambda: None)
        sender, inbox, asked = Sender(place, claim, "", "", {}, may=True), Inbox(), []

        class Replica:
            async def run(self, _function, _sender, _first, texts):
                asked.append(texts)
                return None, []

        replica: Any = Replica()
        await inbox.put(b"in time")
        assert await _said(replica, sender, 1, inbox, reader) == (1, [])
        reader.cut(code)
        await inbox.put(b"late")
        assert await _said(replica, sender, 2, inbox, reader) is None
        assert asked == [[b"in time"]]

    run(story)
