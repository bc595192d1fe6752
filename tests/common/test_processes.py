"""Two processes of one function are one service: they share limits, revocations and idempotency."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from local.layout import Layout
from local.stack import function_environment
from tests.conftest import Answer, People, Person, database, pid_of, running_stack


def start_alone(stack: dict[str, Any], **changed: str) -> str:
    """What a function says that is started beside the stack with other settings and does not come up."""
    layout = Layout.load(Path(stack["path"]).parent / "layout.json")
    environment = {**function_environment(layout, "projects", os.environ), **changed}
    command = [sys.executable, "-c", "from common.server import app; app()"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    return ended.stdout + ended.stderr


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    settings = {"PROCESSES_PROJECTS": "2", "RATE_USER": "40/hour"}
    with running_stack(tmp_path_factory.mktemp("two"), only=["projects"], **settings) as running:
        yield running


@pytest.fixture
def people(stack: dict[str, Any]) -> Iterator[People]:
    with database(stack["postgres"]["admin"]) as connection:
        yield People(stack, connection)


class Direct:
    """The projects function without the gateway, each request on a connection of its own."""

    def __init__(self, stack: dict[str, Any]) -> None:
        layout = Layout.load(Path(stack["path"]).parent / "layout.json")
        self._url = f"http://127.0.0.1:{layout.ports['function:projects']}"
        self._edge = layout.path("secrets", "edge-key", "latest").read_text().strip()

    def request(self, method: str, path: str, person: Person, **options: Any) -> Answer:
        headers = {"X-Edge-Key": self._edge, "X-Client-Ip": "203.0.113.7", "Connection": "close"}
        headers |= {"X-Forwarded-Authorization": person["Authorization"], **options.pop("headers", {})}
        return Answer(requests.request(method, self._url + path, headers=headers, timeout=30, **options))

    def many(self, count: int, method: str, path: str, person: Person, **options: Any) -> list[Answer]:
        with ThreadPoolExecutor(16) as pool:
            return list(pool.map(lambda _: self.request(method, path, person, **options), range(count)))


@pytest.fixture
def direct(stack: dict[str, Any]) -> Direct:
    return Direct(stack)


def workers(stack: dict[str, Any]) -> list[int]:
    """The processes that serve, below the one of stack.json."""
    pid = pid_of(stack, "projects")
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def worked(pid: int) -> int:
    """CPU time of a process, in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@pytest.fixture
def both(stack: dict[str, Any]) -> Iterator[None]:
    """The test's requests were answered by both."""
    before = {pid: worked(pid) for pid in workers(stack)}
    assert len(before) >= 2
    yield
    busy = [pid for pid, ticks in before.items() if worked(pid) > ticks]
    assert len(busy) >= 2


def test_limits(direct, both, people):
    alice = people.create()
    answers = direct.many(120, "GET", "/v1/projects", alice)
    assert sorted(answer.status_code for answer in answers) == [200] * 40 + [429] * 80


def test_revocations(direct, people):
    alice = people.create()
    assert {answer.status_code for answer in direct.many(16, "GET", "/v1/projects", alice)} == {200}
    people._admin.run("UPDATE identity.login_sessions SET revoked_at = now() WHERE id = :id", id=alice.session_id)
    assert {answer.status_code for answer in direct.many(16, "GET", "/v1/projects", alice)} == {401}


def test_idempotency(direct, both, people):
    alice = people.create()
    once = {"Idempotency-Key": str(uuid.uuid4())}
    answers = direct.many(40, "POST", "/v1/projects", alice, json={"name": "Atlas"}, headers=once)
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json["id"] for answer in answers if answer.status_code == 201}) == 1
    found = people._admin.run("SELECT count(*) FROM app.projects WHERE tenant_id = :t", t=alice.tenant_id)
    assert found == [[1]]
