"""A stack of two real services and some that misbehave: `python small_stack.py ROOT [--broken] [--stubborn]`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from local import services
from local.layout import Layout
from local.running import run
from local.services import Ready, Service


def table(layout: Layout, environ: Mapping[str, str], *, fast: bool = False) -> list[Service]:
    real = [each for each in services.table(layout, environ, fast=fast) if each.name in ("postgres", "valkey")]
    paths = {"PYTHONPATH": str(services.CHECKOUT)}
    what = "broken" if "--broken" in sys.argv else "step"
    step = Service("step", fake(layout, what), ready=Ready.ENDED, environment=paths)
    port = layout.ports["sms"]
    command = fake(layout, "stubborn" if "--stubborn" in sys.argv else "listen", str(port))
    server = Service("server", command, (port,), needs=("postgres", "step"), environment=paths)
    return [*real, step, server]


def fake(layout: Layout, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, __file__, layout.root, *arguments)


def listen(root: str, port: int) -> None:
    """A server with a worker that ignores SIGTERM and holds the port, too."""
    server = socket.create_server(("127.0.0.1", port))
    subprocess.Popen([sys.executable, __file__, root, "sleep"], pass_fds=[server.fileno()])
    while True:
        server.accept()[0].close()


if __name__ == "__main__":
    match sys.argv[2:]:
        case ["listen", port]:
            listen(sys.argv[1], int(port))
        case ["stubborn", port]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            listen(sys.argv[1], int(port))
        case ["sleep"]:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        case ["step"]:
            sys.stdout.write("stepped\n")
        case ["broken"]:
            sys.exit("this step cannot succeed")
        case _:
            sys.exit(run(Path(sys.argv[1]), table, os.environ, fast=True))
