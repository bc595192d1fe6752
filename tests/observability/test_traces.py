"""Traces on a running stack: a request from the gateway to its SQL, a job to its last mail; nothing about anybody."""

import os
import signal
from pathlib import Path

import pytest

from common.tracing import NAMES
from local.layout import Layout
from tests.conftest import PASSWORD, pid_of, running_stack, wait_until
from tests.e2e.jobs import Stage
from tests.observability.collected import Collected, named
from tests.sessions.clients import Sse

STEPS = ("claim", "plan", "parts/{names}", "assemble", "notify", "finish")
ERASING = ("claim", "plan", "freeze", "revoke", "organizations", "account", "scan", "certificate", "finish")
ENVOY = {"http.method", "http.status_code", "response_flags"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One that keeps every trace, and sends its numbers when a process ends."""
    with running_stack(tmp_path_factory.mktemp("stack"), TELEMETRY="on", METRICS_SECONDS="3600") as running:
        yield running


@pytest.fixture
def collected(stack, api):
    layout = Layout.load(Path(stack["path"]).with_name("layout.json"))
    return Collected(api, layout.url("telemetry"))


@pytest.fixture
def stage(stack, api, inbox):
    made = Stage(stack, api, inbox)
    yield made
    made.close()


def traced(api, collected, person, method, path, **options):
    """The answer to a request that begins a trace, and the trace's id."""
    trace_id, headers = collected.headers()
    return api.request(method, path, headers={**person, **headers}, **options), trace_id


def test_a_request_from_the_gateway_to_its_statements(api, collected, alice):
    answer, trace_id = traced(api, collected, alice, "POST", "/v1/projects", json={"name": "Atlas"})
    assert answer.status_code == 201

    front = ("gateway: POST /v1/projects", "run:projects: POST projects")
    spans = collected.wait_for(trace_id, *front, "projects: POST /v1/projects", "projects: INSERT projects")
    gateway, run, request, insert = (
        named(spans, service, name)
        for service, name in (
            ("gateway", "POST /v1/projects"),
            ("run:projects", "POST projects"),
            ("projects", "POST /v1/projects"),
            ("projects", "INSERT projects"),
        )
    )
    assert [run["parent_id"], request["parent_id"], insert["parent_id"]] == [
        each["span_id"] for each in (gateway, run, request)
    ]
    assert request["attributes"] == {
        "http.request.method": "POST",
        "http.route": "/v1/projects",
        "http.response.status_code": 201,
    }
    assert insert["attributes"] == {
        "db.system.name": "postgresql",
        "db.query.summary": "INSERT projects",
        "db.operation.batch.size": 1,
    }
    flights = [span["attributes"]["db.query.summary"] for span in spans if "db.query.summary" in span["attributes"]]
    assert flights[-1] == "SELECT append_audit; COMMIT; SELECT pg_logical_emit_message"
    assert not any(span["failed"] for span in spans)

    event = collected.told(trace_id, "projects")["event"]  # and Sentry hears of the same
    assert event["transaction"] == "POST /v1/projects"
    assert event["contexts"]["trace"]["span_id"] == request["span_id"]
    assert "INSERT projects" in {span["description"] for span in event["spans"] if span["op"] == "db"}


def test_a_refusal_tells_its_code_and_the_database_s(api, collected, alice):
    api.post("/v1/projects", json={"name": "Twice"}, headers=alice)
    answer, trace_id = traced(api, collected, alice, "POST", "/v1/projects", json={"name": "Twice"})
    assert answer.status_code == 409

    spans = collected.wait_for(trace_id, "projects: POST /v1/projects")
    request = named(spans, "projects", "POST /v1/projects")
    assert request["attributes"]["context.problem"] == answer.json["code"]
    assert not request["failed"]  # the caller's fault, not ours
    refused = named(spans, "projects", "INSERT projects")
    assert refused["failed"]
    assert refused["attributes"]["db.response.status_code"] == "23505"


def test_an_address_that_is_not_there_is_not_recorded(api, collected, alice):
    answer, trace_id = traced(api, collected, alice, "GET", f"/v1/projects/{alice.email}/nothing")
    assert answer.status_code == 404

    spans = collected.wait_for(trace_id, "auth: GET")  # whoever answers what nobody knows
    assert alice.email not in str(spans)


def test_a_mail_belongs_to_the_request_that_caused_it(api, collected, inbox):
    body = {"email": "trace.mail@example.org", "password": PASSWORD, "display_name": "Trace Mail"}
    answer, trace_id = traced(
        api, collected, {}, "POST", "/v1/auth/register", json=body | {"organization_name": "Traces"}
    )
    assert answer.status_code in {201, 202}, answer.text

    mails = ("auth: send mail", "run:auth: POST auth", "auth: POST /internal/mails/{mail_id}", "auth: smtp")
    spans = collected.wait_for(trace_id, *mails)
    assert (
        named(spans, "auth", "smtp")["parent_id"] == named(spans, "auth", "POST /internal/mails/{mail_id}")["span_id"]
    )


def test_a_copy_runs_on_through_task_workflow_and_steps(api, collected, stage, alice):
    answer, trace_id = traced(api, collected, alice, "POST", "/v1/exports", json={"scope": "me"})
    assert answer.status_code == 202
    assert stage.over(answer.json["id"]) == "done"

    steps = tuple(f"exports-jobs: POST /internal/exports/{{job_id}}/{step}" for step in STEPS)
    spans = collected.wait_for(
        trace_id, "exports: POST /v1/exports", "exports: send workflow", *steps, "exports-jobs: storage upload"
    )
    assert collected.told(trace_id, "exports-jobs")["event"]["transaction"].startswith(
        "POST /internal/exports/{job_id}/"
    )
    request = named(spans, "exports", "POST /v1/exports")
    fronts = {span["span_id"]: span for span in spans if span["service"] == "run:exports-jobs"}
    for span in spans:
        if span["name"].startswith("POST /internal/exports/"):
            assert fronts[span["parent_id"]]["parent_id"] == request["span_id"]
    rows = [span for span in spans if span["name"].startswith("COPY ")]
    assert rows
    assert all("context.rows" in span["attributes"] for span in rows)
    opened = {span["span_id"]: span for span in spans}
    late = {span["name"] for span in spans if opened.get(span["parent_id"], span)["end"] < span["start"]}
    assert late - {"send workflow"} == {"POST exports-jobs"}, "only what a queue brings begins when its cause is over"


def test_an_erasure_and_the_ones_it_causes(api, collected, stage, alice, people):
    other = people.create("viewer")
    people.join(other.user_id, alice.tenant_id, "viewer")
    answer, trace_id = traced(api, collected, other, "POST", "/v1/deletions", json={"scope": "me"})
    assert answer.status_code == 202, answer.text
    wait_until(lambda: stage.over(answer.json["id"]), what="the erasure")

    steps = tuple(f"deletions-jobs: POST /internal/deletions/{{job_id}}/{step}" for step in ERASING)
    spans = collected.wait_for(trace_id, "deletions: POST /v1/deletions", *steps)
    claims = [span for span in spans if span["name"].endswith("/claim") and span["service"] == "deletions-jobs"]
    assert len(claims) > 1, "a child's steps belong to the trace of its parent"
    children = """SELECT o.traceparent FROM platform.outbox o JOIN platform.deletions d ON d.job_id = o.reference
        WHERE d.parent_id = :job::uuid"""
    written = stage.run(children, job=answer.json["id"])
    assert {str(told)[3:35] for (told,) in written} == {trace_id}, "also what definer functions write has a trace"


def test_streams_open_and_are_told_and_are_no_span_of_an_hour(api, stack, collected, alice):
    project = api.post("/v1/projects", json={"name": "Streams"}, headers=alice).json["id"]
    session = api.post("/v1/sessions", json={"project_id": project, "title": "Streams"}, headers=alice).json["id"]
    opening, headers = collected.headers()
    with Sse(f"{stack['api']}/v1/sessions/{session}/stream", {**alice, **headers}) as stream:
        assert stream.status == 200
        spans = collected.wait_for(opening, "sessions: GET /v1/sessions/{session_id}/stream", whole=False)
        assert spans
        events = {"events": [{"type": "note", "data": {}}]}
        answer, trace_id = traced(api, collected, alice, "POST", f"/v1/sessions/{session}/events", json=events)
        assert answer.status_code == 201, answer.text
        assert collected.told(trace_id, "sessions")["event"]["transaction"] == "POST /v1/sessions/{session_id}/events"
        told = named(collected.wait_for(trace_id, "sessions: tell streams"), "sessions", "tell streams")
        assert told["attributes"] == {"context.events": 1}
        stream.next()


@pytest.mark.parametrize("service", ["projects", "sessions-1"])
def test_numbers_leave_when_a_process_ends(api, stack, stage, collected, alice, service):
    known = service.split("-")[0]
    for _ in range(6):  # two replicas share the requests
        assert api.get(f"/v1/{known}", headers=alice).status_code == 200
    before = sum(each["count"] for each in collected.numbers("http.server.request.duration", known))
    stage.kill(service, signal.SIGTERM)

    def told():
        found = collected.numbers("http.server.request.duration", known, **{"http.route": f"/v1/{known}"})
        return [each for each in found if each["labels"]["status_class"] == "2xx"]

    (series, *_) = wait_until(told, what="the numbers")
    assert series["labels"] == {"http.request.method": "GET", "http.route": f"/v1/{known}", "status_class": "2xx"}
    assert sum(series["buckets"]) == series["count"] > 0
    assert collected.numbers("db.client.operation.duration", known, outcome="ok")
    assert sum(each["count"] for each in collected.numbers("http.server.request.duration", known)) > before


def test_nothing_that_was_sent_tells_anybody(api, collected, alice, admin):
    """Behind all tests above: whatever they caused, neither people nor organizations, keys or addresses are in it."""
    everything = collected.everything()
    assert "SELECT projects" in everything
    accounts = "SELECT id::text, email, display_name FROM identity.accounts"
    known = {value for row in admin.run(accounts) for value in row if value}
    known |= {row[0] for row in admin.run("SELECT tenant_id::text FROM app.organizations")}
    known |= {row[0] for row in admin.run("SELECT id::text FROM identity.login_sessions")}
    known |= {row[0] for row in admin.run("SELECT id::text FROM platform.jobs")}
    known |= {row[0] for row in admin.run("SELECT id::text FROM app.projects")}
    known |= {"127.0.0.1", "@", alice.token, PASSWORD, "Atlas", "Bearer"}
    assert [value for value in known if value in everything] == []


def test_only_attributes_that_are_allowed(collected):
    traces = collected.api.get(f"{collected.url}/traces?limit=500").json["traces"]
    found = {
        (span["service"], name)
        for trace in traces
        for span in collected.spans(trace["trace_id"])
        for name in span["attributes"]
    }
    ours = {name for service, name in found if service != "gateway" and not service.startswith("run:")}
    assert ours <= NAMES
    assert {name for _, name in found} - ours <= ENVOY


def test_a_collector_that_is_away_or_hangs_costs_no_request(api, stack, collected, stage, alice):
    answer, lost = traced(api, collected, alice, "GET", "/v1/projects")
    os.kill(pid_of(stack, "telemetry"), signal.SIGSTOP)  # takes connections, and never answers
    try:
        for number in range(20):
            assert api.post("/v1/projects", json={"name": f"Hung {number}"}, headers=alice).status_code == 201
    finally:
        os.kill(pid_of(stack, "telemetry"), signal.SIGCONT)
    stage.kill("telemetry")
    assert api.get("/v1/projects", headers=alice).status_code == 200

    def again():
        answer, trace_id = traced(api, collected, alice, "GET", "/v1/projects")
        assert answer.status_code == 200
        return wait_until(lambda: collected.spans(trace_id), 15, "a span")

    assert wait_until(again, what="spans after the collector is back")
    assert answer.status_code == 200
    assert lost
