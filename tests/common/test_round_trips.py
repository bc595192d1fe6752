"""A request costs at most four database round trips: counted on the wire, between the function and PostgreSQL."""

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import valkey

from common import denylist

CHILD = """
import json, sys
from werkzeug.test import Client
from common.server import app
from common.settings import settings
if settings().service == "sessions":
    from sessions.main import routes
    from werkzeug.wrappers import Request
    app = lambda: lambda environ, start: routes.answer(Request(environ))(environ, start)
client = Client(app())
for line in sys.stdin:
    work = json.loads(line)
    answer = client.open(work["path"], method=work["method"], json=work.get("json"), headers=work["headers"])
    print("RESULT " + json.dumps({"status": answer.status_code, "body": answer.get_data(as_text=True)}), flush=True)
"""


class Counter:
    """A TCP proxy that counts turns: client bytes after server bytes begin a new round trip."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.trips = 0
        self._client_speaks = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            upstream = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(client, upstream, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(upstream, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with source, sink:
            while True:
                try:
                    data = source.recv(1 << 20)
                    if not data:
                        return
                    if from_client and not self._client_speaks:
                        self.trips += 1
                    self._client_speaks = from_client
                    sink.sendall(data)
                except OSError:
                    return

    def close(self) -> None:
        self._server.close()


@contextmanager
def counting(stack, folder, service):
    """A service in a process of its own, behind the counting proxy."""
    role = f"{service}_fn"
    real = urlsplit(stack["postgres"][role])
    counter = Counter((real.hostname or "", real.port or 0))
    rings = json.loads(Path(stack["context_key"]).read_text())
    (folder / f"context-key-{role}").write_text(json.dumps(rings[role]))
    (folder / "jwt-verify-keyring").write_text(Path(stack["jwt_keyring"]).read_text())
    (folder / "cursor-key").write_text(json.dumps(rings[role]))
    (folder / "edge-key").write_text("edge")
    environment = {
        "PATH": os.environ["PATH"],
        "SERVICE": service,
        "DATABASE_URL": stack["postgres"][role].replace(f":{real.port}/", f":{counter.port}/"),
        "DATABASE_POOL": "1",
        "SECRETS_DIR": str(folder),
        "PUBLIC_URL": stack["api"],
        "SERVICE_URL": "http://localhost",
        "VALKEY_URL": stack["valkey"],
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield counter, process
    process.stdin.close()
    process.stdout.close()
    process.wait(10)
    counter.close()


@pytest.fixture
def counted(stack, tmp_path):
    with counting(stack, tmp_path, "projects") as found:
        yield found


def ask(process, person, method, path, body=None, key=None):
    headers = {"X-Edge-Key": "edge", "X-Forwarded-Authorization": person["Authorization"], "X-Client-Ip": "127.0.0.1"}
    if key:
        headers["Idempotency-Key"] = key
    process.stdin.write(json.dumps({"method": method, "path": path, "json": body, "headers": headers}) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        if line.startswith("RESULT "):
            return json.loads(line.removeprefix("RESULT "))
    raise AssertionError("the function ended")


def test_at_most_four(counted, alice):
    counter, process = counted
    project = json.loads(ask(process, alice, "POST", "/v1/projects", {"name": "first"})["body"])["id"]
    ask(process, alice, "GET", "/v1/projects")
    requests = [
        ("POST", "/v1/projects", {"name": "second"}, 201, 3),
        ("GET", "/v1/projects", None, 200, 1),
        ("GET", f"/v1/projects/{project}", None, 200, 1),
        ("PATCH", f"/v1/projects/{project}", {"name": "third"}, 200, 3),
        ("POST", f"/v1/projects/{project}/tasks", {"title": "t", "assignee_id": alice.user_id}, 201, 4),
        ("GET", f"/v1/projects/{project}/tasks", None, 200, 1),
        ("PATCH", f"/v1/projects/{project}", {"name": "second"}, 409, 3),
        ("GET", f"/v1/projects/{alice.user_id}", None, 404, 1),
        ("DELETE", f"/v1/projects/{project}", None, 204, 3),
    ]
    for method, path, body, status, trips in requests:
        before = counter.trips
        answer = ask(process, alice, method, path, body)
        assert (answer["status"], counter.trips - before) == (status, trips), (method, path, answer)
        assert trips <= 4


def test_at_most_three_of_a_session(api, stack, tmp_path, alice):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    with counting(stack, tmp_path, "sessions") as (counter, process):
        made = ask(process, alice, "POST", "/v1/sessions", {"project_id": project, "title": "Kick-off"})
        path, events = f"/v1/sessions/{json.loads(made['body'])['id']}", {"events": [{"type": "said", "data": 1}] * 9}
        for method, address, body, status in (
            ("POST", f"{path}/events", events, 201),
            ("GET", f"{path}/events", None, 200),
            ("GET", f"{path}/stream", None, 200),
            ("GET", "/v1/sessions", None, 200),
            ("PATCH", path, {"status": "closed"}, 200),
        ):
            before = counter.trips
            answer = ask(process, alice, method, address, body)
            assert (answer["status"], counter.trips - before) == (status, 3), (method, address, answer)


def test_an_idempotency_key_adds_none(counted, alice):
    counter, process = counted
    project = json.loads(ask(process, alice, "POST", "/v1/projects", {"name": "zero"}, "zero")["body"])["id"]
    tasks, task = f"/v1/projects/{project}/tasks", {"title": "t", "assignee_id": alice.user_id}
    ask(process, alice, "POST", tasks, task)
    for path, body, key, trips in (
        ("/v1/projects", {"name": "first"}, "first", 3),
        ("/v1/projects", {"name": "first"}, "first", 2),
        (tasks, task, "task", 4),
        (tasks, task, "task", 2),
    ):
        before = counter.trips
        answer = ask(process, alice, "POST", path, body, key)
        assert (answer["status"], counter.trips - before) == (201, trips), (path, key, answer)


def test_a_log_in_of_the_denylist_opens_no_transaction(counted, stack, alice):
    counter, process = counted
    assert ask(process, alice, "GET", "/v1/projects")["status"] == 200
    with valkey.Valkey.from_url(stack["valkey"]) as client:
        client.set(denylist.key(alice.session_id), b"", ex=60)
    before = counter.trips
    assert ask(process, alice, "GET", "/v1/projects")["status"] == 401
    assert counter.trips - before == 1, "the record of the refusal, and nothing else"
