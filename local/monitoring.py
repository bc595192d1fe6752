"""Cloud Monitoring as far as we use it: alerts on what the services' logs count, told on the topic `alerts`.

The same definitions as Terraform's: functions/incidents/alerts.yaml. What Monitoring sends is documented as schema 1.2:
https://cloud.google.com/monitoring/support/notification-options#pubsub
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from local.durable import database
from local.layout import CATALOG, PROJECT, Layout

DEFINITIONS = CATALOG.parent / "incidents" / "alerts.yaml"
LOOK_SECONDS = 5.0
DELAY_SECONDS = 2.0  # after which a line counts: Google's takes longer, and the load balancer's log is written by then
SCHEMA = """
CREATE TABLE IF NOT EXISTS incidents (
    id TEXT PRIMARY KEY, alert TEXT NOT NULL, started REAL NOT NULL, ended REAL, value INTEGER NOT NULL
);
"""


class Series:
    """How many lines of a kind came within its time."""

    def __init__(self, name: str, definition: dict[str, Any]) -> None:
        self.name, self.title = name, str(definition["title"])
        self.codes = frozenset(definition["codes"])
        self.above, self.seconds = int(definition["above"]), int(definition["seconds"])
        self.times: list[float] = []

    def value(self, now: float) -> int:
        """The count of the time that ended just now."""
        end = now - DELAY_SECONDS
        self.times = [each for each in self.times if each >= end - self.seconds]
        return sum(each <= end for each in self.times)


class Monitoring:
    """Reads what is new in the logs, opens and closes incidents, and says so."""

    def __init__(self, layout: Layout, tell: Callable[[dict[str, Any]], object]) -> None:
        definitions: dict[str, dict[str, Any]] = yaml.safe_load(DEFINITIONS.read_text())
        self.series = [Series(name, each) for name, each in definitions.items() if "codes" in each]
        self.folder, self.tell = layout.path("log"), tell
        self.connection = database(layout.path("monitoring", "incidents.db"), SCHEMA)
        self.places: dict[Path, int] = {}
        self.reading = threading.Lock()

    async def keep_looking(self) -> None:
        """Evaluate again and again, until cancelled."""
        while True:
            await asyncio.to_thread(self.read)
            self.evaluate(time.time())
            await asyncio.sleep(LOOK_SECONDS)

    def read(self) -> None:
        """Count the lines that are new."""
        with self.reading:
            for path in sorted(self.folder.glob("*.log")):
                self.places[path] = self._read(path, self.places.get(path, 0))

    def _read(self, path: Path, start: int) -> int:
        """Up to where the lines of a file are counted now; one that became shorter is another one."""
        with path.open("rb") as file:
            if start > file.seek(0, 2):
                start = 0
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                start += len(line)
                self._count(line)
        return start

    def _count(self, line: bytes) -> None:
        """A line of a request: its code is counted where an alert names it."""
        if b'"message":"request"' not in line:
            return
        try:
            entry = json.loads(line)
            moment = datetime.fromisoformat(entry["time"]).timestamp()
        except (ValueError, LookupError, TypeError):
            return
        for series in self.series:
            if entry.get("code") in series.codes:
                series.times.append(moment)

    def evaluate(self, now: float) -> None:
        """Open what has gone beyond its limit, close what is below it."""
        for series in self.series:
            value, open_one = series.value(now), self._open(series.name)
            if value > series.above and open_one is None:
                self._begin(series, value, now)
            elif value <= series.above and open_one is not None:
                self.connection.execute("UPDATE incidents SET ended = ? WHERE id = ?", (now, open_one["id"]))
                self.tell(self.notification(series, open_one["id"], open_one["started"], now, value))

    def _open(self, name: str) -> Any:
        return self.connection.execute("SELECT * FROM incidents WHERE alert = ? AND ended IS NULL", (name,)).fetchone()

    def _begin(self, series: Series, value: int, now: float) -> None:
        id = f"0.{time.time_ns():x}"
        self.connection.execute("INSERT INTO incidents VALUES (?, ?, ?, NULL, ?)", (id, series.name, now, value))
        self.tell(self.notification(series, id, now, None, value))

    def notification(self, series: Series, id: str, began: float, ended: float | None, value: int) -> dict[str, Any]:
        """As Monitoring's channel of Pub/Sub has it."""
        incident = {
            "incident_id": id,
            "scoping_project_id": PROJECT,
            "started_at": int(began),
            "ended_at": None if ended is None else int(ended),
            "state": "open" if ended is None else "closed",
            "summary": series.title,
            "observed_value": str(value),
            "threshold_value": str(series.above),
            "policy_name": series.title,
            "policy_user_labels": {"app": "dev-context", "environment": "local", "alert": series.name},
            "condition_name": f"more than {series.above} in {series.seconds} s",
        }
        return {"version": "1.2", "incident": incident}

    def shown(self) -> dict[str, Any]:
        """What counts now, and the latest incidents: for people and tests."""
        now = time.time()
        rows = self.connection.execute("SELECT * FROM incidents ORDER BY started DESC LIMIT 50").fetchall()
        series = [
            {"alert": each.name, "value": each.value(now), "above": each.above, "seconds": each.seconds}
            for each in self.series
        ]
        return {"series": series, "incidents": [_row(row) for row in rows]}


def _row(row: Any) -> dict[str, Any]:
    times = {name: None if row[name] is None else _moment(row[name]) for name in ("started", "ended")}
    return {"id": row["id"], "alert": row["alert"], "value": row["value"], **times}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def application(monitoring: Monitoring) -> web.Application:
    """GET /alerts, and POST /evaluate: what it would do a few seconds later anyway."""

    async def shown(_request: web.Request) -> web.StreamResponse:
        return web.json_response(monitoring.shown())

    async def evaluate(_request: web.Request) -> web.StreamResponse:
        await asyncio.to_thread(monitoring.read)
        monitoring.evaluate(time.time())
        return web.json_response(monitoring.shown())

    made = web.Application()
    made.router.add_get("/alerts", shown)
    made.router.add_post("/evaluate", evaluate)
    return made
