"""A Valkey of a test's own, and a metadata server that hands out the tokens that it takes."""

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import valkey

from common import cache, cache_connections, cache_token, limits
from common.settings import settings
from local.processes import die_with_parent
from local.valkey import SETTINGS, binary
from tests.conftest import wait_until

ADMIN = ("admin", "admin")
EVERYTHING = ("on", "resetpass", "~*", "&*", "+@all")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class OwnValkey:
    """A server that can be killed, held, and started again at the same place."""

    def __init__(self, *, guarded: bool = False) -> None:
        self.port = free_port()
        self.guarded = guarded
        self.passwords: list[str] = []
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        options = SETTINGS | {"port": str(self.port), "dir": "/tmp"}  # noqa: S108 - it writes nothing
        command = [binary(), *(part for name, value in options.items() for part in (f"--{name}", value))]
        if self.guarded:
            command += ["--user", "admin", "on", f">{ADMIN[1]}", "~*", "&*", "+@all"]
            command += ["--user", "default", *EVERYTHING, *(f">{each}" for each in self.passwords)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent())
        wait_until(self._answers, what="an answer of Valkey")

    def _answers(self) -> bool:
        try:
            with self.admin() as client:
                return bool(client.ping())
        except valkey.ConnectionError:
            return False

    def admin(self) -> Any:
        user, password = ADMIN if self.guarded else (None, None)
        return valkey.Valkey(host="127.0.0.1", port=self.port, username=user, password=password, socket_timeout=5)

    def takes(self, *passwords: str) -> None:
        """From now on these are the passwords of `default`."""
        self.passwords = list(passwords)
        with self.admin() as client:
            client.execute_command("ACL", "SETUSER", "default", "resetpass", *(f">{each}" for each in passwords))

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.send(signal.SIGCONT)
            self.kill()


class Metadata:
    """The metadata server's answer to "which token?", which a test changes; `asked` counts the questions."""

    def __init__(self) -> None:
        self.token = "token-1"
        self.seconds = 3600
        self.asked = 0
        self.open = threading.Event()  # while it is cleared, nobody gets an answer
        self.open.set()
        answer = self._answer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = answer(self.path)
                self.send_response(200)
                self.send_header("Metadata-Flavor", "Google")
                self.send_header("Content-Type", "application/json" if body.startswith(b"{") else "application/text")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def _answer(self, path: str) -> bytes:
        self.open.wait()
        if path.split("?")[0].endswith("/token"):
            self.asked += 1
            answer = {"access_token": self.token, "expires_in": self.seconds, "token_type": "Bearer"}
            return json.dumps(answer).encode()
        if "service-accounts" in path:
            return json.dumps(
                {"email": "sessions@example.iam.gserviceaccount.com", "scopes": [], "aliases": []}
            ).encode()
        return b"googleapis.com" if "universe" in path else b"dev-context"

    def stop(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def metadata_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Metadata]:
    """Google's library finds this one."""
    from google.auth.compute_engine import _metadata

    server = Metadata()
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", server.address)
    monkeypatch.setenv("GCE_METADATA_IP", server.address)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", "/nowhere")
    yield server
    server.stop()


def _forget() -> None:
    for cached in (
        settings,
        cache.client,
        cache_connections.trust,
        cache_token.token,
        limits.counters,
        limits.policies,
    ):
        cached.cache_clear()
    limits._pattern.cache_clear()


@contextmanager
def process_settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> Iterator[None]:
    """This process as a service with these settings."""
    for name in ("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"):
        monkeypatch.setenv(name, "unused")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    _forget()
    yield
    _forget()
