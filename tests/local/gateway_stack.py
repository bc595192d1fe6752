"""A real gateway in front of fake functions that say what reached them."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from local.identity import Issuer
from local.layout import HOST, Layout, catalog, replicas
from local.openapi.public import gateway
from local.ports import choose, reserve
from local.secrets_store import SecretStore

READY_SECONDS = 15


@dataclass(frozen=True)
class Line:
    """A route, as far as the gateway document looks at it."""

    method: str
    path: str
    needs: str = "public"
    body: None = None
    query: None = None
    answers: None = None
    status: int = 200
    summary: str = ""
    step_up: bool = False
    errors: tuple[str, ...] = ()
    also: None = None


@dataclass(frozen=True)
class Table:
    """A route table, likewise."""

    service: str
    routes: list[Line]


TABLES = [
    Table("auth", [Line("GET", "/health/ready"), Line("POST", "/v1/auth/login"), Line("POST", "/internal/mails/<id>")]),
    Table(
        "projects",
        [
            Line("GET", "/v1/projects"),
            Line("GET", "/v1/projects/<uuid:project_id>"),
            Line("GET", "/v1/projects/<uuid:project_id>/tasks"),
            Line("GET", "/v1/projects/first"),
        ],
    ),
    Table("exports", [Line("GET", "/v1/exports")]),
]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def seen(self) -> dict[str, str]:
        """The headers that the function got, names in lower case; a repeated one has its values joined by `|`."""
        values: dict[str, list[str]] = {}
        for name, value in self.json["headers"]:
            values.setdefault(name.lower(), []).append(value)
        return {name: "|".join(each) for name, each in values.items()}


class Echo(BaseHTTPRequestHandler):
    """A function: says its name and what it got; the query makes it slow or its answer large.

    As a replica it streams what `say` is told, one line at a time, and answers an upgrade by sending back every byte.
    """

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    name = ""
    count = 0
    serving = True
    sent = 0  # bytes of streams
    go = threading.Semaphore(0)
    open: ClassVar[set[socket.socket]] = set()

    def setup(self) -> None:
        """A connection begins."""
        super().setup()
        self.open.add(self.connection)

    def finish(self) -> None:
        """A connection ends; its client may have left in the middle of an answer."""
        self.open.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def get(self) -> None:
        if self.path == "/health/serving":
            self.send_response(200 if self.serving else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.headers.get("Upgrade") == "websocket":
            self.echo_bytes()
        elif "lines=" in self.path:
            self.stream()
        else:
            self.answer()

    def answer(self) -> None:
        type(self).count += 1
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        _, _, query = self.path.partition("?")
        asked = dict(pair.split("=") for pair in query.split("&") if "=" in pair)
        if "hang" in asked:
            time.sleep(float(asked["hang"]))
        if "break" in asked:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        said = {"service": self.name, "method": self.command, "path": self.path, "headers": self.headers.items()}
        body = b"x" * int(asked["bytes"]) if "bytes" in asked else json.dumps(said).encode()
        self.send_response(200)
        if "chunked" in asked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for start in range(0, len(body), 1_000_000):
                part = body[start : start + 1_000_000]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.write(b"0\r\n\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def stream(self) -> None:
        """As many lines as the query says; without a size each after the first waits for a go."""
        lines, _, given = self.path.partition("?lines=")[2].partition("&size=")
        size = int(given or "1")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("X-Replica", self.name)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(int(lines)):
            if number and size == 1:
                self.go.acquire(timeout=READY_SECONDS)
            part = (str(number) * size)[:size].encode() + b"\n"
            try:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            except OSError:  # the client has left
                self.close_connection = True
                return
            type(self).sent += len(part)
        self.wfile.write(b"0\r\n\r\n")

    def echo_bytes(self) -> None:
        """Agree to the upgrade, then return what comes until the other side has enough."""
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("X-Replica", self.name)
        self.end_headers()
        while data := self.connection.recv(1024):
            self.connection.sendall(data)
        self.close_connection = True

    do_GET = get
    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@dataclass
class Stack:
    """The running gateway, and how to talk to it."""

    layout: Layout
    issuer: Issuer
    log: Path
    process: "subprocess.Popen[bytes]"
    metadata: "subprocess.Popen[bytes]"
    functions: dict[str, type[Echo]] = field(default_factory=dict)

    def call(
        self,
        method: str,
        path: str,
        headers: list[tuple[str, str]] | None = None,
        *,
        port: str = "gateway",
        body: bytes = b"",
        source: str = HOST,
    ) -> Answer:
        """One request, its path and headers exactly as given."""
        connection = HTTPConnection(HOST, self.layout.ports[port], timeout=30, source_address=(source, 0))
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers or []:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            data = response.read()
            return Answer(response.status, {key.lower(): value for key, value in response.getheaders()}, data)
        finally:
            connection.close()

    def raw(self, text: str) -> str:
        """What the gateway answers to these very bytes, up to the end of the headers and what came with them."""
        with socket.create_connection((HOST, self.layout.ports["gateway"]), timeout=10) as connection:
            connection.sendall(text.encode())
            return connection.recv(65536).decode()


def open_port(port: int) -> bool:
    """Whether somebody accepts connections."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def until(what: Any, seconds: float = READY_SECONDS) -> Any:
    """Poll until the function answers something true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.02)
    raise TimeoutError("it did not happen in time")


@contextmanager
def function(name: str, port: int) -> Iterator[type[Echo]]:
    """A fake function on its port."""
    own = {"name": name, "count": 0, "sent": 0, "go": threading.Semaphore(0), "open": set()}
    handler: type[Echo] = type(f"Echo_{name}", (Echo,), own)
    server = ThreadingHTTPServer((HOST, port), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield handler
    finally:
        server.shutdown()
        server.server_close()
        for connection in [*handler.open]:  # as of a process that ended
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def process(log: Path, *arguments: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A module of ours as its own process."""
    with log.open("wb") as file:
        running = subprocess.Popen([sys.executable, "-m", *arguments], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield running
    finally:
        running.terminate()
        running.wait(timeout=5)


def new_layout(root: Path) -> tuple[Layout, socket.socket]:
    """A layout with the ports that the gateway and the metadata server need, and the mark that keeps them ours."""
    names = ["gateway", "metadata:gateway", *replicas()]
    names += [f"{kind}:{service}" for kind in ("run", "function") for service in catalog()]
    block, mark = reserve()
    layout = Layout(str(root), choose(names, {}, {}, block), HOST)
    layout.save()
    return layout, mark


@contextmanager
def stack(
    root: Path, *options: str, deadline: float = 15.0, up: tuple[str, ...] = ("auth", "projects")
) -> Iterator[Stack]:
    """A whole gateway; the functions and replicas named in `up` run."""
    layout, mark = new_layout(root)
    SecretStore(root).add("edge-key", b"edge-one")
    document = gateway(TABLES, {name: layout.run_url(name) for name in catalog()})
    for backend in document["x-google-api-management"]["backends"].values():
        backend["deadline"] = deadline
    path = root / "gateway-document.json"
    path.write_text(json.dumps(document))
    shared = ["--layout", str(root / "layout.json")]
    with mark, ExitStack() as running:
        metadata = running.enter_context(process(root / "metadata.log", "local.metadata", *shared))
        until(lambda: open_port(layout.ports["metadata:gateway"]))
        ports = {name: layout.ports.get(f"function:{name}") or layout.ports[name] for name in up}
        functions = {name: running.enter_context(function(name, port)) for name, port in ports.items()}
        log = root / "gateway.log"
        own = running.enter_context(process(log, "local.gateway", *shared, "--document", str(path), *options))
        made = Stack(layout, Issuer(root), log, own, metadata, functions)
        until(lambda: open_port(layout.ports["gateway"]) or own.poll() is not None)
        if own.poll() is not None:
            raise RuntimeError(log.read_text())
        yield made
