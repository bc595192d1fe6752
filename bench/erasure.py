"""The erasure of somebody with a million rows, beside a bare DELETE in batches: how long, how much memory, what locks.

She shares the organization with a colleague, and it wants her words to go with her. Once her colleague writes all the
time while her erasure runs, and every 10 ms it is looked at which transactions of the erasure have an id, which comes
with the first row that is locked or written: no row is locked for longer.
"""

import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench import results
from bench.alone import connection
from bench.exports import Ours, seed
from bench.machine import VAR
from bench.ours import NAME
from bench.parts.sizes import Sizes
from bench.results import Run
from bench.stacks import measured, of_postgres, stack
from functions.deletions.job_queries import ROWS

RECORDS, SMALL = 1_000_000, 5000
DELETE = "batched DELETE"
LOOK_SECONDS = 0.01
COLLEAGUE_TASKS = 1000  # as below
COLLEAGUE = (
    "INSERT INTO identity.accounts (id, email, display_name)"
    " VALUES (CAST(:colleague AS uuid), CAST(:colleague AS uuid) || '@example.com', 'Colleague')",
    "INSERT INTO app.members (tenant_id, user_id, role) VALUES (:tenant, :colleague, 'owner')",
    """UPDATE app.organizations SET settings = '{"erasure_policy": "erase"}' WHERE tenant_id = :tenant""",
    "INSERT INTO app.tasks (tenant_id, project_id, title, created_by)"
    " SELECT :tenant, (SELECT id FROM app.projects WHERE tenant_id = :tenant ORDER BY id LIMIT 1), 'Mine', :colleague"
    " FROM generate_series(1, 1000)",
)
AGES = (  # a transaction without an id has locked no row
    "SELECT pid, CAST(backend_xid AS text), extract(epoch FROM clock_timestamp()), left(query, 60)"
    " FROM pg_stat_activity WHERE usename LIKE 'deletions-jobs%' AND backend_xid IS NOT NULL"
)
WRITES = (
    "UPDATE app.tasks SET title = 'Mine still', version = version + 1 WHERE tenant_id = :tenant AND id ="
    " (SELECT id FROM app.tasks WHERE tenant_id = :tenant AND created_by = :colleague ORDER BY random() LIMIT 1)",
    "UPDATE app.organizations SET updated_at = now() WHERE tenant_id = :tenant",
    "UPDATE app.members SET version = version + 1 WHERE tenant_id = :tenant AND user_id = :colleague",
)
BATCH = """
WITH batch AS (
    SELECT id FROM app.tasks WHERE tenant_id = :tenant AND created_by = :person AND id > CAST(:last AS uuid)
    ORDER BY id LIMIT CAST(:most AS integer)
), gone AS (DELETE FROM app.tasks t USING batch WHERE t.tenant_id = :tenant AND t.id = batch.id RETURNING t.id)
SELECT CAST(id AS text) FROM gone ORDER BY id DESC LIMIT 1
"""
LEFT = (
    "SELECT count(*) FILTER (WHERE created_by = :person), count(*) FILTER (WHERE created_by = :colleague)"
    " FROM app.tasks WHERE tenant_id = :tenant"
)


