"""A session, live: two people watch it, a replica is killed in the middle, one of the two is removed."""

import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import requests

from local.demo.client import INVITATION, POLL_SECONDS, TooLate, eventually, fragment
from local.demo.console import Console, short
from local.demo.people import Person, person
from local.demo.story import CREATED, OK, code
from local.demo.texts import TEXTS
from local.demo.watchers import Socket, Stream, Watcher
from local.layout import replicas

BATCHES = 12  # that are written before the kill, and again after it
BACK_SECONDS = 30
CUT_SECONDS = 2.0  # in which whoever has lost the right to watch stops seeing anything
SPOKEN = 3
AGAIN = ("503 unavailable", "409 idempotency_in_progress")  # what the end of a replica in the middle may leave
GONE, POLICY_VIOLATION = 204, 1008


def show(console: Console, stack: dict[str, Any], host: Person) -> None:
    """The whole chapter, in the host's organization."""
    guest = joined(console, stack, host)
    path = opened(console, host)
    stream, socket = Stream(host, path), Socket(guest, path)
    both = (stream, socket)
    open_now = wait(lambda: all(each.is_open for each in both))
    text = f"watches by server-sent events, {guest.nick} by WebSocket"
    console.need(open_now, host.nick, text, [each.end for each in both])
    total = write(host, path) + speak(socket)
    for victim in replicas():
        kill(stack, victim)
        console.say(f"{victim} is killed (kill -9) while both watch")
        total += write(host, path)
        if not arrive(both, total) or stream.opened + socket.opened > len(both):
            break  # else neither was on that one: other streams of this stack were
    for watcher in both:
        numbers = [event["seq"] for event in watcher.seen]
        text = f"has seen events 1 to {total}, in order, none lost, none twice"
        console.check(numbers == list(range(1, total + 1)), watcher.person.nick, text, numbers)
    back = stream.opened + socket.opened - len(both)
    console.check(back > 0, "both", "whoever was cut came back behind the last event seen", back)
    removed(console, host, guest, socket)
    closed(console, host, path, stream)


def joined(console: Console, stack: dict[str, Any], host: Person) -> Person:
    """Somebody new, who is invited by mail."""
    guest = person(stack, "Petra", "Grænquist")
    invited = host.api.post("/v1/invitations", {"email": guest.email, "role": "member"})
    console.need(invited.status_code == CREATED, host.nick, f"invites {guest.nick} as a member", code(invited))
    token = fragment(guest.mailbox.link(INVITATION), "token")
    accepted = guest.api.post(
        "/v1/invitations/accept", {"token": token, "password": guest.password, "display_name": guest.name}
    )
    console.need(accepted.status_code == OK, guest.nick, "joins by the mailed link", code(accepted))
    guest.logged_in(accepted.json())
    return guest


def opened(console: Console, host: Person) -> str:
    """The path of a new session."""
    answer = host.api.post("/v1/sessions", {"project_id": host.projects[0], "title": TEXTS[0][0]})
    console.need(answer.status_code == CREATED, host.nick, "opens a session in a project", code(answer))
    console.check(answer.json()["status"] == "active", host.nick, f"session {short(answer.json()['id'])} is active")
    return f"/v1/sessions/{answer.json()['id']}"


def write(host: Person, path: str) -> int:
    """Append some batches, each until it is acknowledged; how many events that were."""
    count = 0
    for number in range(BATCHES):
        events = [{"type": "text", "data": text} for text in TEXTS[number % len(TEXTS)]]
        key = str(uuid.uuid4())
        eventually(lambda: appended(host, path, events, key), BACK_SECONDS, "an append")  # noqa: B023 - called here
        count += len(events)
    return count


def appended(host: Person, path: str, events: list[Any], key: str) -> bool:
    """Whether a batch is acknowledged. With the same key it may be sent again: it is appended once."""
    try:
        answer = host.api.post(f"{path}/events", {"events": events}, **{"Idempotency-Key": key})
    except requests.ConnectionError:
        return False
    found = code(answer)
    if found not in {"201", *AGAIN}:
        raise TooLate(f"an append was refused: {found}")
    return found == "201"


def speak(socket: Socket) -> int:
    """Some events by WebSocket, which come back to their author like everybody's."""
    before = len(socket.seen)
    for number in range(SPOKEN):
        socket.say({"type": "spoken", "data": {"number": number}})

    def heard() -> bool:
        return len([event for event in socket.seen[before:] if event["type"] == "spoken"]) == SPOKEN

    eventually(heard, BACK_SECONDS, "the echo of what was said")
    return SPOKEN


def kill(stack: dict[str, Any], replica: str) -> None:
    """Kill -9 a replica; the supervisor starts another one."""
    os.kill(int(json.loads(Path(stack["path"]).read_text())["pids"][replica]), signal.SIGKILL)


def wait(condition: Callable[[], bool]) -> bool:
    """Whether something comes true before the patience ends."""
    deadline = time.monotonic() + BACK_SECONDS
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return found


def arrive(watchers: Sequence[Watcher], number: int) -> bool:
    """Whether all watchers get as far as this event."""
    return wait(lambda: all(watcher.last >= number for watcher in watchers))


def removed(console: Console, host: Person, guest: Person, socket: Socket) -> None:
    """Who is removed from the organization stops seeing it."""
    answer = host.api.send("DELETE", f"/v1/members/{guest.user_id}")
    began = time.monotonic()
    console.need(answer.status_code == GONE, host.nick, f"removes {guest.nick} from the organization", code(answer))
    eventually(lambda: socket.end in socket.FOR_GOOD, BACK_SECONDS, "the end of the socket")
    seconds = max(socket.ended_at - began, 0)
    console.check(
        socket.close_code == POLICY_VIOLATION and seconds < CUT_SECONDS,
        guest.nick,
        f"is cut {seconds:.1f} s later: the socket is closed with 1008 {socket.end}",
        (socket.close_code, socket.end, seconds),
    )
    refused = code(guest.api.get(socket.path))
    console.check(refused == "401 invalid_token", guest.nick, "cannot read the session any more", refused)


def closed(console: Console, host: Person, path: str, stream: Stream) -> None:
    """Closing a session ends its streams, and nothing is appended to it any more."""
    answer = host.api.send("PATCH", path, {"status": "closed"})
    console.check(answer.status_code == OK, host.nick, "closes the session", code(answer))
    eventually(lambda: stream.end == "session_closed", BACK_SECONDS, "the end of the stream")
    late = code(host.api.post(f"{path}/events", {"events": [{"type": "text", "data": "late"}]}))
    console.check(late == "409 session_closed", host.nick, "the stream ends by itself; appending is a 409", late)
