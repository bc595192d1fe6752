"""Which traces are kept, what a span may say, and that a process without a collector does nothing."""

import json
import os
import secrets
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from common import metrics, tracing
from tests.conftest import CHECKOUT

# A child: a request each for the trace ids of the command line, and what became of it.
CHILD = """
import json, sys
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request
from common import telemetry, tracing
from common.http import Routes
telemetry.start()
routes = Routes("projects")
for trace_id in sys.argv[1:]:
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-00", "X-Edge-Key": "edge"}
    routes.answer(Request(EnvironBuilder(path="/health/", headers=headers).get_environ()))
kept = [[span.name, span.trace_id, span.parent_id] for span in tracing.finished]
loaded = [name for name in sys.modules if name.split(".")[0] == "opentelemetry"]
print(json.dumps({"kept": kept, "loaded": loaded}), file=sys.stderr)
"""


def child(tmp_path, *trace_ids, **settings):
    """What a process says that has answered requests of these traces."""
    (tmp_path / "edge-key").write_text("edge")
    names = ("DATABASE_URL", "PUBLIC_URL", "SERVICE_URL")
    environment = {"PATH": os.environ["PATH"], "SERVICE": "projects", "SECRETS_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *trace_ids],
        cwd=CHECKOUT,
        env=environment | dict.fromkeys(names, "http://localhost") | settings,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1]), [json.loads(line) for line in done.stdout.splitlines()]


def test_without_a_collector_nothing_is_kept_or_imported(tmp_path):
    said, _ = child(tmp_path, secrets.token_hex(16), TRACE_SAMPLE_RATIO="1")

    assert said == {"kept": [], "loaded": []}


def test_a_request_that_is_not_kept_imports_nothing(tmp_path):
    lowest = "f" * 18 + "0" * 13 + "1"

    said, logged = child(tmp_path, lowest, TELEMETRY_ENDPOINT="http://127.0.0.1:9", TRACE_SAMPLE_RATIO="0.99")

    assert said == {"kept": [], "loaded": []}
    assert logged[0]["logging.googleapis.com/trace"].endswith(f"/traces/{lowest}")


def test_the_id_alone_decides(tmp_path):
    ids = [f"{'0' * 17}1{place:02x}{'0' * 12}" for place in (0x00, 0x7F, 0x80, 0xFF)]

    said, logged = child(tmp_path, *ids, TELEMETRY_ENDPOINT="http://127.0.0.1:9", TRACE_SAMPLE_RATIO="0.5")

    assert said["kept"] == [["GET /health/", trace_id, "00f067aa0ba902b7"] for trace_id in ids[2:]]
    requests = [line for line in logged if line["message"] == "request"]
    spans = [line["logging.googleapis.com/spanId"] for line in requests]
    assert spans[:2] == ["00f067aa0ba902b7"] * 2  # not ours: what the sender named
    assert len({*spans}) == 3  # and ours


def test_nobody_makes_a_process_keep_more_than_its_share(tmp_path):
    said, _ = child(tmp_path, *(["f" * 32] * 200), TELEMETRY_ENDPOINT="http://127.0.0.1:9", TRACE_SAMPLE_RATIO="0.1")

    assert 0 < len(said["kept"]) <= 3 * tracing.PER_SECOND  # it takes less than two seconds


@given(st.binary(min_size=16, max_size=16), st.floats(0, 1), st.floats(0, 1))
def test_what_is_kept_at_a_ratio_is_kept_at_a_higher_one(identifier, one, other):
    lower, higher = sorted((one, other))
    assert tracing.is_kept(identifier.hex(), lower) <= tracing.is_kept(identifier.hex(), higher)
    assert tracing.is_kept(identifier.hex(), 1.0)
    assert not tracing.is_kept(identifier.hex(), 0.0)


def test_a_tenth_is_a_tenth():
    kept = sum(tracing.is_kept(f"{place << 40:032x}", 0.1) for place in range(0, 1 << 16, 8))

    assert kept / (1 << 13) == pytest.approx(0.1, abs=0.001)


