"""A stack whose functions reach PostgreSQL by Google's Cloud SQL connector: TLS door, IAM log-in, one user each."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pg8000.native
import pytest

from local import stack as stacks
from local.layout import Layout, catalog, login_role
from tests.conftest import CHECKOUT, Api, People, database, running_stack, wait_until

CONNECT = """
import sys
from common.connecting import connect
from common.wire import Step
print(connect(sys.argv[1]).flight([Step("SELECT session_user::text, inet_client_addr() IS NULL")])[0][0])
"""

WHO = """
import os
from migrations.connection import connected
with connected(os.environ["DATABASE_ADMIN_URL"], "context") as connection:
    asked = "SELECT session_user::text, current_setting('application_name'), inet_client_addr() IS NULL"
    print(*connection.run(asked)[0])
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with running_stack(tmp_path_factory.mktemp("connector"), DATABASE_ROUTE="connector") as running:
        yield running


@pytest.fixture
def layout(stack: dict[str, Any]) -> Layout:
    return Layout.load(Path(stack["path"]).with_name("layout.json"))


def sessions(admin: pg8000.native.Connection, service: str) -> list[list[Any]]:
    """User and way of each connection of a service: True is PostgreSQL's socket, which only the door enters."""
    found: list[list[Any]] = admin.run(
        "SELECT usename::text, client_addr IS NULL FROM pg_stat_activity WHERE application_name = :name", name=service
    )
    return found


def connect(layout: Layout, service: str, user: str) -> "subprocess.CompletedProcess[str]":
    """A connection by the product's own code in a process that is this service, as this database user."""
    url = stacks.database_url(layout, user, "connector")
    environment = stacks.function_environment(layout, service, {**os.environ, "DATABASE_ROUTE": "connector"})
    return subprocess.run(
        [sys.executable, "-c", CONNECT, url],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_it_works(stack: dict[str, Any], api: Api, people: People, admin: pg8000.native.Connection) -> None:
    alice = people.create("owner")
    created = api.post("/v1/projects", json={"name": "Atlas \u202e \U0001f9d1\u200d\U0001f680"}, headers=alice)

    assert created.status_code == 201
    assert api.get("/v1/projects", headers=alice).json["items"] == [created.json]
    assert {tuple(row) for row in sessions(admin, "projects")} == {(login_role("projects"), True)}


def test_every_service_logs_in_through_the_door(stack: dict[str, Any], admin: pg8000.native.Connection) -> None:
    direct = admin.run("SELECT DISTINCT application_name FROM pg_stat_activity WHERE client_addr IS NOT NULL")
    functions = {name for name in stack["pids"] if name in catalog()}

    assert functions
    assert functions.isdisjoint(name for (name,) in direct)
    for service in functions:
        assert {tuple(row) for row in sessions(admin, service)} == {(login_role(service), True)}


def as_a_job(layout: Layout, account: str, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command in the environment of the Cloud Run job that runs as this account."""
    environment = stacks.job_environment(layout, account, {**os.environ, "DATABASE_ROUTE": "connector"})
    return subprocess.run(
        [sys.executable, *command],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_migrating_job_logs_in_by_iam_and_is_no_superuser(layout: Layout, admin: pg8000.native.Connection) -> None:
    again = as_a_job(layout, "migrate", "-m", "migrations.apply")
    who = as_a_job(layout, "migrate", "-c", WHO)

    assert again.stdout == "applied: nothing, the schema is current\n", again.stderr
    assert who.stdout.split() == [login_role("migrate"), "migrations", "True"], who.stderr
    assert admin.run(
        "SELECT DISTINCT rolsuper OR rolbypassrls OR rolcreaterole FROM pg_roles WHERE rolname = :login",
        login=login_role("migrate"),
    ) == [[False]]
    owned = admin.run(
        "SELECT m.member::regrole::text FROM pg_auth_members m WHERE m.admin_option AND m.roleid = :role ::regrole",
        role="context_owner",
    )
    assert owned == [["cloudsqlsuperuser"]]


def test_the_operators_job_is_the_owner_and_nothing_else(layout: Layout) -> None:
    listed = as_a_job(layout, "operator", "-m", "migrations.operator", "jobs")
    refused = as_a_job(layout, "operator", "-m", "migrations.apply")

    assert listed.returncode == 0, listed.stderr
    assert "42501" in refused.stderr


def test_a_function_is_nobody_else(layout: Layout) -> None:
    own = connect(layout, "projects", "projects")
    other = connect(layout, "projects", "organizations")

    assert own.stdout.strip() == f"['{login_role('projects')}', True]", own.stderr
    assert other.returncode != 0
    assert "28000" in other.stderr
    assert f'authentication failed for user "{login_role("organizations")}"' in other.stderr


def test_lost_connections_are_replaced(
    stack: dict[str, Any], api: Api, people: People, admin: pg8000.native.Connection
) -> None:
    alice = people.create("owner")
    assert api.get("/v1/projects", headers=alice).status_code == 200
    admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'projects'")

    answers: list[int] = []

    def works_again() -> bool:
        answers.append(api.get("/v1/projects", headers=alice).status_code)
        return answers[-1] == 200

    wait_until(works_again)
    assert set(answers) <= {200, 503}
    with database(stack["postgres"]["admin"]) as again:
        assert sessions(again, "projects")
