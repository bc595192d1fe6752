"""What Sentry is told of an error and of a request, that it tells nobody, and that it is never in the way."""

import gzip
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common import reports, tracing
from local.sentry import parsed
from tests.conftest import CHECKOUT

PERSON, TENANT = "6f1c6c1e-3c1f-4f0e-9b7e-2d7f6f0c8a11", "0b8f7c52-6d55-4a1d-8f43-52c1f3d0aa01"
KEPT = "f" * 32

# A child: requests to a route that fails, with everything about a person that a request can bring.
CHILD = """
import json, signal, sys, time
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request
from common import reporting, telemetry, tracing
from common.http import Routes
from common.tokens import Claim
reporting.start()
routes = Routes("projects")
@routes.on("POST", "/v1/failing/<uuid:project_id>", needs="public", body=None, answers=None)
def fail(call):
    call.acts_as(Claim("u", "TENANT", "PERSON", "5f0c1a77-e2b9-4d36-8000-000000000000"))
    with tracing.span("kms"):
        pass
    email = call.request.headers["X-Mail"]
    try:
        raise LookupError(email)
    except LookupError as error:
        raise ValueError(f"{email} cannot be read") from error
for trace_id in sys.argv[1:]:
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-00", "X-Edge-Key": "edge", "X-Mail": "ada@example.org"}
    headers |= {"Authorization": "Bearer secret-token", "Cookie": "id=cookie", "User-Agent": "Ada's telephone"}
    path = "/v1/failing/PERSON"
    away = {"REMOTE_ADDR": "203.0.113.9"}
    given = EnvironBuilder(path=path, method="POST", headers=headers, data="Lovelace", environ_base=away)
    began = time.perf_counter()
    answer = routes.answer(Request(given.get_environ()))
    print(json.dumps([answer.status_code, time.perf_counter() - began]), file=sys.stderr)
loaded = [name for name in sys.modules if name.split(".")[0] == "sentry_sdk"]
print(json.dumps({"kept": len(tracing.finished), "loaded": loaded}), file=sys.stderr, flush=True)
""".replace("PERSON", PERSON).replace("TENANT", TENANT)


class Sentry:
    """Takes envelopes on loopback; `says` is what it answers, after `delay` seconds, and `to` where it sends away."""

    def __init__(self, says=200, delay=0.0, to=None):
        self.envelopes, self.headers = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(delay)
                outer.headers.append(dict(self.headers))
                outer.envelopes.append(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
                self.send_response(says)
                if to:
                    self.send_header("Location", to)
                self.end_headers()

            def log_message(self, *_given):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def dsn(self):
        return f"http://{'ab' * 16}@127.0.0.1:{self.server.server_port}/1"

    def events(self, kind):
        """The events of a kind: `event` or `transaction`."""
        return [event for body in self.envelopes for item, event in parsed(body)[1] if item["type"] == kind]


@pytest.fixture
def sentry():
    made = Sentry()
    yield made
    made.server.shutdown()
    made.server.server_close()


def environment(folder, dsn, **given):
    """Settings of a service whose secrets lie in the folder."""
    key = {"algorithm": "HS256", "key": "A" * 43}  # pragma: allowlist secret
    (folder / "edge-key").write_text("edge")
    (folder / "context-key-projects_fn").write_text(json.dumps({"active": "one", "keys": {"one": key}}))
    if dsn is not None:
        (folder / "sentry-dsn").write_text(dsn)
    names = ("DATABASE_URL", "PUBLIC_URL", "SERVICE_URL")
    known = {"PATH": os.environ["PATH"], "SERVICE": "projects", "SECRETS_DIR": str(folder), "PROJECT_ID": "local"}
    return known | dict.fromkeys(names, "http://localhost") | {"TRACE_SAMPLE_RATIO": "0.1"} | given


def child(folder, dsn, *trace_ids, **given):
    """What a process said that answered requests of these traces: each status and time, its end, its log."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *trace_ids],
        cwd=CHECKOUT,
        env=environment(folder, dsn, **given),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    *answers, said = [json.loads(line) for line in done.stderr.splitlines()]
    return answers, said, [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A request that failed and whose trace is kept: what was told, and the answer and log of the process."""
    made = Sentry()
    (answer,), _, logged = child(tmp_path_factory.mktemp("one"), made.dsn, KEPT, K_REVISION="projects-00042-abc")
    made.server.shutdown()
    made.server.server_close()
    return made, answer, logged


def test_an_error_is_told_with_its_places_and_who_it_met_as_a_pseudonym(failed):
    sentry, answer, logged = failed
    assert answer[0] == 500
    (event,) = sentry.events("event")
    cause, error = event["exception"]["values"]
    assert (cause["type"], error["type"]) == ("LookupError", "ValueError")
    (*_, boundary, _) = frames = error["stacktrace"]["frames"]
    assert frames[0]["filename"] == "common/http.py"
    assert boundary["in_app"]
    assert frames[-1]["function"] == "fail"
    assert event["transaction"] == "POST /v1/failing/{project_id}"
    assert event["release"] == "dev-context@projects-00042-abc"
    assert event["environment"] == "local"
    (entry,) = (line for line in logged if line["message"] == "unexpected error")
    assert event["tags"]["request_id"] == entry["request_id"]
    assert event["contexts"]["trace"]["trace_id"] == entry["logging.googleapis.com/trace"].rsplit("/", 1)[1]
    assert re.fullmatch("[0-9a-f]{16}", event["user"]["id"])
    assert re.fullmatch("[0-9a-f]{16}", event["tags"]["organization"])


def test_nothing_of_a_request_and_no_text_of_an_exception_leaves(failed):
    sentry, _, _ = failed
    everything = b"".join(sentry.envelopes).decode() + json.dumps(sentry.headers)
    known = (PERSON, TENANT, "ada@", "Ada", "Lovelace", "secret-token", "cookie", "203.0.113.9", "cannot be read")
    assert [value for value in known if value in everything] == []
    assert os.uname().nodename not in everything
    allowed = {"event_id", "sent_at", "trace"}
    assert all({*parsed(body)[0]} <= allowed for body in sentry.envelopes)


def test_a_pseudonym_is_the_same_for_one_person_and_another_for_the_next(tmp_path, monkeypatch):
    names = environment(tmp_path, None)
    code = """
from common.reports import pseudonym
for kind, id in (("user", "a"), ("user", "a"), ("user", "b"), ("organization", "a"), ("user", "")):
    print(pseudonym(kind, id))
"""
    said = [
        subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=names, capture_output=True, text=True).stdout
    ]
    ring = {"active": "two", "keys": {"two": {"algorithm": "HS256", "key": "B" * 43}}}  # pragma: allowlist secret
    (tmp_path / "context-key-projects_fn").write_text(json.dumps(ring))
    said += [
        subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=names, capture_output=True, text=True).stdout
    ]

    (first, again, other, organization, nobody), turned = said[0].split(), said[1].split()
    assert first == again
    assert len({first, other, organization, turned[0]}) == 4
    assert nobody == "None"


