"""The stand-in of the Telemetry API: who may send, what is shown, what stays after a restart, and its bounds."""

import gzip
import os
import signal
from contextlib import closing

import pytest
import requests
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from local import telemetry_store
from local.identity import Issuer
from local.layout import service_account
from local.telemetry_store import Store
from tests.local.conftest import running

KIND = {"Content-Type": "application/x-protobuf"}
KEPT, ALSO, LOST = "f" * 32, "e" * 32, "0" * 31 + "1"


def exported(*spans, service="projects", nanoseconds=1):
    """A request of OTLP: each span is (trace, id, name)."""
    message = ExportTraceServiceRequest()
    sender = message.resource_spans.add()
    sender.resource.attributes.append(KeyValue(key="service.name", value=AnyValue(string_value=service)))
    scope = sender.scope_spans.add()
    for trace_id, span_id, name in spans:
        client = KeyValue(key="peer.address", value=AnyValue(string_value="203.0.113.7"))
        method = KeyValue(key="http.method", value=AnyValue(string_value="GET"))
        scope.spans.append(
            Span(
                trace_id=bytes.fromhex(trace_id),
                span_id=span_id.to_bytes(8, "big"),
                name=name,
                start_time_unix_nano=span_id,
                end_time_unix_nano=span_id + nanoseconds,
                attributes=[client, method],
            )
        )
    return message.SerializeToString()


@pytest.fixture(scope="module")
def url(shared_layout):
    with running("local.telemetry", shared_layout, "telemetry", "--ratio", "0.5"):
        yield shared_layout.url("telemetry")


def token(layout, name):
    return {"Authorization": f"Bearer {Issuer(layout.root).access_token(service_account(name))}"}


def test_who_serves_requests_may_send(shared_layout, url):
    body = exported((KEPT, 1, "GET /v1/projects"))

    answers = [
        requests.post(f"{url}/v1/traces", data=body, headers=KIND | headers, timeout=5)
        for headers in ({}, token(shared_layout, "gateway"), token(shared_layout, "projects"))
    ]

    assert [answer.status_code for answer in answers] == [401, 403, 200]
    assert answers[2].headers["Content-Type"] == "application/x-protobuf"
    (trace,) = requests.get(f"{url}/traces", timeout=5).json()["traces"]
    assert (trace["trace_id"], trace["name"], trace["services"]) == (KEPT, "GET /v1/projects", ["projects"])


def test_what_is_no_otlp_is_refused(shared_layout, url):
    headers = token(shared_layout, "projects")
    for body, kind in ((b"\xff\xff", KIND), (exported(), {"Content-Type": "application/json"})):
        for path in ("/v1/traces", "/v1/metrics", "/envoy/v1/traces"):
            answer = requests.post(url + path, data=body, headers=headers | kind, timeout=5)
            assert answer.status_code == 400


def test_of_envoy_it_keeps_what_the_services_keep_and_names_nobody(url):
    body = exported((ALSO, 3, "/v1/projects"), (LOST, 2, "/v1/projects"), service="gateway")

    assert requests.post(f"{url}/envoy/v1/traces", data=body, headers=KIND, timeout=5).status_code == 200

    (span,) = requests.get(f"{url}/traces/{ALSO}", timeout=5).json()["spans"]
    assert (span["service"], span["name"]) == ("gateway", "GET /v1/projects")
    assert span["attributes"] == {"http.method": "GET"}
    assert requests.get(f"{url}/traces/{LOST}", timeout=5).status_code == 404


def test_a_stream_is_no_span_of_an_hour(url):
    hour = exported(("d" * 32, 4, "/v1/sessions/{any}"), service="gateway", nanoseconds=3600 * 10**9)
    step = exported(("d" * 32, 5, "exports-jobs"), service="run:exports-jobs", nanoseconds=3600 * 10**9)
    for body in (hour, step):
        assert requests.post(f"{url}/envoy/v1/traces", data=body, headers=KIND, timeout=5).status_code == 200

    assert [each["name"] for each in requests.get(f"{url}/traces/{'d' * 32}", timeout=5).json()["spans"]] == [
        "GET exports-jobs"
    ]


def test_what_was_taken_is_there_after_a_kill(layout):
    with running("local.telemetry", layout, "telemetry") as process:
        url = layout.url("telemetry")
        body, headers = exported((KEPT, 1, "one"), (KEPT, 2, "two")), KIND | token(layout, "projects")
        for _ in range(2):  # sent again because an answer was lost
            assert requests.post(f"{url}/v1/traces", data=body, headers=headers, timeout=5).status_code == 200
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with running("local.telemetry", layout, "telemetry"):
        spans = requests.get(f"{url}/traces/{KEPT}", timeout=5).json()["spans"]
    assert [span["name"] for span in spans] == ["one", "two"]


def test_it_keeps_the_newest(tmp_path, monkeypatch):
    monkeypatch.setattr(telemetry_store, "MOST_SPANS", 10)
    monkeypatch.setattr(telemetry_store, "SLACK", 2)
    with closing(Store(tmp_path)) as store:
        for place in range(40):
            span = {"trace_id": f"{place:032x}", "span_id": f"{place:016x}", "parent_id": "", "service": "s"}
            store.add_spans([span | {"name": "n", "start": place, "end": place, "failed": False}])

        kept = [trace["trace_id"] for trace in store.traces(100)]

    assert 10 <= len(kept) <= 12
    assert kept[0] == f"{39:032x}"


def test_gzip_is_taken_too(shared_layout, url):
    body = gzip.compress(exported(("c" * 32, 10**9, "GET /v1/tasks")))
    headers = KIND | {"Content-Encoding": "gzip"} | token(shared_layout, "projects")
    assert requests.post(f"{url}/v1/traces", data=body, headers=headers, timeout=5).status_code == 200
    (span,) = requests.get(f"{url}/traces/{'c' * 32}", timeout=5).json()["spans"]
    assert span["name"] == "GET /v1/tasks"


def test_what_lacks_a_value_is_refused(shared_layout, url):
    empty, bare = ExportMetricsServiceRequest(), ExportMetricsServiceRequest()
    empty.resource_metrics.add().scope_metrics.add().metrics.add(name="nothing")
    bare.resource_metrics.add().scope_metrics.add().metrics.add(name="bare").gauge.data_points.add()
    headers = KIND | token(shared_layout, "projects")
    for message in (empty, bare):
        data = message.SerializeToString()
        assert requests.post(f"{url}/v1/metrics", data=data, headers=headers, timeout=5).status_code == 400
