"""The status page's facts: read from what the stand-ins keep, told as JSON and as events."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import requests

from local.layout import HOST, Layout
from local.ports import is_free
from local.scheduler_jobs import JobStore, load
from local.standing import Told, told
from local.status import neighbours, queues
from local.status.services import Services
from local.status.tail import Tail, last_lines
from local.status.traffic import STEPS, Traffic, percentile
from local.status.troubles import Troubles
from local.status.verdict import verdict
from tests.local.status_stack import (
    JOB,
    TRACE,
    error,
    executions,
    moment,
    queue,
    request,
    schedule,
    services,
    standing,
    trace,
    write_log,
)

PATIENCE_SECONDS = 60  # a machine may be busy; nothing here is measured
SECTIONS = {
    "traffic",
    "troubles",
    "verdict",
    "blind",
    "services",
    "queues",
    "executions",
    "records",
    "alerts",
    "traces",
    "errors",
}


@pytest.fixture
def page(layout: Layout, start: Any) -> Iterator[str]:
    """The address of a page about a stack of files."""
    services(layout, standing("projects"), standing("migrations", "done", step=True))
    with start("local.status", layout, "status"):
        yield layout.url("status")


@pytest.fixture(scope="module")
def still(shared_layout: Layout, start: Any) -> Iterator[str]:
    """The same for tests that change nothing."""
    services(shared_layout, standing("projects"))
    with start("local.status", shared_layout, "status"):
        yield shared_layout.url("status")


def get(url: str, **options: Any) -> requests.Response:
    return requests.get(url, timeout=PATIENCE_SECONDS, **options)


# Requests


def traffic_of(*lines: str, log: str = "gateway") -> Any:
    traffic = Traffic()
    for line in lines:
        traffic.take(log, line.encode())
    return traffic.shown(time.time())


def test_requests_are_counted_by_how_they_ended() -> None:
    shown = traffic_of(
        request("gateway", "/v1/projects", 200, 10),
        request("gateway", "/v1/projects", 404, 20),
        request("gateway", "/v1/tasks", 503, 30),
    )

    assert [sum(shown[kind]) for kind in ("good", "refused", "failed")] == [1, 1, 1]
    assert all(len(shown[kind]) == STEPS for kind in ("good", "refused", "failed", "p50", "p95"))
    assert shown["routes"] == [
        {"route": "GET /v1/projects", "count": 2, "failed": 0, "p50": 10, "p95": 20},
        {"route": "GET /v1/tasks", "count": 1, "failed": 1, "p50": 30, "p95": 30},
    ]


def test_probes_and_open_streams_are_no_answering_times() -> None:
    shown = traffic_of(
        request("run:auth", "auth", 200, 4, id="probe"),
        request("gateway", "/health/ready", 200, 5, id="probe"),
        request("gateway", "/v1/sessions/{any}", 200, 60_000),
        request("gateway", "/v1/tasks", 200, 7),
    )

    assert "auth" not in shown["services"]
    assert sum(shown["good"]) == 2
    assert [value for value in shown["p95"] if value is not None] == [7]


def test_a_service_is_counted_at_its_front_and_a_replica_in_its_own_log() -> None:
    shown = traffic_of(request("run:projects", "projects", 500, 40), request("run:projects", "projects", 200, 20))
    line = {"message": "request", "time": moment(1), "route": "GET /v1/sessions", "status": 200}
    lines = [json.dumps(each, separators=(",", ":")) for each in (line, {**line, "route": "GET /health/ready"})]
    replica = traffic_of(*lines, log="sessions-1")

    assert sum(shown["services"]["projects"]["counts"]) == 2
    assert (shown["services"]["projects"]["failed"], shown["services"]["projects"]["p95"]) == (1, 40)
    assert sum(shown["good"]) == 0, "what a front answers is no request of the world"
    assert sum(replica["services"]["sessions-1"]["counts"]) == 1


def test_a_probe_that_failed_is_no_failure_of_a_service() -> None:
    shown = traffic_of(
        request("run:auth", "auth", 503, 4, id="probe"),
        request("run:auth", "auth", 200, 9, id="other"),
        request("gateway", "/health/ready", 503, 5, id="probe"),
    )

    assert (sum(shown["services"]["auth"]["counts"]), shown["services"]["auth"]["failed"]) == (1, 0)
    assert shown["services"]["auth"]["p95"] == 9


def test_a_request_whose_end_nobody_measured_counts() -> None:
    line = json.loads(request("gateway", "/v1/tasks", 0, 0)) | {"milliseconds": None}

    assert sum(traffic_of(json.dumps(line))["good"]) == 1


def test_what_is_old_is_forgotten_and_what_is_no_request_is_passed_over() -> None:
    old = request("gateway", "/v1/tasks", 200, 10, ago=STEPS * 10 + 30)

    assert sum(traffic_of(old, "[warning] words", '{"listener": 1', '{"listener":"gateway"}')["good"]) == 0


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (1.0, 100)])
def test_percentiles(share: float, expected: int) -> None:
    assert percentile(Counter(range(1, 101)), share) == expected
    assert percentile(Counter({7: 3, 4: 0}), share) == 7
    assert percentile(Counter(), share) is None


# Logs


def test_only_whole_lines_are_read_and_each_once(tmp_path: Path) -> None:
    log, tail = tmp_path / "a.log", Tail(tmp_path)
    log.write_text("one\ntwo\nthr")
    assert list(tail.lines()) == [("a", b"one"), ("a", b"two")]

    with log.open("a") as file:
        file.write("ee\n")
    assert list(tail.lines()) == [("a", b"three")]
    assert list(tail.lines()) == []

    log.write_text("anew\n")
    assert list(tail.lines()) == [("a", b"anew")]


def test_of_a_long_log_the_end_is_read_from_a_whole_line_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("local.status.tail.FIRST_BYTES", 10)
    (tmp_path / "a.log").write_text("0123456789\nabcdefg\nxyz\n")

    assert [line for _, line in Tail(tmp_path).lines()] == [b"xyz"]
    assert last_lines(tmp_path / "a.log", 2) == ["abcdefg", "xyz"]
    assert last_lines(tmp_path / "a.log", 9, most=6) == ["xyz"]
    assert last_lines(tmp_path / "none.log", 2) == []


def test_like_troubles_are_one_with_a_count() -> None:
    troubles = Troubles()
    error = {"severity": "ERROR", "message": "unexpected error", "error": "KeyError", "service": "auth"}
    for ago in (9, 3):
        troubles.take("auth", json.dumps({**error, "time": moment(ago)}).encode(), time.time())
    troubles.take("auth", json.dumps({**error, "error": "ValueError", "time": moment(1)}).encode(), time.time())
    troubles.take("auth", json.dumps({**error, "severity": "INFO"}).encode(), time.time())
    troubles.take("tasks", b"projects/p/queues/q/tasks/t failed for good after 3 attempts, last 500", time.time())
    for login in (b"a@x", b"b@x"):
        troubles.take("postgres", b"2026-11-23 10:00:00.123 UTC [1] " + login + b" FATAL: no", time.time())

    shown = {(each["log"], each["details"].get("error")): each for each in troubles.shown()}
    assert shown["auth", "KeyError"]["count"] == 2
    assert time.time() - shown["auth", "KeyError"]["at"] < 5
    assert (shown["postgres", None]["at"], shown["postgres", None]["count"]) == (1795428000.123, 2)
    assert shown["postgres", None]["text"] == "[1] b@x FATAL: no"
    assert set(shown) == {("auth", "KeyError"), ("auth", "ValueError"), ("tasks", None), ("postgres", None)}


# What the stand-ins keep


def test_queues(layout: Layout) -> None:
    assert queues.queues(layout, time.time()) == []
    queue(layout)

    [shown] = queues.queues(layout, time.time())

    assert (shown["name"], shown["depth"], shown["retrying"], shown["flying"]) == ("mails", 2, 1, 0)
    assert 45 < time.time() - shown["oldest"] < 60
    assert [(task["name"], task["dispatches"], task["last_code"]) for task in shown["failing"]] == [("failing", 1, 503)]
    assert (sum(shown["done"]), len(shown["done"])) == (1, 60)
    assert shown["done"][-1] == 1


def test_the_schedule(layout: Layout) -> None:
    assert queues.schedule(layout) == []
    schedule(layout)

    shown = {each["name"]: each for each in queues.schedule(layout)}

    assert (shown["outbox-drain"]["code"], shown["anchors"]["code"], shown["keys"]["last"]) == (200, None, None)
    assert shown["anchors"]["last"] is not None
    assert shown["outbox-drain"]["due"] > time.time()
    assert shown["outbox-drain"]["target"] == "retention /internal/outbox/drain"


def test_a_job_that_was_added_is_there(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page outlives the change of a file; only the scheduler was started again."""
    file = tmp_path / "schedule.yaml"
    file.write_text(queues.SCHEDULE.read_text())
    monkeypatch.setattr(queues, "SCHEDULE", file)
    schedule(layout)
    before = len(queues.schedule(layout))

    file.write_text(file.read_text() + file.read_text().splitlines()[-1].replace("name: ", "name: another-") + "\n")
    os.utime(file, ns=(0, 0))
    JobStore(layout.root, load(file), time.time()).connection.close()

    assert len(queues.schedule(layout)) == before + 1


