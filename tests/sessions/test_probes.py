"""What the kubelet and load balancers ask: a replica whose threads all wait for the database is alive, and serves."""

import asyncio
import json
import threading

import pytest

from sessions import app
from sessions.app import Application
from tests.valkeys import process_settings

SECONDS = 30  # far beyond what it takes: the kubelet waits five


@pytest.fixture
def busy(monkeypatch):
    """A replica, none of whose threads will be free again before the test ends."""
    with process_settings(monkeypatch):
        replica, over = Application(), threading.Event()
        for _ in range(replica.threads._max_workers):
            replica.threads.submit(over.wait)
        yield replica
        over.set()
        replica.threads.shutdown()
        replica.watcher.shutdown()


def status(replica, path):
    """The status with which the replica answers a GET."""
    return answered(replica, path)[0]["status"]


def answered(replica, path):
    """The messages with which the replica answers a GET."""
    said = []

    async def send(message):
        said.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": []}
    asyncio.run(asyncio.wait_for(replica(scope, receive, send), SECONDS))
    return said


@pytest.mark.parametrize("path", ["/health/", "/health/serving"])
def test_a_probe_waits_for_no_thread(busy, path):
    assert status(busy, path) == 200


def test_a_replica_that_drains_lives_and_takes_no_more(busy):
    busy.hub.draining = True

    assert status(busy, "/health/serving") == 503
    assert status(busy, "/health/") == 200


def test_a_refusal_before_the_route_table_is_an_answer_like_any_other(busy, monkeypatch):
    monkeypatch.setattr(app, "WAITING", 0)
    said = answered(busy, "/v1/sessions")
    headers = dict(said[0]["headers"])
    document = json.loads(said[1]["body"])

    assert said[0]["status"] == 503
    assert headers[b"x-request-id"].decode() == document["request_id"] != "none"
    assert {b"strict-transport-security", b"content-security-policy", b"retry-after"} <= set(headers)
