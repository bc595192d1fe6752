"""A defect of ours: the client learns a code and a request id, the log where it was raised, and nobody what it said."""

import json
import os
import subprocess
import sys

from tests.conftest import CHECKOUT

PRIVATE = "alice@example.org lives in Elm Street"
CHILD = f"""
from werkzeug.wrappers import Request
from werkzeug.test import EnvironBuilder
from common.access import PUBLIC
from common.http import Routes
routes = Routes("projects")

@routes.on("GET", "/v1/projects", needs=PUBLIC, body=None, answers=None)
def fail(call):
    raise KeyError({PRIVATE!r})

answer = routes.answer(Request(EnvironBuilder(path="/v1/projects", headers={{"X-Edge-Key": "edge"}}).get_environ()))
print(answer.status_code, answer.get_data(as_text=True))
"""


def test_an_unexpected_error_tells_nothing(tmp_path):
    (tmp_path / "edge-key").write_text("edge")
    environment = {"PATH": os.environ["PATH"], "SERVICE": "projects", "SECRETS_DIR": str(tmp_path)}
    environment |= dict.fromkeys(("DATABASE_URL", "PUBLIC_URL", "SERVICE_URL"), "http://localhost")
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=60, check=True
    )

    *entries, answer = done.stdout.splitlines()
    status, body = answer.split(" ", 1)
    told = json.loads(body)
    assert (status, told["code"]) == ("500", "internal_error")
    assert set(told) == {"type", "title", "status", "detail", "code", "request_id"}
    assert "Elm" not in done.stdout + done.stderr
    assert "Traceback" not in body + done.stderr
    (failure,) = [entry for entry in map(json.loads, entries) if entry["message"] == "unexpected error"]
    assert failure["error"] == "KeyError"
    assert any(place.endswith(" fail") for place in failure["stack"])
    assert failure["request_id"] == told["request_id"]
