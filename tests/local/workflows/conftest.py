"""The Workflows stand-in as a real process, the workflows a test deploys on it, and an HTTP target they call."""

import json
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from textwrap import dedent
from typing import Any

import pytest

from local.identity import Issuer
from local.layout import HOST, PROJECT, REGION, Layout, service_account

PARENT = f"/v1/projects/{PROJECT}/locations/{REGION}/workflows"
Start = Callable[..., AbstractContextManager[subprocess.Popen[bytes]]]


@dataclass
class Answer:
    """What the target answers; it waits for `gate`, and with `drop` it closes the connection instead."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    gate: threading.Event | None = None
    drop: bool = False


@dataclass
class Seen:
    """One request that the target got."""

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Target:
    """Answers by path: the scripted answers in turn, the last one for ever."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.now = 0
        self.most = 0
        self.url = ""

    def take(self, seen: Seen) -> Answer:
        with self.lock:
            self.seen.append(seen)
            self.now += 1
            self.most = max(self.most, self.now)
            script = self.answers.get(seen.path.partition("?")[0], [Answer()])
            return script.pop(0) if len(script) > 1 else script[0]

    def leave(self) -> None:
        with self.lock:
            self.now -= 1

    def count(self, path: str) -> int:
        return sum(each.path == path for each in self.seen)


@pytest.fixture
def target() -> Iterator[Target]:
    target = Target()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = target.take(Seen(time.monotonic(), self.command, self.path, dict(self.headers), body))
            try:
                if answer.gate is not None:
                    answer.gate.wait(20)
            finally:
                target.leave()
            if answer.drop:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except OSError:
                self.close_connection = True

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    target.url = f"http://{HOST}:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield target
    server.shutdown()
    server.server_close()


class Cloud:
    """One stand-in with its own folder of workflows."""

    def __init__(self, root: Path, start: Start) -> None:
        with create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        self.layout = Layout(str(root), {"workflows": port}, HOST)
        self.layout.save()
        self.folder = root / "deployed"
        self.folder.mkdir()
        self.start = start
        self.running: AbstractContextManager[subprocess.Popen[bytes]] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def deploy(self, name: str, source: str) -> None:
        (self.folder / f"{name}.yaml").write_text(dedent(source))

    def up(self, *arguments: str) -> None:
        self.running = self.start(
            "local.workflows", self.layout, "workflows", "--workflows", str(self.folder), *arguments
        )
        self.process = self.running.__enter__()

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def down(self) -> None:
        if self.running is not None:
            self.running.__exit__(None, None, None)

    def request(self, method: str, path: str, body: Any = None, caller: str | None = "tasks") -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"}
        if caller is not None:
            email = caller if "@" in caller else service_account(caller)
            headers["Authorization"] = f"Bearer {Issuer(self.layout.root).access_token(email)}"
        data = None if body is None else json.dumps(body).encode()
        url = self.layout.url("workflows") + path
        request = urllib.request.Request(url, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def create(self, workflow: str, argument: Any = None) -> str:
        body = {} if argument is None else {"argument": json.dumps(argument)}
        status, execution = self.request("POST", f"{PARENT}/{workflow}/executions", body)
        assert status == 200, execution
        return f"/v1/{execution['name']}"

    def wait(self, execution: str, seconds: float = 15) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            status, shown = self.request("GET", execution)
            assert status == 200, shown
            if shown["state"] != "ACTIVE":
                return dict(shown)
            assert time.monotonic() < deadline, "the execution does not end"
            time.sleep(0.02)

    def run(self, source: str, argument: Any = None) -> Any:
        """Deploy one workflow, start the stand-in, and return the result of one successful execution."""
        self.deploy("it", source)
        self.up()
        shown = self.wait(self.create("it", argument))
        assert shown["state"] == "SUCCEEDED", shown
        return json.loads(shown["result"])


@pytest.fixture
def cloud(tmp_path: Path, start: Start) -> Iterator[Cloud]:
    cloud = Cloud(tmp_path, start)
    yield cloud
    cloud.down()


@pytest.fixture(scope="session")
def new_cloud(tmp_path_factory: pytest.TempPathFactory, start: Start) -> Callable[[], Cloud]:
    return lambda: Cloud(tmp_path_factory.mktemp("cloud"), start)


@pytest.fixture(scope="session")
def answer() -> type[Answer]:
    return Answer
