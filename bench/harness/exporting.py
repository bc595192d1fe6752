"""The export of one heavy data subject by a peer: a command that writes a file, whose records are counted."""

import gzip
import os
import shlex
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.harness import processes, spare
from bench.harness.site import PEERS, Site, install
from bench.harness.targets import fill, identifier
from bench.results import Run
from local import postgres, valkey
from local.ports import is_free

MIB = 1 << 20
START_SECONDS = 180
IN_JSON = "import json, sys; print(sum(map(len, json.load(open(sys.argv[1])).values())))"  # {table: [rows]}
HELD = """SELECT 1 + (SELECT count(*) FROM projects WHERE owner_id = :'person')
    + (SELECT count(*) FROM audit_log WHERE actor_id = :'person')
    + (SELECT count(*) FROM events WHERE user_id = :'person');"""


def records(file: Path, form: str) -> int:
    """How many an export holds."""
    if form == "count":
        return int(file.read_text())
    if form == "json":
        done = subprocess.run([sys.executable, "-c", IN_JSON, str(file)], check=True, capture_output=True, text=True)
        return int(done.stdout)
    if form == "gzip":
        with gzip.open(file) as unpacked:
            return sum(1 for _ in unpacked)
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith((".jsonl", "-"))]
        return sum(sum(1 for _ in archive.open(name)) for name in names)


class Exporting:
    """A peer's export of user1 from a database of the site."""

    def __init__(self, theirs: Site, name: str, database: str) -> None:
        self.name, self._site = name, theirs
        file = PEERS / "targets" / "export" / f"{name}.toml"
        spec = tomllib.loads(file.read_text())
        if "extension" in spec and spare.programs(spec["extension"]) is None:
            raise LookupError(
                f"PostgreSQL with the extension {spec['extension']} is missing: Debian package postgresql."
            )
        self._folder, self._out = (file.parent / spec["cwd"]).resolve(), theirs.folder / f"{name}.out"
        user = postgres.SUPERUSER if spec.get("superuser") else "app"
        env = theirs.env(database, user)
        packages = install(theirs.folder, spec["packages"]) if "packages" in spec else theirs.python.parent.parent
        known: dict[str, Any] = {"tenant_id": identifier("tenant1"), "user_id": identifier("user1"), "out": self._out}
        known |= {"var": theirs.folder, "port": theirs.take_port(), "valkey": valkey.binary(), "packages": packages}
        known |= {"valkey_port": theirs.take_port(), "state_port": theirs.take_port()}
        self._state = int(known["state_port"])
        self._spec: dict[str, Any] = fill(spec, known)
        self._env = env | self._spec.get("env", {})
        self.once = bool(spec.get("once"))
        self.expected = int(theirs.psql(database, "-v", f"person={identifier('user1')}", "-f", _script(theirs)))

    def run(self) -> Run:
        """One export: seconds, CPU of its processes and of PostgreSQL. Raises SystemExit when records are missing."""
        with self._own_state() as state, self._servers() as servers:
            roots = state + servers
            place = [self._site.server.pid]
            before = processes.cpu_seconds(place), processes.cpu_seconds(roots)
            begin = time.perf_counter()
            with (self._site.log / f"export-{self.name}.log").open("wb") as log:
                child = subprocess.Popen(
                    shlex.split(self._spec["command"]), cwd=self._folder, env=self._env, stdout=log, stderr=log
                )
                _, status, usage = os.wait4(child.pid, 0)
            wall = time.perf_counter() - begin
            child.returncode = os.waitstatus_to_exitcode(status)
            found = records(self._out, self._spec["format"]) if child.returncode == 0 else 0
            if found != self.expected:
                raise SystemExit(f"{self.name}: {found} records, expected {self.expected}; see {log.name}")
            own = usage.ru_utime + usage.ru_stime + processes.cpu_seconds(roots) - before[1]
            return {
                "seconds": wall,
                "records_per_s": found / wall,
                "cpu": own,
                "postgres_cpu": processes.cpu_seconds(place) - before[0],
                "peak_mib": usage.ru_maxrss / 1024 + processes.memory(roots)["peak_rss"],
                "mib": self._out.stat().st_size / MIB,
            }

    @contextmanager
    def _own_state(self) -> Iterator[list[int]]:
        """A PostgreSQL with the extension that its own state needs, if any."""
        folder = spare.programs(self._spec["extension"]) if "extension" in self._spec else None
        if folder is None:
            yield []
            return
        with spare.server(folder, self._state, self._site.log / f"export-{self.name}-state.log") as process:
            self._wait(self._state, process)
            yield [process.pid]

    def _wait(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        """Until somebody listens there."""
        deadline = time.monotonic() + START_SECONDS
        while is_free(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: a server did not start: see {self._site.log}")
            time.sleep(0.1)

    @contextmanager
    def _servers(self) -> Iterator[list[int]]:
        """The servers that it needs, if any."""
        started: list[subprocess.Popen[bytes]] = []
        try:
            for server in self._spec.get("servers", []):
                folder = Path(server.get("cwd", self._folder))
                folder.mkdir(parents=True, exist_ok=True)
                log = self._site.log / f"export-{server['port']}.log"
                started.append(processes.spawn(server["command"], folder, self._env, log))
                self._wait(int(server["port"]), started[-1])
            yield [process.pid for process in started]
        finally:
            for process in reversed(started):
                processes.stop(process)


def _script(theirs: Site) -> str:
    file = theirs.folder / "held.sql"
    file.write_text(HELD)
    return str(file)
