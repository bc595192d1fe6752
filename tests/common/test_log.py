"""Structured logs: a line that cannot be written is lost, the request is not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local.layout import catalog
from tests.conftest import CHECKOUT, wait_until

CHILD = """
import sys
from werkzeug.wrappers import Request
from werkzeug.test import EnvironBuilder
from common.http import Routes
routes = Routes("projects")
for path in ("/health/", "/nothing/internal"):
    answer = routes.answer(Request(EnvironBuilder(path=path, headers={"X-Edge-Key": "edge"}).get_environ()))
    print(answer.status_code, answer.headers["Content-Type"], file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_costs_the_log_and_not_the_answer(tmp_path):
    (tmp_path / "edge-key").write_text("edge")
    names = ("DATABASE_URL", "PUBLIC_URL", "SERVICE_URL")
    environment = {"PATH": os.environ["PATH"], "SERVICE": "projects", "SECRETS_DIR": str(tmp_path)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", CHILD],
            cwd=CHECKOUT,
            env=environment | dict.fromkeys(names, "http://localhost"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )

    assert done.stderr.splitlines()[:2] == ["200 application/json", "404 application/problem+json"]


def test_every_entry_of_every_service_is_json(stack, api, alice):
    """Nothing else comes out of a service: no banner, no warning of a library, no bare traceback."""
    folder, asked = Path(stack["path"]).parent / "log", {"auth": "/v1/auth/me", "projects": "/v1/projects"}
    for service, path in asked.items():
        answer = wait_until(lambda path=path: (got := api.get(path, headers=alice)).status_code == 200 and got)
        known, file = answer.headers["X-Request-Id"], folder / f"{service}.log"
        wait_until(lambda known=known, file=file: known in file.read_text(), what="the entry")
    for service in [*catalog(), "sessions-1", "sessions-2"]:
        entries = [json.loads(line) for line in (folder / f"{service}.log").read_text().splitlines()]
        assert [entry for entry in entries if not {"severity", "message", "time", "service"} <= set(entry)] == [], (
            service
        )
