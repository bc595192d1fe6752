"""What a status page can read without a stack: files as the supervisor and the stand-ins leave them."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from google.cloud import tasks_v2

from local.layout import PROJECT, REGION, Layout
from local.scheduler import SCHEDULE
from local.scheduler_jobs import JobStore, load
from local.sentry import Store as ErrorStore
from local.standing import Standing, tell
from local.tasks_store import TaskStore
from local.telemetry_store import Store
from local.workflows.journal import Journal

QUEUE = f"projects/{PROJECT}/locations/{REGION}/queues/mails"
TRACE = "0af7651916cd43dd8448eb211c80319c"  # pragma: allowlist secret
JOB = "5104e9d4-fb30-473e-a6f0-8840caf5b12e"


def standing(name: str, state: str = "ready", **facts: Any) -> Standing:
    """A service as its supervisor tells it."""
    usual: dict[str, Any] = {"pid": None, "starts": 1, "began": time.time() - 60, "last_end": "", "step": False}
    return Standing(name, state, **{**usual, "ports": (), "health": "", **facts})


def services(layout: Layout, *rows: Standing) -> None:
    """What the supervisor writes."""
    tell(Path(layout.root), time.time() - 90, 12.5, rows)


def moment(ago: float) -> str:
    """As the logs write it."""
    return datetime.fromtimestamp(time.time() - ago, UTC).isoformat().replace("+00:00", "Z")


def request(listener: str, route: str, status: int, took: int, ago: float = 1, id: str = "-") -> str:
    """A line of the gateway's access log about a request that ended `ago` seconds before now."""
    began = moment(ago + took / 1000)
    entry = {"at": began, "listener": listener, "method": "GET", "milliseconds": took, "route": route}
    return json.dumps({**entry, "status": status, "request_id": id})


def write_log(layout: Layout, name: str, *lines: str) -> None:
    """Add lines to a log."""
    layout.path("log").mkdir(exist_ok=True)
    with layout.path("log", f"{name}.log").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def queue(layout: Layout) -> None:
    """A queue with a task that failed twice, one that waits, and one that was done."""
    now = time.time()
    store = TaskStore(layout.root, now)
    store.set_queue(tasks_v2.Queue(name=QUEUE))
    for name, age in (("failing", 50), ("waiting", 40), ("over", 30)):
        store.create(tasks_v2.Task(name=f"{QUEUE}/tasks/{name}"), QUEUE, now - age, now - age)
    store.take(QUEUE, now)
    store.put_back(f"{QUEUE}/tasks/failing", 503, now + 30, now)
    store.finish(f"{QUEUE}/tasks/over", now)
    store.connection.close()


def schedule(layout: Layout) -> None:
    """The jobs, one of which has run well and one has not."""
    now = time.time()
    store = JobStore(layout.root, load(SCHEDULE), now)
    store.set_attempt("outbox-drain", now - 5, 200)
    store.set_attempt("anchors", now - 500, None)
    store.connection.close()


def executions(layout: Layout) -> None:
    """A workflow that is done, and one under way that has heard one answer."""
    journal = Journal(layout.path("workflows", "executions.sqlite"))
    argument = json.dumps({"request_id": JOB, "headers": {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}})
    for name in ("first", "second"):
        journal.create(name, "gdpr_export", journal.deploy("gdpr_export", "main: {}"), argument, "{}", "LOG_NONE")
    journal.finish("first", "SUCCEEDED", '"done"', None, ("main", "done"))
    journal.record("second", "main/1", None)
    journal.connection.close()


def trace(layout: Layout) -> None:
    """A request that took 80 ms, 50 of them in the database, where it failed."""
    began = int((time.time() - 5) * 1e9)

    def span(id: str, parent: str, name: str, service: str, at: int, took: int, **facts: Any) -> dict[str, Any]:
        start = began + at * 1_000_000
        times = {"start": start, "end": start + took * 1_000_000, "kind": "SERVER", "failed": False, "attributes": {}}
        return {
            "trace_id": TRACE,
            "span_id": id,
            "parent_id": parent,
            "name": name,
            "service": service,
            **times,
            **facts,
        }

    store = Store(layout.path("telemetry"))
    store.add_spans(
        [
            span("c" * 16, "b" * 16, "SELECT projects", "projects", 20, 50, failed=True, kind="CLIENT"),
            span("a" * 16, "", "GET /v1/projects", "gateway", 0, 80),
            span("b" * 16, "a" * 16, "GET /v1/projects", "projects", 10, 65, attributes={"http.route": "/v1/projects"}),
        ]
    )
    store.close()


def error(layout: Layout) -> None:
    """The same error, told to Sentry twice."""
    frames = [{"filename": "functions/auth/main.py", "lineno": 7, "in_app": True}]
    store = ErrorStore(layout.path("sentry"))
    for number in ("1", "2"):
        event = {
            "event_id": number * 32,
            "level": "error",
            "timestamp": time.time(),
            "transaction": "POST /v1/auth/login",
            "exception": {"values": [{"type": "KeyError", "stacktrace": {"frames": frames}}]},
            "tags": {"service": "auth", "organization": "of-somebody"},
            "user": {"id": "somebody"},
        }
        store.add({}, [({"type": "event"}, event)])
    store.close()
