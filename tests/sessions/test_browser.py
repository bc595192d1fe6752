"""The streams in a real browser: `EventSource` and `WebSocket` by cookie, and the example of the documentation."""

import os
import re
import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.conftest import CHECKOUT, PASSWORD, wait_until
from tests.sessions import chromium
from tests.sessions.chromium import Browser, Page
from tests.sessions.conftest import Room
from tests.sessions.replicas import Replica

EXAMPLE = re.compile(r"## In a browser\n.*?```js\n(.*?)```", re.DOTALL)
LOG_IN = """
    fetch("/v1/auth/login?cookies=true", {
        method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({email, password})
    }).then(answer => answer.json())
"""
LOG_OUT = """
    fetch("/v1/auth/logout", {method: "POST", headers: {
        "X-CSRF-Token": document.cookie.match("__Host-csrf=([^;]*)")[1]
    }}).then(answer => answer.status)
"""
WATCH = """
    (() => {
        const seen = window[name] = {seqs: [], opened: 0, ends: [], lost: 0};
        seen.source = new EventSource(path);
        seen.source.onopen = () => seen.opened++;
        seen.source.onerror = () => seen.lost++;
        seen.source.onmessage = message => {
            if (message.lastEventId !== String(JSON.parse(message.data).seq)) throw message;
            seen.seqs.push(JSON.parse(message.data).seq);
        };
        seen.source.addEventListener("end", message => seen.ends.push(JSON.parse(message.data).code));
    })()
"""
TALK = """
    new Promise(done => {
        const seen = window[name] = {messages: [], socket: new WebSocket(address, protocols)};
        seen.socket.onmessage = message => seen.messages.push(JSON.parse(message.data));
        seen.socket.onclose = close => { seen.closed = [close.code, close.reason]; done("closed"); };
        seen.socket.onopen = () => done(seen.socket.protocol);
    })
"""
PAGE = "/verify-email"  # a small one of our own origin
CLOSED = 2  # EventSource.readyState


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium.program()
    if program is None:
        pytest.skip(chromium.ABSENT)
    with chromium.running(program, tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def page(browser: Browser, room: Room) -> Iterator[Page]:
    """A page of our own origin; Alice has logged in there by cookie."""
    with browser.page(f"{room.api.base}{PAGE}") as page:
        assert page.run(LOG_IN, email=room.owner.email, password=PASSWORD)["status"] == "authenticated"
        assert "access" not in page.run("document.cookie"), "no script reads the tokens"
        yield page


def watch(page: Page, room: Room, query: str = "", name: str = "seen") -> None:
    """Open an EventSource whose page keeps what it has seen."""
    page.run(WATCH, name=name, path=f"{room.path}/stream{query}")
    wait_until(lambda: page.run(f"{name}.opened"), what="the stream")


def address(room: Room) -> str:
    return f"{room.api.base.replace('http', 'ws', 1)}{room.path}/ws"


def heard(page: Page, count: int, name: str = "seen") -> list[int]:
    """The seqs that arrived, once there are so many."""
    wait_until(lambda: len(page.run(f"{name}.seqs")) >= count, what=f"event {count}")
    return list(page.run(f"{name}.seqs"))


def insist(room: Room) -> int:
    """Append an event though a replica may just have died under the request; the session's last seq."""
    wait_until(lambda: room.post([{"type": "said", "data": 1}]).status_code == 201, what="an append")
    answer = wait_until(lambda: room.get("/events?limit=1"), what="a look at the events")
    return int(answer.json["last_seq"])


def test_an_event_source_outlives_its_replicas(stack: dict[str, Any], page: Page, room: Room) -> None:
    """It reconnects by itself and says what it saw last: no event is missed, none comes twice."""
    watch(page, room, "?after=0")
    for name, number in (("sessions-1", signal.SIGKILL), ("sessions-2", signal.SIGTERM)):
        replica = Replica(stack, name)
        heard(page, insist(room))
        old = replica.pid
        os.kill(old, number)
        last = insist(room)
        assert heard(page, last) == list(range(1, last + 1))
        wait_until(partial(replica.replaced, old), what=f"a new {name}")
    last = insist(room)
    assert heard(page, last) == list(range(1, last + 1))
    seen = page.run("[seen.opened, seen.ends, seen.source.readyState]")
    assert seen[0] > 1, "it had to come back at least once"
    assert set(seen[1]) <= {"draining"}
    assert seen[2] != CLOSED


def test_a_closed_session_ends_and_204_stops_the_browser(page: Page, room: Room) -> None:
    watch(page, room)
    room.say("the last word")
    room.close()
    wait_until(lambda: page.run("seen.ends").count("session_closed") == 1, what="the end")
    wait_until(lambda: page.run("seen.source.readyState") == CLOSED, what="204 to the browser that comes back")
    assert page.run("[seen.seqs, seen.ends, seen.opened]") == [[1], ["session_closed"], 1]


def test_a_log_out_in_another_tab_ends_it(page: Page, room: Room) -> None:
    watch(page, room)
    assert page.run(LOG_OUT) == 204
    wait_until(lambda: page.run("seen.ends") == ["invalid_token"], what="the end")
    wait_until(lambda: page.run("seen.source.readyState") == CLOSED, what="401 to the browser that comes back")


def test_a_websocket_by_cookie(page: Page, room: Room) -> None:
    assert page.run(TALK, name="talk", address=address(room), protocols=[]) == ""
    page.run("talk.socket.send(JSON.stringify({type: 'said', data: {text: 'привет'}}))")
    wait_until(lambda: page.run("talk.messages.length") == 1, what="her own message")
    assert page.run("talk.messages") == [{"seq": 1, "type": "said", "data": {"text": "привет"}}]
    page.run("talk.socket.send('nonsense')")
    wait_until(lambda: page.run("talk.messages.length") == 2, what="the refusal")
    assert page.run("talk.messages[1].problem.code") == "malformed_request"
    room.close()
    wait_until(lambda: page.run("talk.closed"), what="the end")
    assert page.run("talk.closed") == [1000, "session_closed"]


def test_a_websocket_by_subprotocol(browser: Browser, room: Room) -> None:
    """No cookie, and the token in no address."""
    token = f"bearer.{room.owner.token}"
    with browser.page(f"{room.api.base}{PAGE}") as page:
        chosen = page.run(TALK, name="talk", address=address(room), protocols=["dev-context.v1", token])
        assert chosen == "dev-context.v1"
        assert page.run(TALK, name="other", address=address(room), protocols=[token]) == token
        assert page.run(TALK, name="nobody", address=address(room), protocols=[]) == "closed"
        assert page.run("nobody.closed[0]") == 1006


def test_a_page_of_another_origin_gets_nothing_by_her_cookie(stack: dict[str, Any], page: Page, room: Room) -> None:
    """Cookies know no ports: the browser sends hers along from another origin of the same host."""
    room.say("secret")
    page.go(f"{stack['mail']}/messages")
    assert page.run(TALK, name="talk", address=address(room), protocols=[]) == "closed"
    assert page.run("talk.messages") == []
    source = "new EventSource(url, {withCredentials: true})"
    outcome = f"new Promise(done => {{ const s = {source}; s.onerror = () => done('refused'); s.onmessage = done }})"
    assert page.run(outcome, url=f"{room.api.base}{room.path}/stream?after=0") == "refused"


def test_the_example_of_the_documentation(page: Page, room: Room) -> None:
    found = EXAMPLE.search((CHECKOUT / "docs" / "sessions.md").read_text())
    assert found is not None
    script = found[1].replace("export ", "")
    page.run(f"(() => {{ {script}; Object.assign(window, {{follow, talk}}) }})()")
    page.forget("__Host-access", room.api.base)  # as after an hour: the page has to refresh
    assert page.run("fetch('/v1/auth/me').then(answer => answer.status)") == 401
    page.run(
        """
        (() => {
            window.got = {followed: [], talked: [], refused: [], over: []};
            follow(id, event => got.followed.push(event.seq), code => got.over.push("follow " + code));
            window.hers = talk(id, event => got.talked.push(event.seq), problem => got.refused.push(problem.code),
                               code => got.over.push("talk " + code));
        })()
        """,
        id=room.id,
    )
    room.say("by POST")
    wait_until(lambda: page.run("got.talked.length") == 1, what="the socket")
    page.run("hers.say('said', 'by WebSocket')")
    page.run("hers.say('', 'no event')")
    wait_until(
        lambda: page.run("got") == {"followed": [1, 2], "talked": [1, 2], "refused": ["invalid_request"], "over": []}
    )
    room.close()
    wait_until(lambda: sorted(page.run("got.over")) == ["follow session_closed", "talk session_closed"], what="the end")
