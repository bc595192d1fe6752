"""Exports: ours of an organization, COPY of the same rows into ZIP, and the peers' of one heavy subject, in turns.

Ours is the whole way, POST /v1/exports until it is ready, with gateway, tasks, workflow, steps and storage of the
local stack. The base is COPY of row_to_json through a pipe into `zip -1`, from the same PostgreSQL; the peers read as
many records of their own tables, and their COPY into ZIP stands beside them. Then ours alone, from few rows to many.
"""

import subprocess
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from shutil import copyfileobj
from typing import Any

import jwt
import requests

from bench import results
from bench.alone import connection
from bench.harness.exporting import Exporting
from bench.harness.site import Shape, Site, site
from bench.machine import VAR
from bench.ours import NAME
from bench.parts.sizes import Sizes
from bench.results import Run
from bench.stacks import measured, of_postgres, stack
from bench.tokens import signing_key
from local.postgres_home import Owner, binary

MIB = 1 << 20
RECORDS, SMALL = 200_000, 2000
GROWING, SMALL_GROWING = (10_000, 200_000, 2_000_000), (1000, 10_000)
PROJECTS = 1000
PEERS = ("copy_zip", "django_values", "django_models")
COPY = "COPY into ZIP"
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


def seed(url: str, rows: int) -> dict[str, str]:
    """An organization with so many tasks; its id, its owner's and her log-in session's."""
    known = {name: str(uuid.uuid4()) for name in ("tenant", "person", "session")}
    with connection(url) as admin:
        admin.run(KNOWN, rows=rows, **known)
        for sql in SEED:
            admin.run(sql)
    return known


def copy_into_zip(running: dict[str, Any], tenant: str, target: Path) -> int:
    """The peers' copy_zip over our tables."""
    target.unlink(missing_ok=True)
    copies = "".join(
        f"COPY (SELECT row_to_json(t) FROM (SELECT {columns} FROM {table} WHERE tenant_id = '{tenant}') t) TO STDOUT;\n"  # noqa: S608 - our own names
        for table, columns in COLUMNS.items()
    )
    script = f"BEGIN ISOLATION LEVEL REPEATABLE READ;\n{copies}COMMIT;\n"
    psql = binary(Path(running["path"]).parent, Owner.choose(), "psql")
    command = [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", running["postgres"]["admin"]]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as rows,
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
            copyfileobj(answer.raw, file, MIB)
        with zipfile.ZipFile(target) as archive:
            ends = 0
            for table in ("projects", "tasks"):
                with archive.open(f"data/{table}.{self._form}") as file:
                    ends += sum(block.count(b"\n") for block in iter(lambda: file.read(MIB), b"")) - 1
                    ends -= self._form == "json"
        return ends


class Organization:
    """One of the stack, exported in both ways."""

    def __init__(self, running: dict[str, Any], rows: int) -> None:
        self.rows, self._running, self._known = rows, running, seed(running["postgres"]["admin"], rows)
        self._ours, self._file = Ours(running, self._known, "json"), VAR / "export.zip"

    def copied(self) -> Run:
        """By COPY into ZIP."""
        return of_postgres(self._done(lambda: copy_into_zip(self._running, self._known["tenant"], self._file)))

    def exported(self) -> Run:
        """By us. Raises SystemExit when the package does not hold all rows."""
        run = self._done(self._ours.export)
        if self._ours.rows(self._file) != self.rows + PROJECTS:
            raise SystemExit("the package does not hold all rows")
        return run

    def _done(self, work: Callable[[], int]) -> Run:
        size, run = measured(self._running, work)
        return run | {"records_per_s": (self.rows + PROJECTS) / run["seconds"], "mib": size / MIB}


def measure(sizes: Sizes) -> None:
    """Beside the peers, then from few rows to many."""
    with stack(VAR / "exports-stack", PROCESSES_EXPORTS_JOBS="2") as running:
        with connection(running["postgres"]["admin"]) as admin:
            version = str(admin.run("SHOW server_version")[0][0])
        with site() as theirs:
            _beside(sizes, running, theirs, version)
        rows: dict[str, list[Run]] = {}
        growing = [Organization(running, rows) for rows in (SMALL_GROWING if sizes.small else GROWING)]
        for number in range(min(sizes.rounds, 3)):
            for organization in growing:
                rows.setdefault(str(organization.rows), []).append(organization.exported())
                rows.setdefault(f"{COPY} {organization.rows}", []).append(organization.copied())
            print(f"export memory {number + 1}", flush=True)
        results.record("export memory", rows, small=sizes.small, postgres=version)


def _beside(sizes: Sizes, running: dict[str, Any], theirs: Site, version: str) -> None:
    count = SMALL if sizes.small else RECORDS
    database = theirs.database(Shape(20, 60, count) if sizes.small else Shape(1000, 200, count))
    organization = Organization(running, count)
    peers, why = [Exporting(theirs, name, database) for name in PEERS], ""
    try:
        peers.append(Exporting(theirs, "fides", database))
    except subprocess.CalledProcessError:
        why = "Its packages could not be installed."
    except LookupError as error:
        why = str(error)
    rows: dict[str, list[Run]] = {name: [] for name in (COPY, NAME, *(peer.name for peer in peers))}
    for number in range(-1, sizes.rounds):  # the first one warms caches
        found = {COPY: organization.copied(), NAME: organization.exported()}
        for peer in [each for each in peers if not each.once or number == 0]:
            try:
                found[peer.name] = peer.run()
            except SystemExit as error:
                if not peer.once:
                    raise
                why = str(error)
        for name, run in found.items() if number >= 0 else ():
            rows[name].append(run)
        print(f"export {number + 1} of {sizes.rounds}", flush=True)
    said = {"without": {"fides": why}} if why else {}
    results.record("export", rows, small=sizes.small, postgres=version, records=peers[0].expected, **said)
