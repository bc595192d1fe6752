"""A stack of its own for each test: a temporary layout with free ports, and stand-ins as real processes."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from local import tls
from local.identity import Issuer
from local.layout import HOST, Layout, catalog, logins
from local.ports import choose, reserve
from tests.local.standin import StandIn

CHECKOUT = Path(__file__).parents[2]
NAMES = ["gateway", "postgres", "valkey", "tasks", "secrets", "workflows", "storage", "scheduler"]
NAMES += ["smtp", "mail", "sms", "cloudsql", "logging", "kms", "compute", "pubsub", "monitoring", "telemetry"]
NAMES += ["status"]
READY_SECONDS = 60  # on a busy machine; nothing here is measured

Start = Callable[..., AbstractContextManager[StandIn]]


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    with laid_out(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared_layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """For tests that leave nothing behind that another one of the file would see."""
    with laid_out(tmp_path_factory.mktemp("stack")) as made:
        yield made


@contextmanager
def laid_out(folder: Path) -> Iterator[Layout]:
    names = [*NAMES, *(f"metadata:{name}" for name in ("gateway", *logins()))]
    names += [f"{part}:{service}" for part in ("function", "run") for service in catalog()]
    block, mark = reserve()
    layout = Layout(str(folder), choose(names, {}, {}, block), HOST)
    layout.save()
    yield layout
    mark.close()


@pytest.fixture(scope="session")
def start() -> Start:
    """`with start("local.tasks", layout, "tasks") as process:` — the process, once its port accepts connections."""
    return running


@contextmanager
def running(module: str, layout: Layout, port: str, *arguments: str) -> Iterator[StandIn]:
    process = StandIn(module, "--layout", str(layout.path("layout.json")), *arguments)
    try:
        wait_for_port(layout.ports[port], process)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            assert process.wait() in (0, -signal.SIGTERM)


def wait_for_port(port: int, process: StandIn | subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        assert process.poll() is None, "the stand-in ended"
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the stand-in does not listen"
            time.sleep(0.02)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    """`eventually(function, seconds)` — the first truthy value before the deadline."""

    def wait(value: Callable[[], Any], seconds: float = 10) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := value()):
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.02)
        return found

    return wait


@pytest.fixture
def channel(layout: Layout) -> Iterator[Callable[[str, str], grpc.Channel]]:
    """`channel("tasks", email)` — a TLS channel as Google's clients open it, with an account's access token."""
    with channels(layout) as connect:
        yield connect


@pytest.fixture(scope="module")
def shared_channel(shared_layout: Layout) -> Iterator[Callable[[str, str], grpc.Channel]]:
    """The same for the layout of a file."""
    with channels(shared_layout) as connect:
        yield connect


@contextmanager
def channels(layout: Layout) -> Iterator[Callable[[str, str], grpc.Channel]]:
    opened = []

    def connect(port: str, email: str) -> grpc.Channel:
        tls.ensure(layout.root)
        trusted = grpc.ssl_channel_credentials(layout.path("tls", "ca.pem").read_bytes())
        token = grpc.access_token_call_credentials(Issuer(layout.root).access_token(email))
        together = grpc.composite_channel_credentials(trusted, token)
        opened.append(grpc.secure_channel(f"{HOST}:{layout.ports[port]}", together))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()