SAID = {
    "SELECT projects": "SELECT id FROM app.projects WHERE tenant_id = :tenant_id",
    "INSERT projects": "INSERT INTO app.projects (name) VALUES (:name) RETURNING id, app.project_json(projects)",
    "SELECT authorize": "SELECT app.authorize(:token)",
    "SELECT tasks": "WITH one AS (SELECT 1) SELECT app.task_json(t) FROM one JOIN app.tasks t ON true",
    "SELECT pg_logical_emit_message": "SELECT pg_catalog.pg_logical_emit_message(false, 'settle', '', true)",
    "BEGIN": "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
    "COPY accounts": "COPY (SELECT 'bob@example.org', id FROM identity.accounts) TO STDOUT",
    "DELETE outbox": "DELETE FROM ONLY platform.outbox",
    "SELECT": "SELECT 'app.secret_of_bob'",
    "OTHER": "VACUUM",
}


@pytest.mark.parametrize("words", SAID)
def test_a_statement_in_two_words(words):
    assert tracing.summary(SAID[words]) == words


@given(st.text())
def test_a_summary_quotes_no_value(value):
    quoted = value.replace("'", "")
    assert tracing.summary(f"SELECT '{quoted}' FROM app.projects") == "SELECT projects"


PERSONAL = (
    "alice@example.org",
    "8c5577ce-1740-4d01-a2dc-88b9e77fafc8",
    "203.0.113.7",
    "2001:db8::1:2:3",
    "+491701234567",
    "eyJhbGciOiJIUzI1NiIsImtpZCI6IjQyNDAzYmEyOTNmOGRiMmMi",  # pragma: allowlist secret
)


@pytest.mark.parametrize("place", range(len(PERSONAL)))
def test_what_looks_like_somebody_s_does_not_leave(place):
    value = PERSONAL[place]
    assert tracing.harmless({"http.route": f"/v1/{value}", "error.type": value}) == {}
    assert tracing.harmless({"http.route": "/v1/projects/{project_id}", "user.id": "x"}) == {
        "http.route": "/v1/projects/{project_id}"
    }


def test_routes_as_opentelemetry_has_them():
    assert metrics.template("/v1/users/<uuid:user_id>/x/<name>") == "/v1/users/{user_id}/x/{name}"


class Google(BaseHTTPRequestHandler):
    """A metadata server and a collector in one: hands out a token, and keeps what is sent."""

    sent: "list[tuple[str, str | None, bytes]]"

    def do_GET(self):
        self.server.asked = True
        answer = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer", "email": "a@b.example"}
        text = json.dumps(answer | {"scopes": [], "aliases": []}).encode()
        if self.path.rstrip("/") in {"", "/computeMetadata/v1/project/project-id"}:
            text = b"project"
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if text.startswith(b"{") else "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.sent.append((self.path, self.headers["Authorization"], body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def google():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Google)
    server.sent = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_left_leaves_at_the_end_with_the_service_s_own_credentials(tmp_path, google):
    host = f"127.0.0.1:{google.server_port}"
    settings = {"TELEMETRY_ENDPOINT": f"http://{host}", "TRACE_SAMPLE_RATIO": "1", "PROJECT_ID": "project"}
    settings |= {"REGION": "europe-west1", "K_REVISION": "projects-00007-abc", "GCE_METADATA_HOST": host}
    child(tmp_path, "f" * 32, **settings, GCE_METADATA_IP=host)

    assert [(path, token) for path, token, _ in google.sent] == [
        ("/v1/traces", "Bearer token"),
        ("/v1/metrics", "Bearer token"),
    ]
    traces, numbers = ExportTraceServiceRequest(), ExportMetricsServiceRequest()
    traces.ParseFromString(google.sent[0][2])
    numbers.ParseFromString(google.sent[1][2])
    resource = {each.key: each.value.string_value for each in traces.resource_spans[0].resource.attributes}
    assert resource | {"service.instance.id": ""} == {
        "service.name": "projects",
        "service.instance.id": "",
        "service.version": "projects-00007-abc",
        "cloud.provider": "gcp",
        "cloud.platform": "gcp_cloud_run",
        "cloud.region": "europe-west1",
        "gcp.project_id": "project",
    }
    (span,) = traces.resource_spans[0].scope_spans[0].spans
    assert (span.name, span.trace_id.hex()) == ("GET /health/", "f" * 32)
    assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
    (metric,) = numbers.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.histogram.data_points
    assert (metric.name, metric.unit, point.count) == ("http.server.request.duration", "s", 1)
    assert sum(point.bucket_counts) == 1
    assert list(point.explicit_bounds) == list(metrics.REQUEST_SECONDS)
