"""PostgreSQL of a new stack, and Valkey when asked for, without the functions: for measurements that need no more."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import pg8000.native
import psutil

from bench.machine import CHECKOUT
from local import keys, postgres, services
from local.layout import Layout
from local.ports import choose, reserve

DOOR = "127.9.9.9"  # the Cloud SQL door is not started


@contextmanager
def alone(folder: Path, *, valkey: bool = False) -> Iterator[Layout]:
    """A durable database with all migrations and every login, and the secrets of the services; gone afterwards."""
    if folder.exists():
        postgres.forget(folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    block, mark = reserve()
    layout = Layout(str(folder), choose(services.port_names(), {}, {}, block), DOOR)
    layout.save()
    keys.seed(folder, {})
    keys.mount(folder)
    with mark, ExitStack() as left, (folder / "log").open("wb") as log:
        server = postgres.start(folder, layout.ports["postgres"], log=log)
        left.callback(postgres.stop, server)
        environment = os.environ | {"DATABASE_ADMIN_URL": admin_url(layout)}
        named = ("--layout", str(folder / "layout.json"))
        for step in (("local.logins", *named), ("migrations.apply",), ("local.provision", *named)):
            subprocess.run(
                [sys.executable, "-m", *step], cwd=CHECKOUT, env=environment, check=True, stdout=log, stderr=log
            )
        if valkey:
            left.enter_context(
                process([sys.executable, "-m", "local.valkey", "--layout", f"{folder}/layout.json"], log)
            )
        yield layout


@contextmanager
def process(
    command: list[str], log: IO[bytes], env: dict[str, str] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is ended afterwards."""
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=log, stderr=log, env=env) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait(30)


def admin_url(layout: Layout) -> str:
    """The libpq URL of the superuser."""
    return postgres.admin_dsn(layout.path(), layout.ports["postgres"])


def connection(url: str) -> pg8000.native.Connection:
    """A plain connection to a libpq URL, whose statements may take long."""
    part = urlsplit(url)
    found = pg8000.native.Connection(
        unquote(part.username or ""),
        password=unquote(part.password or ""),
        host=part.hostname or "",
        port=part.port or 5432,
        database=part.path.lstrip("/"),
        ssl_context=False,
    )
    found.run("SET statement_timeout = 0")
    return found


def postgres_pid(layout: Layout) -> int:
    """The postmaster."""
    return int((postgres.data_dir(layout.path()) / "postmaster.pid").read_text().split()[0])


def cpu_seconds(pid: int) -> float:
    """User and system seconds of a process and all below it, those of ended children included."""
    root = psutil.Process(pid)
    return sum(sum(each.cpu_times()[:4]) for each in (root, *root.children(recursive=True)))


def wait_for(port: int, running: "subprocess.Popen[bytes]", seconds: float = 30) -> None:
    """Until the port accepts connections. Raises SystemExit when the process ended."""
    deadline = time.monotonic() + seconds
    while not any(c.laddr.port == port and c.status == "LISTEN" for c in psutil.net_connections("tcp")):
        if running.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"nothing listens on port {port}")
        time.sleep(0.05)


def listener(port: int) -> int:
    """The pid that listens on a port of this machine."""
    found = (c.pid for c in psutil.net_connections("tcp") if c.laddr.port == port and c.status == "LISTEN")
    return next(int(pid) for pid in found if pid)