def test_executions_of_workflows(layout: Layout) -> None:
    assert queues.executions(layout) == []
    executions(layout)

    second, first = queues.executions(layout)

    assert (second["state"], second["calls"], second["ended"]) == ("ACTIVE", 1, None)
    assert (first["state"], first["result"], first["job"], first["trace"]) == ("SUCCEEDED", "done", JOB, TRACE)


def test_spans_stand_below_their_parents() -> None:
    spans = [{"span_id": id, "parent_id": parent} for id, parent in (("a", "x"), ("b", "a"), ("c", "a"), ("d", "b"))]

    ordered = [(span["span_id"], depth) for span, depth in neighbours.in_order([*spans, spans[0] | {"span_id": "e"}])]

    assert ordered == [("a", 0), ("b", 1), ("d", 2), ("c", 1), ("e", 0)]


def test_a_process_that_a_signal_holds_is_no_healthy_one(layout: Layout) -> None:
    command = [sys.executable, "-c", "print(1, flush=True); import time; time.sleep(60)"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout
    with process:
        process.stdout.readline()
        services(layout, standing("projects", pid=process.pid, starts=3))
        runs = Services(layout).read()["services"][0]
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        held = Services(layout).read()["services"][0]
        process.kill()

    assert (runs["state"], runs["restarts"], runs["processes"], runs["health"]["answers"]) == ("ready", 2, 1, True)
    assert runs["memory"] > 1 << 20
    assert (held["state"], held["health"]["answers"]) == ("paused", False)


def test_the_supervisor_tells_and_nobody_else(layout: Layout) -> None:
    assert told(Path(layout.root)) is None
    assert Services(layout).read()["services"] == []
    rows = (standing("auth", ports=(1, 2)), standing("logins", "done", step=True))
    services(layout, *rows)

    found = told(Path(layout.root))

    assert isinstance(found, Told)
    assert (found.services, found.ready_seconds) == (rows, 12.5)


# The verdict


def service(name: str = "auth", state: str = "ready", answers: bool | None = True) -> dict[str, Any]:
    return {"name": name, "state": state, "health": {"answers": answers}}


@pytest.mark.parametrize(
    ("sections", "level", "words"),
    [
        ({}, "busy", "No supervisor tells of this stack"),
        ({"services": {"services": [service()]}}, "good", "Everything runs"),
        ({"services": {"services": [service(state="starting")]}}, "busy", "Starting: auth"),
        ({"services": {"services": [service(state="delayed")]}}, "bad", "auth starts again soon"),
        ({"services": {"services": [service(answers=False)]}}, "bad", "No answer from auth"),
        ({"records": {"problem": "silent"}}, "bad", "The database does not answer"),
        ({"records": {"problem": "slow"}}, "bad", "The database is too slow to tell of its jobs"),
        ({"records": {"problem": "53300"}}, "bad", "The database answers with the error 53300"),
        (
            {"records": {"problem": "3D000"}, "services": {"services": [service("migrations", "waiting")]}},
            "busy",
            "Starting: migrations",
        ),
        ({"blind": {"executions": "KeyError"}}, "busy", "This page cannot read executions (KeyError)"),
        ({"records": {"jobs": [{"status": "failed", "stalls": 0}]}}, "bad", "1 export or erasure has failed"),
        ({"records": {"jobs": [{"status": "running", "stalls": 2}]}}, "busy", "1 job makes no progress"),
        ({"queues": {"tasks": [{"name": "q", "retrying": 2, "paused": False}]}}, "busy", "2 tasks are tried again"),
        ({"queues": {"tasks": [{"name": "q", "retrying": 0, "paused": True}]}}, "busy", "Paused: q"),
        ({"troubles": [{"severity": "ERROR", "at": 900, "count": 3}]}, "busy", "3 errors in the logs of late"),
        ({"alerts": {"incidents": [{"ended": None}]}}, "busy", "1 alert is open"),
    ],
)
def test_the_verdict(sections: dict[str, Any], level: str, words: str) -> None:
    found = verdict(sections, 1000)

    assert (found["level"], found["text"]) == (level, words)


def test_the_worst_is_said_first_and_the_rest_beside_it() -> None:
    troubles = [{"severity": "ERROR", "at": 900, "count": 1}, {"severity": "WARNING", "at": 990, "count": 9}]
    rows = [service("a", "starting"), service("b", "failed"), service("c", "failed")]

    found = verdict({"services": {"services": rows}, "troubles": troubles}, 1000)

    assert (found["level"], found["text"]) == ("bad", "b, c are down")
    assert [reason["section"] for reason in found["reasons"]] == ["services", "services", "logs"]
    assert verdict({"services": {"services": [service()]}, "troubles": troubles}, 5000)["level"] == "good"


# Over HTTP


def test_the_state_is_there_for_machines_too(page: str, layout: Layout) -> None:
    write_log(layout, "gateway", request("gateway", "/v1/projects", 200, 10))
    queue(layout)

    state = get(f"{page}/state").json()

    assert set(state) == {"about", *SECTIONS}
    assert state["about"]["links"]["mail"] == layout.url("mail")
    assert [row["name"] for row in state["services"]["services"]] == ["projects", "migrations"]
    assert state["queues"]["tasks"][0]["depth"] == 2
    assert sum(state["traffic"]["good"]) == 1
    assert (state["records"]["problem"], state["traces"]["kept"], state["alerts"]) == ("silent", False, None)


def events(page: str) -> Generator[dict[str, Any], None, None]:
    with get(f"{page}/events", stream=True) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        for line in answer.iter_lines():
            if line:
                yield json.loads(line.removeprefix(b"data: "))


def test_who_watches_is_told_what_is_new(page: str, layout: Layout) -> None:
    told_of = events(page)
    seen: dict[str, Any] = {}
    while not seen.keys() >= SECTIONS:
        seen |= next(told_of)

    services(layout, standing("projects", "delayed"))
    fresh = next(
        each for each in told_of if each.get("services", {}).get("services", [{}])[0].get("state") == "delayed"
    )

    assert (fresh["verdict"]["level"], fresh["verdict"]["reasons"][0]["text"]) == ("bad", "projects starts again soon")
    assert "queues" not in fresh, "what is as it was is not sent again"
    told_of.close()


def test_the_page_lets_nothing_in_and_leads_nowhere_else(still: str) -> None:
    answer = get(f"{still}/")
    policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))

    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
    assert "unsafe" not in str(policy)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "http" not in answer.text.split("<body>")[0]
    assert get(f"{still}/status").text == answer.text
    assert {get(f"{still}/page/{name}").status_code for name in ("main.js", "frame.css", "icon.svg")} == {200}