def test_an_error_is_told_when_the_key_of_pseudonyms_cannot_be_read(tmp_path, sentry):
    code = """
from pathlib import Path
from common import reporting
from common.tokens import Claim
reporting.start()
Path(SECRETS, "context-key-projects_fn").write_text("")
reporting.failure(LookupError("ada@example.org"), "none", Claim("u", "TENANT", "PERSON", ""))
""".replace("SECRETS", repr(str(tmp_path)))
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=environment(tmp_path, sentry.dsn), check=True)

    (event,) = sentry.events("event")
    assert event["exception"]["values"][-1]["type"] == "LookupError"
    assert event["user"] == {}
    assert "organization" not in event["tags"]


def test_one_request_in_ten_is_a_transaction_with_what_it_waited_for(tmp_path, sentry):
    ids = [f"{'1' * 18}{place:02x}{'0' * 12}" for place in range(0, 256, 16)]
    child(tmp_path, sentry.dsn, *ids)

    kept = [each for each in ids if tracing.is_kept(each, 0.1)]
    transactions = sentry.events("transaction")
    assert [each["contexts"]["trace"]["trace_id"] for each in transactions] == kept
    assert len(kept) == 1
    (found,) = transactions
    assert found["transaction"] == "POST /v1/failing/{project_id}"
    assert found["contexts"]["trace"]["status"] == "internal_error"
    assert found["contexts"]["trace"]["data"]["http.response.status_code"] == 500
    (span,) = found["spans"]
    assert (span["description"], span["op"]) == ("kms", "http.client")
    assert found["start_timestamp"] <= span["start_timestamp"] <= span["timestamp"] <= found["timestamp"]


@pytest.mark.parametrize("dsn", [None, "none", "", "https://not a dsn"])
def test_without_a_dsn_nothing_is_imported_or_kept(tmp_path, dsn):
    answers, said, logged = child(tmp_path, dsn, KEPT, TRACE_SAMPLE_RATIO="1")

    assert [status for status, _ in answers] == [500]
    assert said == {"kept": 0, "loaded": []}
    assert (dsn is not None and " " in dsn) == any("DSN" in line["message"] for line in logged)


@pytest.mark.parametrize(("says", "delay"), [(500, 0.0), (429, 0.0), (200, 30.0)])
def test_a_sentry_that_is_ill_costs_no_request(tmp_path, says, delay):
    ill = Sentry(says, delay)
    began = time.monotonic()
    answers, _, logged = child(tmp_path, ill.dsn, *(secrets.token_hex(16) for _ in range(20)))

    assert [status for status, _ in answers] == [500] * 20
    assert max(seconds for _, seconds in answers) < 15
    assert time.monotonic() - began < 30  # nor does the end wait for it
    assert {line["message"] for line in logged} == {"request", "unexpected error"}


