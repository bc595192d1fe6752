"""Cloud Scheduler: jobs are started with a token that proves the scheduler, retried, and run on demand."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from cronsim import CronSimError

from local.identity import Issuer
from local.layout import HOST, PROJECT, REGION, Layout, catalog, service_account
from local.scheduler import SCHEDULE
from local.scheduler_jobs import Job, JobStore, load

JOBS = f"/v1/projects/{PROJECT}/locations/{REGION}/jobs"
OPERATOR = service_account("tester")


@dataclass
class Service:
    """The service that the jobs call; `statuses` are its next answers, then 200."""

    statuses: list[int] = field(default_factory=list)
    seen: list[tuple[float, str, dict[str, str]]] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def service(layout: Layout) -> Iterator[Service]:
    service = Service()
    service.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            service.seen.append((time.monotonic(), self.path, dict(self.headers)))
            service.gate.wait(20)
            self.send_response(service.statuses.pop(0) if service.statuses else 200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A killed client is part of the tests."""

    server = Server((HOST, layout.ports["run:retention"]), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield service
    service.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def schedule(tmp_path: Path) -> Path:
    """One yearly job with one quick retry."""
    path = tmp_path / "schedule.yaml"
    job = {"name": "yearly", "schedule": "0 0 1 1 *", "service": "retention", "path": "/internal/x"}
    path.write_text(yaml.safe_dump([job | {"retry_count": 2, "min_backoff": 0.2}]))
    return path


def call(layout: Layout, method: str, path: str, token: bool = True, account: str = OPERATOR) -> requests.Response:
    access = Issuer(layout.root).access_token(account)
    headers = {"Authorization": f"Bearer {access}"} if token else {}
    return requests.request(method, layout.url("scheduler") + JOBS + path, headers=headers, timeout=5)


def test_a_job_runs_on_demand(layout: Layout, start: Any, service: Service, eventually: Any) -> None:
    with start("local.scheduler", layout, "scheduler"):
        answer = call(layout, "POST", "/retention:run")
        eventually(lambda: "lastAttemptTime" in call(layout, "GET", "/retention").json())

        job = call(layout, "GET", "/retention").json()

    assert answer.status_code == 200
    assert (job["status"], job["schedule"]) == ({}, "0 3 * * *")
    [headers] = [headers for _, path, headers in service.seen if path == "/internal/retention/run"]
    token = headers["Authorization"].removeprefix("Bearer ")
    proven = Issuer(layout.root).verify_identity_token(token, layout.run_url("retention"))
    assert proven == service_account("scheduler")
    assert (headers["X-CloudScheduler"], headers["X-CloudScheduler-JobName"]) == ("true", "retention")
    assert datetime.fromisoformat(headers["X-CloudScheduler-ScheduleTime"]).tzinfo == UTC
    assert headers["User-Agent"] == "Google-Cloud-Scheduler"


def test_the_jobs_of_the_file_are_listed(layout: Layout, start: Any) -> None:
    with start("local.scheduler", layout, "scheduler"):
        jobs = call(layout, "GET", "").json()["jobs"]

    names = [job["name"].rpartition("/")[2] for job in jobs]
    assert names == [entry["name"] for entry in yaml.safe_load(SCHEDULE.read_text())]
    assert jobs[0]["httpTarget"]["uri"] == f"{layout.run_url('retention')}/internal/outbox/drain"
    assert all(datetime.fromisoformat(job["scheduleTime"]) > datetime.now(UTC) for job in jobs)


def test_a_call_needs_a_token_and_a_job(layout: Layout, start: Any, schedule: Path, service: Service) -> None:
    with start("local.scheduler", layout, "scheduler", "--schedule", str(schedule)):
        assert call(layout, "GET", "", token=False).status_code == 401
        assert call(layout, "POST", "/yearly:run", token=False).status_code == 401
        for account in ("operator", "scheduler", "retention"):
            assert call(layout, "POST", "/yearly:run", account=service_account(account)).status_code == 403
        assert call(layout, "POST", "/none:run").status_code == 404
        assert call(layout, "GET", "/none").status_code == 404
    assert service.seen == []


def test_a_failed_job_is_tried_again(
    layout: Layout, start: Any, schedule: Path, service: Service, eventually: Any
) -> None:
    service.statuses = [500, 409]
    with start("local.scheduler", layout, "scheduler", "--schedule", str(schedule)):
        call(layout, "POST", "/yearly:run")
        eventually(lambda: call(layout, "GET", "/yearly").json().get("status") == {})
    times = [at for at, _, _ in service.seen]
    assert 0.19 < times[1] - times[0] < 2
    assert 0.39 < times[2] - times[1] < 2


def test_retries_end(layout: Layout, start: Any, schedule: Path, service: Service, eventually: Any) -> None:
    service.statuses = [500] * 9
    with start("local.scheduler", layout, "scheduler", "--schedule", str(schedule)):
        call(layout, "POST", "/yearly:run")
        eventually(lambda: len(service.seen) == 3)
        eventually(lambda: call(layout, "GET", "/yearly").json()["status"]["code"] == 13)
        call(layout, "POST", "/yearly:run")
        eventually(lambda: len(service.seen) == 4)


def test_a_start_missed_while_away_is_made_up_for_once(
    layout: Layout, start: Any, schedule: Path, service: Service, eventually: Any
) -> None:
    JobStore(layout.root, load(schedule), time.time()).set_due("yearly", 1_000_000_000)

    with start("local.scheduler", layout, "scheduler", "--schedule", str(schedule)):
        eventually(lambda: call(layout, "GET", "/yearly").json()["scheduleTime"] > datetime.now(UTC).isoformat())

    [(_, _, headers)] = service.seen
    assert headers["X-CloudScheduler-ScheduleTime"] == f"{datetime.now(UTC).year}-01-01T00:00:00Z"


def test_an_execution_that_a_kill_interrupts_runs_again(
    layout: Layout, start: Any, schedule: Path, service: Service, eventually: Any
) -> None:
    JobStore(layout.root, load(schedule), time.time()).set_due("yearly", time.time() - 1)
    service.gate.clear()
    with start("local.scheduler", layout, "scheduler", "--schedule", str(schedule)) as process:
        eventually(lambda: len(service.seen) == 1)
        process.kill()
        process.wait()
    service.gate.set()

    with start("local.scheduler", layout, "scheduler", "--schedule", str(schedule)):
        eventually(lambda: call(layout, "GET", "/yearly").json().get("status") == {})

    assert len(service.seen) == 2


def test_times_are_those_of_unix_cron() -> None:
    moment = datetime(2026, 2, 28, 23, 59, 30, tzinfo=UTC).timestamp()
    expected = {
        "* * * * *": "2026-03-01T00:00:00+00:00",
        "*/5 * * * *": "2026-03-01T00:00:00+00:00",
        "0 3 * * *": "2026-03-01T03:00:00+00:00",
        "0 0 29 2 *": "2028-02-29T00:00:00+00:00",
        "0 0 13 * 5": "2026-03-06T00:00:00+00:00",  # day of month or day of week
    }
    found = {each: Job("x", each, "retention", "/").after(moment) for each in expected}
    assert {each: datetime.fromtimestamp(at, UTC).isoformat() for each, at in found.items()} == expected


def test_of_several_missed_starts_the_last_is_made_up_for() -> None:
    job = Job("x", "*/5 * * * *", "retention", "/")
    assert job.latest(0, 1000) == 900
    assert job.latest(900, 1000) == 900
    assert job.latest(900, 901) == 900


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"schedule": "61 * * * *"}, CronSimError),
        ({"schedule": "* * * * * *"}, ValueError),
        ({"service": "none"}, ValueError),
        ({"retry_count": 6}, ValueError),
        ({"unknown": 1}, TypeError),
    ],
)
def test_a_job_that_cannot_be_stops_the_start(change: dict[str, Any], error: type[Exception], schedule: Path) -> None:
    [entry] = yaml.safe_load(schedule.read_text())
    schedule.write_text(yaml.safe_dump([entry | change]))
    with pytest.raises(error):
        load(schedule)


def test_whom_the_file_of_the_repository_calls_lets_the_scheduler_in() -> None:
    jobs = load(SCHEDULE)

    assert {job.name for job in jobs} >= {"outbox-drain", "retention", "keys"}
    assert [job.name for job in jobs if "scheduler" not in catalog()[job.service]["invokers"]] == []
