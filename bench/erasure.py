"""The erasure of somebody with a million rows: `python -m bench.erasure`. How long, how much memory, how long a lock.

She shares the organization with a colleague, and it wants her words to go with her. While her erasure runs, her
colleague writes all the time, and every 10 ms it is looked at which transactions of the erasure have an id, which comes
with the first row that is locked or written: no row is locked for longer.
"""

import argparse
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.alone import connection
from bench.exports import VAR, Ours, Run, measured, seed, stack

LOOK_SECONDS = 0.01
LIMIT_SECONDS = 1.0
LIMIT_MIB = 256
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


def table(run: Run, watch: Watch, rows: int) -> str:
    """The figures."""
    lines = [
        "| rows | wall s | rows/s | PostgreSQL CPU s | jobs CPU s | longest lock s | slowest other write s |",
        "|---|---|---|---|---|---|---|",
        f"| {rows} | {run.wall:.1f} | {rows / run.wall:.0f} | {run.cpu.get('postgres', 0):.1f}"
        f" | {run.cpu.get('deletions-jobs', 0):.1f} | {watch.oldest:.3f} | {watch.slowest:.3f} (of {watch.writes}) |",
        "",
    ]
    most = sorted(run.peak.items(), key=lambda item: -item[1])
    lines.append(f"The longest lock ended with: {watch.doing}")
    lines.append("Peak resident MiB of one process, by service: " + ", ".join(f"{n} {m:.0f}" for n, m in most) + ".")
    return "\n".join(lines)


def main() -> int:
    """Measure it, print it; exit code 1 beyond the limits, or when a row is left or a colleague's is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=VAR)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with stack(arguments.folder / "erasure-stack", 1) as running:
        url = running["postgres"]["admin"]
        known = seed(url, arguments.rows) | {"colleague": str(uuid.uuid4())}
        wanted = {name: known[name] for name in ("tenant", "colleague")}
        with connection(url) as admin:
            for sql in COLLEAGUE:
                admin.run(sql, **{name: id for name, id in wanted.items() if f":{name}" in sql})
        watch = Watch()
        with watch.looking(url, known):
            run = measured(running, Hers(running, known).erase)
        with connection(url) as admin:
            left = admin.run(
                "SELECT count(*) FILTER (WHERE created_by = :person), count(*) FILTER (WHERE created_by = :colleague)"
                " FROM app.tasks WHERE tenant_id = :tenant",
                **{name: known[name] for name in ("tenant", "colleague", "person")},
            )
    sys.stdout.write(table(run, watch, arguments.rows) + "\n")
    good = left == [[0, COLLEAGUE_TASKS]] and run.peak["deletions-jobs"] <= LIMIT_MIB
    return int(not good or max(watch.oldest, watch.slowest) > LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
