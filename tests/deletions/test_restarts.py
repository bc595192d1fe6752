"""Whatever dies and whatever is delivered twice: the same end, and nothing counted twice."""

import os
import signal
from contextlib import suppress
from typing import Any

import pg8000.native
import pytest

from tests.conftest import Api, People, Person, database, pid_of, wait_until
from tests.deletions.conftest import Backstage, Erasures, chain, count


def filled(api: Api, admin: pg8000.native.Connection, person: Person, tasks: int = 0) -> None:
    """A project in the person's organization, with so many tasks."""
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=person).json["id"]
    admin.run(
        "INSERT INTO app.tasks (tenant_id, project_id, title, created_by)"
        " SELECT :tenant, :project, 'Task ' || n, :person FROM generate_series(1, :tasks) n",
        tenant=person.tenant_id,
        project=project,
        person=person.user_id,
        tasks=tasks,
    )


def figures(certificate: dict[str, Any]) -> dict[str, int]:
    return {f"{entry['table']}/{entry['action']}": entry["rows"] for entry in certificate["tables"]}


def test_every_step_twice_comes_to_the_same(
    api: Api, people: People, backstage: Backstage, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    counted = []
    for times in (1, 2):
        owner = people.create("owner")
        dan = people.create("developer", owner.tenant_id)
        own = people.organization()
        people.join(dan.user_id, own, "owner")
        filled(api, admin, people.log_in(dan, tenant_id=own), 3)
        filled(api, admin, dan, 2)
        job = backstage.queued(dan)
        backstage.run(job, "one", times=times)
        certificate = erasures.ended(job)
        counted.append((figures(certificate), certificate["scan"], certificate["objects_deleted"]))
        assert chain(admin, owner.tenant_id).broken is None
        assert count(admin, "app.organizations", own) == 0
    assert counted[0] == counted[1]


def test_a_second_execution_ends_at_its_claim(
    alice: Person, backstage: Backstage, erasures: Erasures, inbox: Any, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice)
    assert backstage.step(job, "claim", "first").json == {"outcome": "claimed"}

    assert backstage.step(job, "claim", "second").json == {"outcome": "lost"}
    for step in ("plan", "freeze", "organizations", "account", "certificate", "notify", "finish", "failed"):
        assert backstage.step(job, step, "second").status_code == 409
    assert backstage.execute(job)["result"] == '"lost"'
    assert admin.run("SELECT status FROM identity.accounts WHERE id = :id", id=alice.user_id) == [["active"]]

    backstage.run(job, "first")
    assert backstage.execute(job)["result"] == '"lost"'
    assert erasures.state(job) == "done"
    inbox.wait_for(alice.email, "erased")
    assert len([m for m in inbox.messages(alice.email) if "erased" in m["subject"]]) == 1


@pytest.mark.parametrize("victim", ["deletions-jobs", "workflows", "postgres"])
def test_killed_in_the_middle(
    victim: str, stack: dict[str, Any], api: Api, people: People, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    owner = people.create("owner")
    filled(api, admin, owner, 12_000)
    deletion_id = half_way_killed(stack, erasures, admin, owner, victim)

    with wait_until(lambda: connected(stack), 30, "PostgreSQL") as again:
        certificate = Erasures(api, again).ended(deletion_id, seconds=90)
        assert figures(certificate)["app.tasks/delete"] == 12_000
        assert figures(certificate)["app.projects/delete"] == 1
        assert count(again, "app.organizations", owner.tenant_id) == 0


def half_way_killed(
    stack: dict[str, Any], erasures: Erasures, admin: pg8000.native.Connection, owner: Person, victim: str
) -> str:
    """Kill the service once the tasks began to go and while the project cannot; wait until another runs."""
    with suppress(pg8000.exceptions.InterfaceError), database(stack["postgres"]["admin"]) as holder:
        holder.run("BEGIN")
        holder.run("LOCK TABLE app.projects IN EXCLUSIVE MODE")
        deletion_id = erasures.ask(owner)
        wait_until(lambda: count(admin, "app.tasks", owner.tenant_id) < 12_000, what="the first batch")
        process = pid_of(stack, victim)
        os.kill(process, signal.SIGKILL)
        wait_until(lambda: new_pid(stack, victim, process), 30, f"a new {victim}")
    return deletion_id


def new_pid(stack: dict[str, Any], service: str, old: int) -> bool:
    """Whether another process runs as the service; between the two none is named."""
    try:
        return pid_of(stack, service) != old
    except KeyError:
        return False


def connected(stack: dict[str, Any]) -> pg8000.native.Connection | None:
    try:
        return database(stack["postgres"]["admin"])
    except (pg8000.exceptions.InterfaceError, pg8000.native.DatabaseError):
        return None


def test_without_certificate_it_is_never_complete(
    api: Api, alice: Person, backstage: Backstage, erasures: Erasures
) -> None:
    job = backstage.queued(alice)
    backstage.step(job, "claim", "e")

    assert backstage.step(job, "finish", "e").status_code == 500
    assert erasures.state(job) == "running"


def test_failure_is_said_and_the_erasure_starts_anew(
    api: Api, alice: Person, backstage: Backstage, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice)
    for step in ("claim", "plan", "freeze"):
        backstage.step(job, step, "e")
    assert backstage.step(job, "failed", "e", reason="step_failed").status_code == 200

    shown = api.get(f"/v1/deletions/{job}/status", params={"receipt": backstage.receipt(job)}).json
    assert (shown["status"], shown["error"], shown["certificate"]) == ("failed", "step_failed", None)

    admin.run("UPDATE platform.jobs SET finished_at = now() - interval '2 hours' WHERE id = :id", id=job)
    assert backstage.call("retention", "scheduler", "/internal/jobs/requeue").json["failed_deletions"] >= 1
    admin.run("UPDATE platform.outbox SET created_at = now() - interval '1 minute' WHERE reference = :id", id=job)
    assert backstage.call("retention", "scheduler", "/internal/outbox/drain").json["sent"] >= 1
    assert erasures.ended(job)["scan"]["hits"] == 0


def test_an_export_that_runs_is_cancelled(
    api: Api, alice: Person, backstage: Backstage, erasures: Erasures, admin: pg8000.native.Connection
) -> None:
    with_export = api.post("/v1/exports", json={"scope": "me", "format": "json"}, headers=alice)
    assert with_export.status_code == 202

    certificate = erasures.erase(alice)

    export_id = with_export.json["id"]
    assert admin.run("SELECT count(*) FROM platform.exports WHERE id = :id", id=export_id) == [[0]]
    assert admin.run("SELECT count(*) FROM platform.jobs WHERE id = :id", id=export_id) == [[0]]
    assert figures(certificate)["platform.exports/delete"] == 1
