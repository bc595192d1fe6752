"""Whose access ends loses open streams within two seconds, whichever way it ends; everybody else's go on."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.auth.support import mailed_token
from tests.conftest import CHECKOUT, PASSWORD, Api, Inbox, People, Person, wait_until
from tests.deletions.conftest import Erasures
from tests.organizations import keys
from tests.sessions.clients import Sse, WebSocket
from tests.sessions.conftest import Room, new_room
from tests.sessions.replicas import Replica

SECONDS = 2 + 1  # the promise, and what this process may need to be woken


@pytest.fixture
def watching(room: Room) -> Iterator["Watching"]:
    with ExitStack() as streams:
        yield Watching(room, streams)


class Watching:
    """Streams of a room, closed at the end."""

    def __init__(self, room: Room, streams: ExitStack) -> None:
        self.room, self._streams = room, streams

    def open(self, by: Person | None = None, headers: dict[str, str] | None = None) -> Sse:
        """Somebody's stream, which is seen to be open."""
        stream = self._streams.enter_context(self.room.stream(headers, by=by))
        assert stream.status == 200, stream.body
        return stream

    def goes_on(self, *streams: Sse) -> None:
        """An event still comes to each."""
        seq = self.room.say("still here")
        assert [stream.next().json["seq"] for stream in streams] == [seq] * len(streams)


def ends(stream: Sse, code: str = "invalid_token", seconds: float = SECONDS) -> None:
    """It is over within so many seconds from now, and says why."""
    end = stream.next(seconds)
    assert (end.name, end.json["code"]) == ("end", code)
    assert stream.rest(seconds) == []


@pytest.mark.parametrize("path", ["logout", "logout-all", "sessions"])
def test_a_log_in_that_ends(path: str, watching: Watching, api: Api, people: People, vera: Person, dan: Person) -> None:
    elsewhere = people.log_in(vera)
    hers, at_home, his = watching.open(vera), watching.open(elsewhere), watching.open(dan)

    if path == "sessions":
        answer = api.delete(f"/v1/auth/sessions/{vera.session_id}", headers=elsewhere)
    else:
        answer = api.post(f"/v1/auth/{path}", headers=vera)

    assert answer.status_code == 204, answer.text
    ends(hers)
    if path == "logout-all":
        ends(at_home)
        watching.goes_on(his)
    else:
        watching.goes_on(his, at_home)
    assert watching.room.get("/stream", by=vera).status_code == 401


def test_at_every_replica(watching: Watching, stack: dict[str, Any], api: Api, vera: Person) -> None:
    path, alices = f"{watching.room.path}/stream", watching.open()
    with Replica(stack, "sessions-1").sse(path, vera) as here, Replica(stack, "sessions-2").sse(path, vera) as there:
        assert api.post("/v1/auth/logout", headers=vera).status_code == 204

        ends(here)
        ends(there)
    watching.goes_on(alices)


def test_a_password_that_is_set_anew(watching: Watching, api: Api, people: People, inbox: Inbox, alice: Person) -> None:
    nora = people.create("viewer", alice.tenant_id, password=PASSWORD)
    hers, alices = watching.open(nora), watching.open()
    assert api.post("/v1/auth/password/forgot", json={"email": nora.email}).status_code == 202
    token = mailed_token(inbox, nora.email, "Set a new password", "reset-password")

    body = {"token": token, "new_password": "a harbour full of herons"}  # pragma: allowlist secret
    assert api.post("/v1/auth/password/reset", json=body).status_code == 204

    ends(hers)
    watching.goes_on(alices)


def test_a_member_who_is_removed(watching: Watching, api: Api, people: People, alice: Person, vera: Person) -> None:
    """Her streams of another organization go on."""
    other = people.create("owner")
    people.join(vera.user_id, other.tenant_id, "viewer")
    there = new_room(api, other)
    hers, alices = watching.open(vera), watching.open()
    with there.stream(by=people.log_in(vera, tenant_id=other.tenant_id)) as elsewhere:
        assert api.delete(f"/v1/members/{vera.user_id}", headers=alice).status_code == 204

        ends(hers)
        watching.goes_on(alices)
        seq = there.say("still here")
        assert elsewhere.next().json["seq"] == seq


def test_a_role_without_the_permission(watching: Watching, api: Api, alice: Person, vera: Person, dan: Person) -> None:
    role = {"name": "Reader of projects", "permissions": ["project.view"]}
    assert api.post("/v1/roles", json=role, headers=alice).status_code == 201
    hers, his = watching.open(vera), watching.open(dan)

    changed = api.patch(f"/v1/members/{vera.user_id}", json={"role": role["name"]}, headers=alice)
    assert changed.status_code == 200, changed.text

    ends(hers, "permission_denied")
    changed = api.patch(f"/v1/members/{dan.user_id}", json={"role": "viewer"}, headers=alice)
    assert changed.status_code == 200, changed.text
    watching.goes_on(his)


def test_a_suspended_organization(
    watching: Watching, stack: dict[str, Any], api: Api, alice: Person, vera: Person, mallory: Person
) -> None:
    key = keys.make(api, alice, "session.view")
    there = new_room(api, mallory)
    all_of_it = [watching.open(), watching.open(vera), watching.open(headers=key)]
    with there.stream() as elsewhere:
        command = [sys.executable, "-m", "local.operator", "suspend", alice.tenant_id, "--root"]
        subprocess.run([*command, str(Path(stack["path"]).parent)], cwd=CHECKOUT, capture_output=True, check=True)

        for stream in all_of_it:
            ends(stream, "organization_suspended")
        seq = there.say("still here")
        assert elsewhere.next().json["seq"] == seq


def test_an_erased_account(watching: Watching, api: Api, erasures: Erasures, vera: Person) -> None:
    hers, alices = watching.open(vera), watching.open()

    erasures.ask(vera)
    wait_until(lambda: api.get("/v1/projects", headers=vera).status_code == 401, what="the freezing of the account")

    ends(hers)
    watching.goes_on(alices)


def test_a_deleted_api_key(watching: Watching, api: Api, alice: Person) -> None:
    key, other = keys.make(api, alice, "session.view"), keys.make(api, alice, "session.view")
    by_key, by_other, alices = watching.open(headers=key), watching.open(headers=other), watching.open()

    assert api.delete(f"{keys.KEYS}/{key.id}", headers=alice).status_code == 204

    ends(by_key)
    watching.goes_on(by_other, alices)


def test_a_token_that_expires(watching: Watching, people: People, vera: Person) -> None:
    """The log-in goes on, and so does its other stream, by a younger token."""
    claims: dict[str, Any] = {
        "sub": vera.user_id,
        "account_id": vera.user_id,
        "tenant_id": vera.tenant_id,
        "sid": vera.session_id,
    }
    expires = int(time.time()) + 2
    old = {"Authorization": f"Bearer {people.token(exp=expires, **claims)}"}
    hers, younger = watching.open(headers=old), watching.open(vera)

    ends(hers, seconds=expires - time.time() + SECONDS)

    assert time.time() >= expires
    watching.goes_on(younger)


def test_a_websocket(room: Room, api: Api, vera: Person, dan: Person) -> None:
    url = f"{api.base}{room.path}/ws"
    with WebSocket(url, vera) as hers, WebSocket(url, dan) as his:
        assert api.post("/v1/auth/logout", headers=vera).status_code == 204

        over = hers.over(SECONDS)

        assert (over.code, over.reason) == (1008, "invalid_token")
        seq = room.say("still here")
        assert his.next()["seq"] == seq


@pytest.fixture
def erasures(api: Api, admin: Any) -> Erasures:
    return Erasures(api, admin)
