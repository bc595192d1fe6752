"""The export of an organization with two million rows, beside COPY into ZIP: `python -m bench.exports`.

The base is what the peers call copy_zip: psql, COPY of row_to_json, a pipe into `zip -1`; here it reads the same rows
from the same PostgreSQL, in turns with ours. Ours is the whole way: POST /v1/exports until the status is ready, with
gateway, tasks, workflow, steps and storage of the local stack. Needs zip and psql.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt
import pg8000.native
import psutil
import requests

from bench.tokens import signing_key

CHECKOUT = Path(__file__).parent.parent
VAR = CHECKOUT / "bench" / "var"
RESULTS = CHECKOUT / "bench" / "EXPORTS.md"
MIB = 1 << 20
LIMIT_MIB = 256
KNOWN = (  # statements after it read the three ids from settings
    "SELECT set_config('bench.tenant', :tenant, false), set_config('bench.person', :person, false),"
    " set_config('bench.session', :session, false), set_config('bench.rows', CAST(:rows AS text), false),"
    " set_config('session_replication_role', 'replica', false)"  # no foreign keys to check row by row
)
SEED = (
    "CREATE FUNCTION pg_temp.id(name text) RETURNS uuid LANGUAGE sql STABLE"
    " RETURN CAST(current_setting('bench.' || name) AS uuid)",
    "INSERT INTO identity.accounts (id, email, display_name)"
    " SELECT pg_temp.id('person'), pg_temp.id('person') || '@example.com', 'Owner'",
    "INSERT INTO app.organizations (tenant_id, slug, name)"
    " SELECT pg_temp.id('tenant'), 'large-' || left(CAST(pg_temp.id('tenant') AS text), 8), 'Large'",
    "INSERT INTO app.members (tenant_id, user_id, role) SELECT pg_temp.id('tenant'), pg_temp.id('person'), 'owner'",
    "INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at)"
    " SELECT pg_temp.id('session'), pg_temp.id('person'), pg_temp.id('tenant'), '{pwd}', now() + interval '30 days'",
    "INSERT INTO app.projects (tenant_id, id, name, created_by)"
    " SELECT pg_temp.id('tenant'), CAST(md5('project ' || n) AS uuid), 'Project ' || n, pg_temp.id('person')"
    " FROM generate_series(1, 1000) n",
    "INSERT INTO app.tasks (tenant_id, project_id, title, description, assignee_id, due_at, created_by, created_at)"
    " SELECT pg_temp.id('tenant'), CAST(md5('project ' || 1 + n % 1000) AS uuid), 'Task ' || n,"
    " 'Prepare the figures of quarter ' || n % 40, CASE WHEN n % 3 = 0 THEN pg_temp.id('person') END,"
    " now() + make_interval(hours => n % 5000), pg_temp.id('person'), now() - make_interval(mins => n % 500000)"
    " FROM generate_series(1, CAST(current_setting('bench.rows') AS integer)) n",
    "VACUUM (ANALYZE) app.tasks",
)
COLUMNS = {
    "app.projects": "tenant_id, id, name, description, status, created_by, created_at, updated_at",
    "app.tasks": "tenant_id, id, project_id, title, description, status, priority, assignee_id, due_at, created_by,"
    " created_at, updated_at",
}


@dataclass
class Run:
    """What one export took: seconds, CPU seconds by process, peak MiB by process, bytes of the result."""

    wall: float
    cpu: dict[str, float]
    peak: dict[str, float]
    size: int


@contextmanager
def stack(folder: Path, instances: int) -> Iterator[dict[str, Any]]:
    """A durable stack; each of its instances of the job service takes one step at a time, as in the cloud."""
    file = folder / "stack.json"
    file.unlink(missing_ok=True)
    unlimited = {f"RATE_{name}": "1000000000/hour" for name in ("ANONYMOUS", "USER", "IP", "ORGANIZATION")}
    environment = {"TELEMETRY": "off", **os.environ, "PROCESSES_EXPORTS_JOBS": str(instances), **unlimited}
    command = [sys.executable, "-m", "local.supervisor", "--root", str(folder)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
        try:
            while not file.exists():
                if process.poll() is not None:
                    raise SystemExit(f"the stack did not start: see {log.name}")
                time.sleep(0.2)
            yield json.loads(file.read_text()) | {"supervisor": process.pid, "path": str(file)}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def seed(url: str, rows: int) -> dict[str, str]:
    """An organization with so many tasks; its id, its owner's and her log-in session's."""
    part = urlsplit(url)
    known = {name: str(uuid.uuid4()) for name in ("tenant", "person", "session")}
    with pg8000.native.Connection(
        unquote(part.username or ""),
        password=unquote(part.password or ""),
        host=part.hostname or "",
        port=part.port or 5432,
        database=part.path.lstrip("/"),
        ssl_context=False,
    ) as connection:
        connection.run(KNOWN, rows=rows, **known)
        for sql in SEED:
            connection.run(sql)
    return known


def processes(running: dict[str, Any]) -> dict[int, tuple[str, psutil.Process]]:
    """Every process of the stack by its pid, under the name of its service."""
    found: dict[int, tuple[str, psutil.Process]] = {}
    for name, pid in running["pids"].items():
        if name == "supervisor":
            continue
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            found.setdefault(process.pid, (name, process))
    return found


def cpu_seconds(running: dict[str, Any]) -> dict[str, float]:
    """User and system seconds by service, those of ended children included."""
    seconds: dict[str, float] = {}
    for name, process in processes(running).values():
        with suppress(psutil.NoSuchProcess):
            seconds[name] = seconds.get(name, 0) + sum(process.cpu_times()[:4])
    return seconds


def peak_mib(pid: int) -> float:
    """The most memory that a process has held since `forget_peaks`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measured(running: dict[str, Any], work: Callable[[], int]) -> Run:
    """Do it, and look at all processes of the stack before and afterwards."""
    for pid in processes(running):
        with suppress(FileNotFoundError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # its peak begins anew
    before, begin = cpu_seconds(running), time.perf_counter()
    size = work()
    wall, after = time.perf_counter() - begin, cpu_seconds(running)
    run = Run(wall, {name: after[name] - before.get(name, 0) for name in after}, {}, size)
    for pid, (name, _) in processes(running).items():
        with suppress(FileNotFoundError):
            run.peak[name] = max(run.peak.get(name, 0), peak_mib(pid))
    return run


def copy_into_zip(url: str, tenant: str, target: Path) -> int:
    """The peers' copy_zip over our tables."""
    target.unlink(missing_ok=True)
    copies = "".join(
        f"COPY (SELECT row_to_json(t) FROM (SELECT {columns} FROM {table} WHERE tenant_id = '{tenant}') t) TO STDOUT;\n"  # noqa: S608 - our own names
        for table, columns in COLUMNS.items()
    )
    script = f"BEGIN ISOLATION LEVEL REPEATABLE READ;\n{copies}COMMIT;\n"
    with (
        subprocess.Popen(
            [psql(), "-X", "-q", "-v", "ON_ERROR_STOP=1", url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as rows,
        subprocess.Popen(["zip", "-q", "-1", str(target), "-"], stdin=rows.stdout) as zipped,
    ):
        if rows.stdin is None or rows.stdout is None:
            raise RuntimeError("no pipes")
        rows.stdin.write(script.encode())
        rows.stdin.close()
        rows.stdout.close()
    if rows.returncode or zipped.returncode:
        raise SystemExit("COPY into ZIP failed")
    return target.stat().st_size


def psql() -> str:
    """The newest psql of this machine."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/psql"), key=lambda path: int(path.parts[4]))
    return str(found[-1]) if found else (shutil.which("psql") or "psql")


class Ours:
    """Asks for exports, and waits for them."""

    def __init__(self, running: dict[str, Any], known: dict[str, str], form: str) -> None:
        self._running, self._known, self._form = running, known, form
        self._session = requests.Session()
        self._session.trust_env = False
        self.last = ""

    def _headers(self) -> dict[str, str]:
        now, known = int(time.time()), self._known
        kid, key = signing_key(self._running)
        claims = {
            **{"iss": self._running["api"], "aud": self._running["api"], "sub": known["person"]},
            **{"account_id": known["person"], "tenant_id": known["tenant"], "client_id": "first-party"},
            **{"sid": known["session"], "iat": now, "nbf": now, "exp": now + 3600, "jti": str(uuid.uuid4())},
            **{"amr": ["pwd"], "auth_time": now},
        }
        return {"Authorization": "Bearer " + jwt.encode(claims, key, "HS256", headers={"typ": "at+jwt", "kid": kid})}

    def export(self) -> int:
        """The size of the package of one export."""
        url, headers = self._running["api"] + "/v1/exports", self._headers()
        body = {"scope": "organization", "format": self._form}
        asked = self._session.post(url, json=body, headers=headers, timeout=10)
        asked.raise_for_status()
        while True:
            state = self._session.get(f"{url}/{asked.json()['id']}", headers=headers, timeout=10).json()
            if state["status"] == "ready":
                self.last = state["id"]
                return int(state["size_bytes"])
            if state["status"] != "queued" and state["status"] != "running":
                raise SystemExit(f"the export is {state['status']}: {state['error']}")
            time.sleep(0.1)

    def rows(self, target: Path) -> int:
        """How many rows of tasks and projects the last package holds, counted in the package itself."""
        answer = self._session.get(
            f"{self._running['api']}/v1/exports/{self.last}/download", headers=self._headers(), timeout=30, stream=True
        )
        with target.open("wb") as file:
            shutil.copyfileobj(answer.raw, file, MIB)
        with zipfile.ZipFile(target) as archive:
            ends = 0
            for table in ("projects", "tasks"):
                with archive.open(f"data/{table}.{self._form}") as file:
                    ends += sum(block.count(b"\n") for block in iter(lambda: file.read(MIB), b"")) - 1
                    ends -= self._form == "json"
        return ends


def table(base: list[Run], ours: list[Run], rows: int) -> str:
    """The figures: medians of both, and the ratio of each round."""
    ratio = statistics.median(mine.wall and its.wall / mine.wall for its, mine in zip(base, ours, strict=True))
    lines = [
        "| export | wall s | speed vs copy_zip | rows/s | PostgreSQL CPU s | jobs CPU s | all CPU s | MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, runs, times in (("copy_zip", base, 1.0), ("dev_context", ours, ratio)):
        run = sorted(runs, key=lambda each: each.wall)[len(runs) // 2]
        cpu = [run.cpu.get("postgres", 0), run.cpu.get("exports-jobs", 0), sum(run.cpu.values())]
        shown = " | ".join(f"{seconds:.1f}" for seconds in cpu)
        lines.append(
            f"| {name} | {run.wall:.2f} | {times:.2f}x | {rows / run.wall:.0f} | {shown} | {run.size / MIB:.0f} |"
        )
    peaks = {name: max(run.peak.get(name, 0) for run in ours) for name in ours[0].peak}
    most = sorted(peaks.items(), key=lambda item: -item[1])
    lines += ["", "Peak resident MiB of one process, by service: " + ", ".join(f"{n} {m:.0f}" for n, m in most) + "."]
    return "\n".join(lines)


HEAD = """# Exports

Written by `python -m bench.exports`: COPY of the rows of an organization through a pipe into `zip -1`, and our export
of it, in turns on one machine. Ours is the whole way from the request to `ready`, every process of the local stack
included, rows in the order of their keys, checksums of every file; `all CPU s` are those of the stack, without psql and
zip. Ratios depend on what else the machine does: ours has more processes to be served.
Instances of the job service: {instances}; format: {form}.

"""


def main() -> int:
    """Run the comparison, print it, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--instances", type=int, default=2, help="of the job service")
    parser.add_argument("--format", choices=("json", "csv"), default="json")
    parser.add_argument("--folder", type=Path, default=VAR)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    base: list[Run] = []
    ours: list[Run] = []
    root = arguments.folder / "exports-stack"
    with stack(root, arguments.instances) as running:
        kept = root / f"bench-{arguments.rows}.json"
        if not kept.exists():
            kept.write_text(json.dumps(seed(running["postgres"]["admin"], arguments.rows)))
        known = json.loads(kept.read_text())
        mine, target = Ours(running, known, arguments.format), arguments.folder / "export.zip"
        for _ in range(arguments.rounds):
            admin = running["postgres"]["admin"]
            base.append(measured(running, lambda url=admin: copy_into_zip(url, known["tenant"], target)))  # type: ignore[misc]
            ours.append(measured(running, mine.export))
            if mine.rows(target) != arguments.rows + 1000:
                raise SystemExit("the package does not hold all rows")
    figures = table(base, ours, arguments.rows + 1000)
    sys.stdout.write(figures + "\n")
    RESULTS.write_text(HEAD.format(instances=arguments.instances, form=arguments.format) + figures + "\n")
    return int(max(max(run.peak.values()) for run in ours) > LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main())
