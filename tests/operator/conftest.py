"""The operator's command as a person types it, and the chains that tell of it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pg8000.native
import pytest

from local.layout import Layout
from local.stack import cloud_job_environment
from tests.conftest import CHECKOUT, Api
from tests.deletions.conftest import Backstage
from tests.exports.conftest import Exports

PLATFORM = "00000000-0000-4000-8000-000000000001"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def operator(stack: dict[str, Any]) -> Run:
    """Run the operator's command; the completed process."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "local.operator", *arguments, "--root", str(Path(stack["path"]).parent)]
        return subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture(scope="session")
def job_environment(stack: dict[str, Any]) -> dict[str, str]:
    """What the Cloud Run job has in its environment."""
    layout = Layout.load(Path(stack["path"]).parent / "layout.json")
    return cloud_job_environment(layout, "operator", os.environ)


@pytest.fixture
def asked(job_environment: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Run it for a script, as the Cloud Run job does: what it answers."""

    def run(*arguments: str) -> dict[str, Any]:
        command = [sys.executable, "-m", "migrations.operator", *arguments, "--json"]
        done = subprocess.run(
            command, cwd=CHECKOUT, env=job_environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.stdout.count("\n") == 1, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["exit_code"] == done.returncode
        return answer

    return run


class Chain:
    """What the platform's chain says of an act."""

    def __init__(self, admin: pg8000.native.Connection) -> None:
        self._admin = admin

    def of(self, request_id: str, tenant: str = PLATFORM) -> list[dict[str, Any]]:
        """The events of one use of the command, oldest first."""
        rows = self._admin.run(
            "SELECT to_json(e) FROM app.audit_events e WHERE tenant_id = :tenant AND request_id = :id ORDER BY seq",
            tenant=tenant,
            id=request_id,
        )
        return [row[0] for row in rows]

    def one(self, request_id: str) -> tuple[str, str, str | None, dict[str, Any]]:
        """Action, outcome, resource and data of the single event of a use."""
        (event,) = self.of(request_id)
        assert (event["actor_type"], event["actor_id"], event["personal"]) == ("system", None, None)
        return event["action"], event["outcome"], event["resource_id"], event["data"]


@pytest.fixture
def told(admin: pg8000.native.Connection) -> Chain:
    return Chain(admin)


@pytest.fixture
def backstage(stack: dict[str, Any], api: Api, admin: Any) -> Backstage:
    return Backstage(stack, api, admin)


@pytest.fixture
def exports(api: Api) -> Exports:
    return Exports(api)
