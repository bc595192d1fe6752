"""The way out of spans: what is tried twice, what is counted as lost, and an end that no collector holds up."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conftest import CHECKOUT

ACCOUNT = {"access_token": "token", "expires_in": 3600, "token_type": "Bearer", "email": "a@b.example"}
ACCOUNT |= {"scopes": [], "aliases": []}
KEPT = """
import json, sys, time
from common import errors, log, metrics, telemetry, tracing
metrics.Instrument.counts = True

def request(*names):
    kept = tracing.begin("GET", log.begin("one", None))
    for name in names:
        with tracing.span(name):
            pass
    tracing.end(kept, "GET /v1/projects", 200, None)

def tell(**facts):
    print(json.dumps(facts | {"lost": metrics.SPANS_LOST.snapshot().get((), [0])[0]}), file=sys.stderr)
"""


class Collector(ThreadingHTTPServer):
    """A metadata server and a collector in one: `answers` are its next statuses, 200 behind them; None never ends."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.taken = [], []
        self.over = threading.Event()

    def spans(self):
        """The names of the spans of each request that it took."""
        found = []
        for body in self.taken:
            message = ExportTraceServiceRequest()
            message.ParseFromString(body)
            found.append([span.name for part in message.resource_spans for span in part.scope_spans[0].spans])
        return found


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        account = "service-accounts" in self.path
        text = json.dumps(ACCOUNT) if account else "project"
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if account else "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.answers.pop(0) if self.server.answers else 200
        if status is None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not self.server.over.wait(0.2):
                self.wfile.write(b".")
            return
        if status == 200:
            self.server.taken.append(body)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    server = Collector()
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()


def child(code, collector, **given):
    """What a process said at its end, and the messages of its log."""
    host = f"127.0.0.1:{collector.server_port}"
    known = {"PATH": os.environ["PATH"], "SERVICE": "projects", "SECRETS_DIR": "/nowhere", "PROJECT_ID": "project"}
    known |= dict.fromkeys(("DATABASE_URL", "PUBLIC_URL", "SERVICE_URL"), "http://localhost")
    known |= {"TELEMETRY_ENDPOINT": f"http://{host}", "TRACE_SAMPLE_RATIO": "1"}
    known |= {"GCE_METADATA_HOST": host, "GCE_METADATA_IP": host}
    done = subprocess.run(
        [sys.executable, "-c", KEPT + code],
        cwd=CHECKOUT,
        env=known | given,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stderr.splitlines()[-1]), [json.loads(line)["message"] for line in done.stdout.splitlines()]


TRIED = """
sender = telemetry.Sender()
request("kms")
for _ in range(TIMES):
    sender._send(numbers=False)
tell(failing=sorted(sender.failing))
"""


def test_what_does_not_get_through_is_sent_once_more(collector):
    collector.answers = [500]
    said, logged = child(TRIED.replace("TIMES", "2"), collector)

    assert collector.spans() == [["kms", "GET /v1/projects"]]
    assert said == {"failing": [], "lost": 0}
    assert logged == ["telemetry cannot be sent", "telemetry is sent again"]


def test_what_is_refused_twice_is_lost_counted_and_in_nobody_s_way(collector):
    collector.answers = [400, 400]
    said, logged = child(TRIED.replace("TIMES", "2") + "request()\nsender._send(numbers=False)\ntell()", collector)

    assert collector.spans() == [["GET /v1/projects"]]
    assert said == {"lost": 2}
    assert logged == ["telemetry cannot be sent", "telemetry is sent again"]


def test_a_collector_whose_answer_never_ends_does_not_hold_up_the_end(collector):
    """A drop of the answer every now and then is within every limit between two reads."""
    collector.answers = [None]
    code = """
telemetry.END_SECONDS = 0.5
telemetry.start()
request("kms")
tell()
"""
    said, logged = child(code, collector)

    assert said == {"lost": 0}
    assert logged == []


FULL = """
heard = []
tracing.tell(lambda root, below: heard.append(len(below)))
request(*["kms"] * (tracing.WAITING + 10))
tell(waiting=len(tracing.finished), remembered=heard, most=tracing.MOST_BELOW)
"""


def test_a_full_queue_counts_what_falls_off_and_a_request_remembers_so_many(collector):
    said, _ = child(FULL, collector)

    assert said == {"waiting": 4096, "lost": 11, "remembered": [said["most"]], "most": 500}


CODES = """
kept = tracing.begin("GET", log.begin("one", None))
for error in (SystemExit("Ada"), errors.Problem("not_found"), ValueError("Ada")):
    try:
        with tracing.span("kms"):
            raise error
    except BaseException:
        pass
tell(types=[span.attributes["error.type"] for span in tracing.finished])
"""


def test_an_error_s_code_is_told_where_it_is_ours(collector):
    said, _ = child(CODES, collector)

    assert said["types"] == ["SystemExit", "not_found", "ValueError"]


SOCKET = """
from sessions import socket

class Speaker:
    request_id, route = "one", "GET /v1/sessions/<uuid:session_id>/socket"
    def send(self, events):
        raise LookupError("nobody is there")

try:
    socket._append(Speaker(), 1, [b'{"type": "note", "data": {}}'])
except LookupError:
    pass
(span,) = tracing.finished
tell(name=span.name, failed=span.failed, here=tracing.here() is None)
"""


def test_a_message_of_a_socket_that_fails_ends_its_span(collector):
    said, _ = child(SOCKET, collector)

    assert said == {
        "name": "MESSAGE /v1/sessions/{session_id}/socket",
        "failed": True,
        "here": True,
        "lost": 0,
    }


THREADS = """
import asyncio
from sessions.app import Application

async def look():
    replica = Application()  # one thread
    await replica.run(log.begin, "one", f"00-{'f' * 32}-00f067aa0ba902b7-00")
    return await replica.run(log.trace.get), await replica.run(tracing.traceparent)

tell(found=asyncio.run(look()))
"""


def test_what_a_replica_does_in_a_thread_is_not_told_as_part_of_the_request_before(collector):
    said, _ = child(THREADS, collector, DATABASE_POOL="2")

    assert said["found"] == [None, None]