@dataclass
class Watch:
    """What was seen while the erasure ran, in seconds."""

    oldest: float = 0.0
    doing: str = ""
    slowest: float = 0.0
    writes: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def looking(self, url: str, known: dict[str, str]) -> Any:
        """Look and write until the block ends."""
        threads = [
            threading.Thread(target=self._look, args=(url,)),
            threading.Thread(target=self._write, args=(url, known)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _look(self, url: str) -> None:
        begun: dict[tuple[int, str], float] = {}
        with connection(url) as watcher:
            while not self._over.wait(LOOK_SECONDS):
                for pid, xid, now, doing in watcher.run(AGES):
                    age = float(now) - begun.setdefault((pid, xid), float(now))
                    self.oldest, self.doing = max((self.oldest, self.doing), (age, str(doing)))

    def _write(self, url: str, known: dict[str, str]) -> None:
        wanted = {name: known[name] for name in ("tenant", "colleague")}
        with connection(url) as writer:
            while not self._over.wait(LOOK_SECONDS):
                for sql in WRITES:
                    began = time.perf_counter()
                    writer.run(sql, **{name: id for name, id in wanted.items() if f":{name}" in sql})
                    self.slowest = max(self.slowest, time.perf_counter() - began)
                    self.writes += 1


class Hers(Ours):
    """Her request, by the API."""

    def __init__(self, running: dict[str, Any], known: dict[str, str]) -> None:
        super().__init__(running, known, "json")

    def erase(self) -> int:
        """Ask, and wait for the end; 0. Raises SystemExit when it is not completed."""
        asked = self._session.post(
            self._running["api"] + "/v1/deletions", json={"scope": "me"}, headers=self._headers(), timeout=30
        )
        asked.raise_for_status()
        with connection(self._running["postgres"]["admin"]) as admin:
            while True:
                status = admin.run("SELECT status FROM platform.jobs WHERE id = :id", id=asked.json()["id"])[0][0]
                if status == "done":
                    return 0
                if status not in {"queued", "running"}:
                    raise SystemExit(f"the erasure is {status}")
                time.sleep(0.1)


def prepared(url: str, rows: int) -> dict[str, str]:
    """An organization with her rows and a colleague's."""
    known = seed(url, rows) | {"colleague": str(uuid.uuid4())}
    wanted = {name: known[name] for name in ("tenant", "colleague")}
    with connection(url) as admin:
        for sql in COLLEAGUE:
            admin.run(sql, **{name: id for name, id in wanted.items() if f":{name}" in sql})
    return known


def batched_delete(url: str, known: dict[str, str]) -> int:
    """What somebody would do by hand: batches as large as ours, by the primary key, each a transaction; 0."""
    with connection(url) as admin:
        last = "00000000-0000-0000-0000-000000000000"
        while last:
            found = admin.run(BATCH, tenant=known["tenant"], person=known["person"], last=last, most=ROWS)
            last = found[0][0] if found else ""
    return 0


def left(url: str, known: dict[str, str]) -> bool:
    """Whether a row of hers is left, or one of her colleague's is gone."""
    with connection(url) as admin:
        found = admin.run(LEFT, **{name: known[name] for name in ("tenant", "colleague", "person")})
    return bool(found != [[0, COLLEAGUE_TASKS]])


def measure(sizes: Sizes) -> None:
    """Ours and the bare DELETE in turns; then ours once more beside a colleague who writes."""
    count = SMALL if sizes.small else RECORDS
    with stack(VAR / "erasure-stack") as running:
        url = running["postgres"]["admin"]
        rows: dict[str, list[Run]] = {NAME: [], DELETE: []}
        for number in range(min(sizes.rounds, 3)):
            hers, theirs = prepared(url, count), prepared(url, count)
            for name, known, work in (
                (NAME, hers, Hers(running, hers).erase),
                (DELETE, theirs, lambda known=theirs: batched_delete(url, known)),
            ):
                _, run = measured(running, work)
                if left(url, known):
                    raise SystemExit(f"{name}: a row is left, or a colleague's is gone")
                run = run if name == NAME else of_postgres(run)
                rows[name].append(run | {"records_per_s": count / run["seconds"]})
            print(f"erasure {number + 1}", flush=True)
        with connection(url) as admin:
            version = str(admin.run("SHOW server_version")[0][0])
        results.record("erasure", rows, small=sizes.small, postgres=version, records=count)
        known, watch = prepared(url, count), Watch()
        with watch.looking(url, known):
            _, run = measured(running, Hers(running, known).erase)
        seen = {"longest_lock_s": watch.oldest, "slowest_write_s": watch.slowest, "writes": float(watch.writes)}
        results.record("erasure locks", {NAME: [run | seen]}, small=sizes.small, postgres=version)