def test_a_sentry_that_sends_elsewhere_is_not_followed(tmp_path, sentry):
    elsewhere = Sentry(307, to=sentry.dsn.replace(f"{'ab' * 16}@", ""))
    child(tmp_path, elsewhere.dsn, "0" * 31 + "1")

    assert len(elsewhere.envelopes) == 1
    assert sentry.envelopes == []


def test_a_sentry_that_is_away_costs_no_request_and_no_line_of_the_log(tmp_path):
    answers, _, logged = child(tmp_path, "http://ab@127.0.0.1:9/1", *(secrets.token_hex(16) for _ in range(5)))

    assert [status for status, _ in answers] == [500] * 5
    assert {line["message"] for line in logged} == {"request", "unexpected error"}


def test_a_fault_in_every_request_is_told_ten_times_a_second(tmp_path, sentry):
    answers, _, _ = child(tmp_path, sentry.dsn, *["0" * 31 + "1"] * 60)

    assert len(answers) == 60
    assert 10 <= len(sentry.events("event")) <= 10 * (2 + sum(seconds for _, seconds in answers))
    assert len(sentry.events("event")) < 60


def test_lines_of_the_log_that_are_serious_are_told_by_their_words_alone(tmp_path, sentry):
    code = """
from common import log, reporting
reporting.start()
log.begin("6f1c6c1e-3c1f-4f0e-9b7e-2d7f6f0c8a11", None)
log.entry("INFO", "request")
log.entry("CRITICAL", "an erasure left rows", tables=["app.members"], email="ada@example.org")
log.entry("ERROR", "a mail of unknown purpose", purpose="ada@example.org")
"""
    subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, env=environment(tmp_path, sentry.dsn), check=True)

    told = {(event["level"], event["logentry"]["message"]) for event in sentry.events("event")}
    assert told == {("fatal", "an erasure left rows"), ("error", "a mail of unknown purpose")}
    assert b"ada@" not in b"".join(sentry.envelopes)
    assert b"members" not in b"".join(sentry.envelopes)


# Whatever ends up in an event: the allowlist keeps shapes that nobody's data have.

EMAILS = st.emails()
NUMBERS = st.from_regex(r"\+?[1-9][0-9]{7,14}", fullmatch=True)
ADDRESSES = st.ip_addresses().map(str)
TOKENS = st.from_regex(r"[A-Za-z0-9_-]{43,60}", fullmatch=True)
UUIDS = st.uuids().map(str)
PERSONAL = st.one_of(EMAILS, NUMBERS, ADDRESSES, TOKENS, UUIDS, st.text(min_size=3).map(lambda text: f"“{text}”"))
NAMES = [
    *("event_id", "type", "platform", "level", "release", "environment", "transaction", "transaction_info", "source"),
    *("logentry", "message", "tags", "service", "request_id", "sqlstate", "organization", "user", "id", "exception"),
    *("values", "module", "stacktrace", "frames", "filename", "function", "lineno", "in_app", "contexts", "trace"),
    *(
        "trace_id",
        "span_id",
        "parent_span_id",
        "op",
        "status",
        "data",
        "spans",
        "description",
        "sdk",
        "name",
        "version",
    ),
    *("timestamp", "start_timestamp", "http.route", "error.type", "db.query.summary", "request", "extra", "vars"),
    *("breadcrumbs", "modules", "server_name", "value", "context_line", "ip_address", "email", "username", "cookies"),
]


def everywhere(secret):
    """An event as sentry-sdk might make it, with this text in each of its places, and in places that it has not."""
    leaf = {name: secret for name in NAMES} | {secret: secret}
    values = [leaf | {"stacktrace": leaf | {"frames": [leaf]}}]
    deep = {"exception": {"values": values}, "contexts": {"trace": leaf | {"data": leaf}, secret: leaf}}
    flat = dict.fromkeys(("tags", "user", "logentry", "transaction_info", "sdk", "request", "extra", secret), leaf)
    return leaf | flat | deep | {"spans": [leaf | {"data": leaf}], "breadcrumbs": {"values": [leaf]}}


def texts(value):
    """Every text in a document, the names of members included."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield name
            yield from texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from texts(each)
    elif isinstance(value, str):
        yield value


@given(PERSONAL)
def test_personal_data_in_any_place_of_an_event_stay(secret):
    told = reports.allowed(everywhere(secret))

    told["tags"].pop("request_id", None)  # a UUID as ours are: none of anybody is put there
    assert set(texts(told)) <= {*NAMES}


def test_an_event_that_is_as_it_should_be_passes_whole(failed):
    sentry, _, _ = failed
    for event in (*sentry.events("event"), *sentry.events("transaction")):
        assert reports.allowed(event) == event
        assert {*texts(event)} - {*NAMES}


@given(PERSONAL)
def test_an_exception_s_text_and_variables_stay(secret):
    def fails(email):
        here = {"email": email}
        raise RuntimeError(f"{here} cannot be read")

    try:
        fails(secret)
    except RuntimeError as error:
        causes = reports._causes(error)
    assert set(texts(causes)) & {secret} == set()
    assert secret not in json.dumps(causes, ensure_ascii=False)
