"""What stands apart from the database: a base backup and the archive of its write-ahead log; and the way back.

The programs are PostgreSQL's own. Source: PostgreSQL 18, chapters 25.3 (continuous archiving) and 19.5 (settings).
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pg8000.native

from local import postgres
from local.demo.client import eventually
from local.postgres_home import Owner, binary, home, socket_dir

BACKUP, ARCHIVE = "backup", "archive"
TARGET = ("restore_command", "recovery_target_time", "recovery_target_action")
COMMIT = re.compile(r"desc: COMMIT (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC")
WAIT_SECONDS = 300


@contextmanager
def connected(url: str) -> Iterator[pg8000.native.Connection]:
    """A plain connection to a libpq URL."""
    part = urlsplit(url)
    with pg8000.native.Connection(
        unquote(part.username or ""),
        password=unquote(part.password or ""),
        host=part.hostname or "",
        port=part.port or 5432,
        database=part.path.lstrip("/"),
        ssl_context=False,
    ) as connection:
        yield connection


def size(folder: Path) -> int:
    """Bytes of the files under a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


class Archive:
    """The backup and the archived log of one stack's database. Raises CalledProcessError where a program fails."""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.owner = Owner.choose()
        self.backup = home(root) / BACKUP
        self.folder = self.owner.own(home(root) / ARCHIVE)

    def begin(self, pid: int, url: str, seconds: int) -> None:
        """Archive each segment when it is full, and after so many seconds; the supervisor starts the server again."""
        target = shlex.quote(str(self.folder)).replace("%", "%%")
        copy = f"cp %p {target}/%f.part && sync {target}/%f.part && mv {target}/%f.part {target}/%f"
        command = f"if test -f {target}/%f; then cmp -s %p {target}/%f; else {copy}; fi"
        with connected(url) as admin:
            for name, value in (("mode", "on"), ("timeout", str(seconds)), ("command", command)):
                admin.run(f"ALTER SYSTEM SET archive_{name} = {pg8000.native.literal(value)}")
        os.kill(pid, signal.SIGINT)
        eventually(lambda: self._archives(url), WAIT_SECONDS, "the server with its archive")

    def _archives(self, url: str) -> bool:
        try:
            with connected(url) as admin:
                return bool(admin.run("SHOW archive_mode") == [["on"]])
        except (pg8000.native.InterfaceError, pg8000.native.DatabaseError, OSError):
            return False

    def take(self) -> int:
        """A base backup without any log, so that nothing but the archive can bring it up; its bytes."""
        self.owner.own(self.backup)
        self._run("pg_basebackup", f"--pgdata={self.backup}", *self._place(), "--wal-method=none", "--checkpoint=fast")
        self._run("pg_verifybackup", "--no-parse-wal", "--quiet", str(self.backup))
        return size(self.backup)

    def _place(self) -> tuple[str, ...]:
        return f"--host={socket_dir(self.root)}", f"--port={self.port}", f"--username={postgres.SUPERUSER}"

    def close_segment(self, url: str) -> None:
        """End the present segment and wait until it is archived."""
        with connected(url) as admin:
            name = str(admin.run("SELECT pg_walfile_name(pg_switch_wal())")[0][0])
        eventually((self.folder / name).exists, WAIT_SECONDS, f"segment {name} in the archive")

    def youngest(self) -> datetime:
        """When the last transaction that the archive knows was committed: no recovery reaches further."""
        for segment in sorted(self.folder.glob("0*"), reverse=True):
            done = self.owner.run(binary(self.root, self.owner, "pg_waldump"), "--rmgr=Transaction", str(segment))
            if found := COMMIT.findall(done.stdout):
                return datetime.strptime(found[-1], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
        raise FileNotFoundError("no transaction stands in the archive")

    def put_back(self) -> None:
        """Copy the base backup to where the lost files were."""
        data = postgres.data_dir(self.root)
        fresh = data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self.owner.own(fresh)
        self.owner.run("/bin/cp", "-a", f"{self.backup}/.", str(fresh)).check_returncode()
        fresh.rename(data)

    def recover(self, moment: datetime) -> None:
        """Replay the archive up to a moment (UTC), let the server take writes again, stop it."""
        data = postgres.data_dir(self.root)
        restore = f"cp {shlex.quote(str(self.folder)).replace('%', '%%')}/%f %p"
        values = (restore, moment.strftime("%Y-%m-%d %H:%M:%S.%f+00"), "promote")
        lines = "".join(f"{name} = {postgres.quoted(value)}\n" for name, value in zip(TARGET, values, strict=True))
        auto = data / "postgresql.auto.conf"
        postgres.write(auto, auto.read_text() + lines, self.owner)
        postgres.write(data / "recovery.signal", "", self.owner)
        with (self.root / "log" / "recovery.log").open("wb") as log:
            server = postgres.start(self.root, self.port, log=log, seconds=WAIT_SECONDS)
        try:
            url = postgres.admin_dsn(self.root, self.port, "postgres")
            eventually(lambda: self._is_open(url), WAIT_SECONDS, "the end of the recovery")
            with connected(url) as admin:
                for name in TARGET:
                    admin.run(f"ALTER SYSTEM RESET {name}")
        finally:
            postgres.stop(server)

    @staticmethod
    def _is_open(url: str) -> bool:
        """Whether it takes writes; its own file says `ready` as soon as it can be read."""
        with connected(url) as admin:
            return bool(admin.run("SELECT pg_is_in_recovery()") == [[False]])

    def _run(self, program: str, *arguments: str) -> None:
        command = (binary(self.root, self.owner, program), *arguments)
        done = self.owner.run(*command)
        if done.returncode != 0:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
