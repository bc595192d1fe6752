"""`operator rotate-keys`: the rotation's own code and lease, now; after a leak without waiting for the key's age."""

import json
import os
import subprocess
import sys

import pytest

from tests.auth.support import PASSWORD, log_in
from tests.conftest import CHECKOUT, wait_until
from tests.keys.conftest import CACHE, PERIOD, SETTLE
from tests.keys.test_rotation import JWT, VERIFY, kid_of

PLATFORM = "00000000-0000-4000-8000-000000000001"


@pytest.fixture
def rotate(safe):
    """Run the command; its answer."""

    def run(*arguments):
        command = [sys.executable, "-m", "local.operator", "rotate-keys", *arguments, "--json"]
        command += ["--reason", "ticket 4711", "--root", str(safe.layout.root)]
        fast = {"SECRETS_CACHE_SECONDS": str(CACHE), "KEY_SETTLE_SECONDS": str(SETTLE)}
        done = subprocess.run(
            command, cwd=CHECKOUT, env={**os.environ, **fast}, capture_output=True, text=True, timeout=90, check=False
        )
        assert done.stdout, done.stderr
        answer = json.loads(done.stdout)
        assert answer["exit_code"] == done.returncode
        return answer

    return run


def events(admin, request):
    found = admin.run(
        "SELECT action, outcome, data FROM app.audit_events WHERE tenant_id = :id AND request_id = :request"
        " ORDER BY seq",
        id=PLATFORM,
        request=request,
    )
    return [(action, outcome, data) for action, outcome, data in found]


def test_what_is_due(safe, rotate, admin):
    safe.call()
    assert rotate("unsubscribe-key")["done"] == {}
    safe.later("unsubscribe-key", PERIOD)

    answer = rotate("unsubscribe-key")

    (step,) = answer["done"]["unsubscribe-key"]
    assert step.startswith("added ")
    noted = {"reason": "ticket 4711", "now": False}
    assert events(admin, answer["request_id"]) == [
        ("key.rotation_started", "success", {**noted, "secrets": ["unsubscribe-key"]}),
        ("key.rotated", "success", {**noted, "steps": answer["done"], "failed": []}),
    ]


def test_after_a_leak(safe, rotate, api, people):
    """Old tokens go on, new ones are signed by a key that nobody knew before; a key that waited is thrown away."""
    nora = people.create("owner", password=PASSWORD)
    old = log_in(api, nora.email, PASSWORD).json["access_token"]
    waiting = safe.begin("mail-key")
    before = {id: safe.ring(id)["active"] for id in (JWT, "mail-key", "context-key-projects_fn")}

    answer = rotate("--now", *before)

    assert answer["exit_code"] == 0
    assert f"dropped {waiting}" in answer["done"]["mail-key"]
    for id, kid in before.items():
        ring = safe.ring(id)
        assert ring["active"] not in (kid, waiting)
        assert f"promoted {ring['active']}" in answer["done"][id]
        assert "retired_at" in ring["keys"][kid]
    active = safe.ring(JWT)["active"]
    assert active in safe.ring(VERIFY)["keys"]
    assert api.get("/v1/projects", headers={"Authorization": f"Bearer {old}"}).status_code == 200
    wait_until(lambda: kid_of(log_in(api, nora.email, PASSWORD).json["access_token"]) == active, 10, "a new token")


def test_two_runs_do_not_interleave(safe, rotate, admin):
    safe.call()
    versions = safe.versions("unsubscribe-key")
    admin.run("INSERT INTO platform.key_run (run, ends_at) VALUES (gen_random_uuid(), now() + interval '1 hour')")
    try:
        answer = rotate("--now", "unsubscribe-key")
    finally:
        admin.run("DELETE FROM platform.key_run")
    assert (answer["exit_code"], answer["outcome"], safe.versions("unsubscribe-key")) == (1, "busy", versions)
    assert [event[:2] for event in events(admin, answer["request_id"])][-1] == ("key.rotated", "denied")


def test_what_is_not_turned(rotate, admin):
    answer = rotate("edge-key", "no-such-key")
    assert (answer["exit_code"], answer["outcome"]) == (1, "unknown")
    assert [event[:2] for event in events(admin, answer["request_id"])] == [("key.rotated", "denied")]


def test_the_schedulers_run_stands_in_the_platforms_chain(safe, admin):
    safe.call()
    safe.later("refresh-key", PERIOD)
    last = "SELECT max(seq) FROM app.audit_events WHERE tenant_id = :id"
    before = admin.run(last, id=PLATFORM)[0][0] or 0

    done = safe.call().json["done"]

    found = admin.run(
        "SELECT data FROM app.audit_events WHERE tenant_id = :id AND seq > :seq AND action = 'key.rotated'",
        id=PLATFORM,
        seq=before,
    )
    assert found == [[{"steps": done, "failed": []}]]
    assert "added" in done["refresh-key"][0]

    def quiet():
        before = admin.run(last, id=PLATFORM)
        return safe.call().json == {"done": {}} and admin.run(last, id=PLATFORM) == before

    wait_until(quiet, 20, "a run that does nothing and tells nothing")