@pytest.mark.parametrize(
    "path", ["/page/..%2f__main__.py", "/page/none.js", "/page/%00.js", "/log/..%2f..%2flayout.json", "/log/auth", "/x"]
)
def test_it_gives_nothing_but_its_own_files_and_logs_of_services(still: str, path: str) -> None:
    assert get(still + path).status_code == 404


def test_the_log_of_a_service(page: str, layout: Layout) -> None:
    assert get(f"{page}/log/projects").json() == {"service": "projects", "lines": []}
    write_log(layout, "projects", "first", "<b>second</b>")

    assert get(f"{page}/log/projects").json()["lines"] == ["first", "<b>second</b>"]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_a_name_of_somebody_else_that_leads_here_is_refused(still: str, shared_layout: Layout, host: str) -> None:
    connection = HTTPConnection(HOST, shared_layout.ports["status"], timeout=PATIENCE_SECONDS)
    connection.request("GET", "/state", headers={"Host": host})

    assert connection.getresponse().status == 421
    connection.close()
    assert get(still.replace(HOST, "localhost") + "/").status_code == 200


@pytest.mark.parametrize("path", ["/state", "/events", "/log/projects", "/page/main.js"])
@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_another_site_may_lead_here_and_load_nothing(still: str, path: str, site: str) -> None:
    """`same-site` is another port of this machine."""
    loads = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}
    frames = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    follows = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    assert [get(still + path, headers=headers).status_code for headers in (loads, frames)] == [403, 403]
    assert get(f"{still}/", headers=follows).status_code == 200
    assert requests.post(f"{still}/schedule/keys/run", headers=follows, timeout=PATIENCE_SECONDS).status_code == 403
    assert get(f"{still}/", headers=follows).headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_a_job_is_run_by_the_page_alone(page: str, layout: Layout, start: Any, eventually: Any) -> None:
    header = {"X-Status-Page": "run"}

    def run(job: str, **headers: str) -> int:
        return requests.post(f"{page}/schedule/{job}/run", headers=headers, timeout=PATIENCE_SECONDS).status_code

    asked = requests.options(f"{page}/schedule/keys/run", timeout=PATIENCE_SECONDS)
    assert asked.headers.get("Access-Control-Allow-Origin") is None
    assert (run("keys"), run("keys", **header)) == (403, 502)
    with start("local.scheduler", layout, "scheduler"):
        assert (run("none", **header), run("keys", **header)) == (404, 202)

        shown = eventually(lambda: [job for job in queues.schedule(layout) if job["name"] == "keys" and job["last"]])

    assert shown[0]["code"] is None, "nobody listens in this test"
    assert is_free(layout.ports["run:keys"])


def test_traces_and_errors(page: str, layout: Layout, start: Any) -> None:
    """A trace from its beginning on; like errors together, without a word about whom they befell."""
    trace(layout)
    error(layout)
    with start("local.telemetry", layout, "telemetry"):
        state = get(f"{page}/state").json()
        told_of = get(f"{page}/traces/{TRACE}").json()

    [listed], [failure] = state["traces"]["traces"], state["errors"]
    assert (failure["title"], failure["place"]) == ("KeyError", "functions/auth/main.py:7")
    assert (failure["service"], failure["count"]) == ("auth", 2)
    assert "somebody" not in str(state)

    assert (listed["name"], listed["milliseconds"], listed["failed"]) == ("GET /v1/projects", 80, True)
    assert [(each["name"], each["depth"], each["at"], each["milliseconds"]) for each in told_of["spans"]] == [
        ("GET /v1/projects", 0, 0, 80),
        ("GET /v1/projects", 1, 10, 65),
        ("SELECT projects", 2, 20, 50),
    ]
    assert get(f"{page}/traces/{'0' * 32}").status_code == 404
