"""A session in a project of Alice's, and what tests do with it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import pg8000.native
import pytest
import valkey

from tests.conftest import Answer, Api, Person
from tests.sessions.clients import Sse

Headers: TypeAlias = dict[str, str] | None


@dataclass
class Room:
    """A session as its tests see it, through the gateway as whoever opened it, or as somebody else."""

    api: Api
    owner: Person
    project_id: str
    id: str

    @property
    def path(self) -> str:
        return f"/v1/sessions/{self.id}"

    def get(self, path: str = "", by: Person | None = None) -> Answer:
        return self.api.get(self.path + path, headers=by or self.owner)

    def patch(self, body: dict[str, Any], headers: Headers = None, by: Person | None = None) -> Answer:
        return self.api.patch(self.path, json=body, headers={**(by or self.owner), **(headers or {})})

    def delete(self, by: Person | None = None) -> Answer:
        return self.api.delete(self.path, headers=by or self.owner)

    def post(self, events: list[Any], headers: Headers = None, by: Person | None = None) -> Answer:
        """Append events as they are given."""
        given = {**(by or self.owner), **(headers or {})}
        return self.api.post(f"{self.path}/events", json={"events": events}, headers=given)

    def say(self, *data: Any, by: Person | None = None) -> int:
        """Append an event with each of these; the seq of the first."""
        answer = self.post([{"type": "said", "data": each} for each in data], by=by)
        assert answer.status_code == 201, answer.text
        assert answer.json["last_seq"] - answer.json["first_seq"] + 1 == len(data)
        return int(answer.json["first_seq"])

    def close(self) -> None:
        assert self.patch({"status": "closed"}).status_code == 200

    def stream(self, headers: Headers = None, query: str = "", by: Person | None = None) -> Sse:
        """Open the stream."""
        return Sse(f"{self.api.base}{self.path}/stream{query}", {**(by or self.owner), **(headers or {})})


def new_room(api: Api, owner: Person, project_id: str | None = None, title: str = "Kick-off") -> Room:
    """A session of its own, in a new project unless one is given."""
    if project_id is None:
        project_id = str(api.post("/v1/projects", json={"name": f"For {title}"}, headers=owner).json["id"])
    answer = api.post("/v1/sessions", json={"project_id": project_id, "title": title}, headers=owner)
    assert answer.status_code == 201, answer.text
    return Room(api, owner, project_id, str(answer.json["id"]))


@pytest.fixture
def project(api: Api, alice: Person) -> str:
    return str(api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"])


@pytest.fixture
def room(api: Api, alice: Person, project: str) -> Room:
    return new_room(api, alice, project)


@pytest.fixture
def cache(stack: dict[str, Any]) -> Iterator[valkey.Valkey]:
    """Valkey itself."""
    with valkey.Valkey.from_url(stack["valkey"], protocol=2) as client:
        yield client


def let_time_pass(admin: pg8000.native.Connection, room: Room, seconds: int) -> None:
    """As if nothing had happened in the session for so long."""
    admin.run(
        "UPDATE app.sessions SET active_at = active_at - make_interval(secs => :s),"
        " closes_at = closes_at - make_interval(secs => :s) WHERE id = :id",
        s=seconds,
        id=room.id,
    )
