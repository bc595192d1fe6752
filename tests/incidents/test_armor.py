"""functions.incidents.armor when Compute Engine is busy, refuses, or does not get done: an exception, never a guess."""

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from google.oauth2.credentials import Credentials

from common.settings import settings
from functions.incidents import armor

RULE = {
    "action": "deny(403)",
    "description": armor.EMPTY,
    "match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["198.51.100.7", "2001:DB8:0::/64"]}},
}
RUNNING, DONE = {"name": "operation-1", "status": "RUNNING"}, {"name": "operation-1", "status": "DONE"}


@pytest.fixture
def compute(monkeypatch):
    """Answers in their order: (status, document or text); what was asked, in `asked`."""
    answers, asked = [], []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(f"{self.command} {self.path.rpartition('/')[2]}")
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, document = answers.pop(0) if len(answers) > 1 else answers[0]
            data = (document if isinstance(document, str) else json.dumps(document)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    required = dict.fromkeys(("SERVICE", "DATABASE_URL", "SECRETS_DIR", "PUBLIC_URL", "SERVICE_URL"), "-")
    address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {**required, "COMPUTE_ENDPOINT": address, "PROJECT_ID": "p"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("google.auth.default", lambda **_: (Credentials("t"), "p"))
    for cached in (settings, armor._session):
        cached.cache_clear()
    server.answers, server.asked = answers, asked
    yield server
    server.shutdown()
    server.server_close()
    for cached in (settings, armor._session):
        cached.cache_clear()


def write():
    armor.write(["198.51.100.7/32"], armor.described([datetime.now(UTC)]))


def test_networks_are_read_in_their_normal_form(compute):
    compute.answers[:] = [(200, RULE)]
    assert armor.read().networks == {"198.51.100.7/32", "2001:db8::/64"}


@pytest.mark.parametrize("status", [400, 403, 404, 409, 412, 429, 500, 503])
@pytest.mark.parametrize("act", [armor.read, write], ids=["read", "write"])
def test_a_refusal_names_its_status_alone(compute, act, status):
    compute.answers[:] = [(status, {"error": {"message": "198.51.100.7/32 is not valid"}})]
    with pytest.raises(armor.Unavailable, match=rf"^status {status}$"):
        act()
    assert len(compute.asked) == 1


@pytest.mark.parametrize("text", ["", "<html>", "[]", "null"])
def test_what_is_no_document_is_none(compute, text):
    compute.answers[:] = [(200, text)]
    with pytest.raises(armor.Unavailable):
        armor.read()


def test_a_write_waits_until_it_is_done(compute):
    compute.answers[:] = [(200, RUNNING), (200, RUNNING), (200, DONE)]
    write()
    assert compute.asked == ["POST patchRule?priority=100", "POST wait", "POST wait"]


def test_a_write_that_takes_too_long_is_left(compute, monkeypatch):
    monkeypatch.setattr(armor, "WAIT_SECONDS", 0.01)
    compute.answers[:] = [(200, RUNNING)]
    with pytest.raises(armor.Unavailable):
        write()


def test_a_write_that_failed_is_said(compute):
    compute.answers[:] = [(200, DONE | {"error": {"errors": [{"code": "QUOTA_EXCEEDED"}]}})]
    with pytest.raises(armor.Unavailable, match=r"^the operation failed$"):
        write()


def test_nobody_there_is_unavailable(compute):
    compute.shutdown()
    compute.server_close()
    with pytest.raises(armor.Unavailable, match="ConnectionError"):
        armor.read()


@pytest.mark.parametrize(
    "change",
    [
        {"action": "allow"},
        {"action": "redirect"},
        {"preview": True},
        {"match": {"expr": {"expression": "true"}}},
        {"match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["*"]}}},
        {"match": {"versionedExpr": "SRC_IPS_V1", "config": {"srcIpRanges": ["::/0"]}}},
    ],
)
def test_a_rule_that_is_not_ours_is_foreign(compute, change):
    compute.answers[:] = [(200, RULE | change)]
    with pytest.raises(armor.Foreign):
        armor.read()
