"""Whatever is killed and whatever is delivered twice: the same package, one mail."""

import os
import signal
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.conftest import database, pid_of, wait_until


def content(package):
    """Everything in a package that does not name the moment or the request."""
    return {
        name: package.archive.read(name)
        for name in package.archive.namelist()
        if name
        not in ("manifest.json", "index.html", "data/exports.json", "data/audit_events.json", "data/outbox.json")
    }


def finished_parts(admin, export_id):
    """The finished parts and their objects. An object's name is used once: the same name means not redone."""
    sql = (
        "SELECT name, object_name, sha256, row_count FROM platform.export_parts WHERE job_id = :id AND status = 'done'"
    )
    return {name: facts for name, *facts in admin.run(sql, id=export_id)}


@pytest.mark.parametrize("service", ["exports-jobs", "workflows", "storage"])
def test_a_killed_process_changes_nothing(
    service, stack, api, admin, alice, exports, backstage, standing_still, in_the_middle, inbox
):
    project = api.post("/v1/projects", json={"name": "Atlas"}, headers=alice).json["id"]
    api.post(f"/v1/projects/{project}/tasks", json={"title": "a task"}, headers=alice)
    undisturbed = content(exports.package(alice))
    inbox.wait_for(alice.email)
    with standing_still():
        export_id = exports.request(alice)
        in_the_middle(alice, export_id)
        os.kill(pid_of(stack, service), signal.SIGKILL)
        done = finished_parts(admin, export_id)

    assert exports.ended(alice, export_id, 60)["status"] == "ready"
    assert done
    assert done.items() <= finished_parts(admin, export_id).items()
    assert content(exports.download(alice, export_id)) == undisturbed
    wait_until(lambda: len(inbox.messages(alice.email)) == 2, 20, "the second mail")
    wait_until(lambda: [name for name in backstage.objects(export_id) if "/parts/" in name] == [], 20, "a clean end")


@contextmanager
def unable_to_finish(stack, person):
    """Nobody can append to the audit chain of the organization: a package is stored, but does not come to count."""
    with database(stack["postgres"]["admin"]) as connection:
        connection.run("BEGIN")
        connection.run("SELECT FROM app.audit_heads WHERE tenant_id = :tenant FOR UPDATE", tenant=person.tenant_id)
        yield
        connection.run("ROLLBACK")


def test_a_process_killed_in_assembly_redoes_no_part(stack, api, admin, alice, exports, backstage, inbox):
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    undisturbed = content(exports.package(alice))
    export_id = exports.request(alice)
    with unable_to_finish(stack, alice):
        wait_until(lambda: [name for name in backstage.objects(export_id) if "/package/" in name], 30, "a package")
        done, stored = finished_parts(admin, export_id), backstage.generations(export_id)
        os.kill(pid_of(stack, "exports-jobs"), signal.SIGKILL)

    state = exports.ended(alice, export_id, 60)
    assert (state["status"], state["sha256"]) == ("ready", exports.download(alice, export_id).sha256)
    assert finished_parts(admin, export_id) == done
    assert content(exports.download(alice, export_id)) == undisturbed
    wait_until(lambda: len(backstage.objects(export_id)) == 1, 20, "a clean end")
    parts = {name for name, *_ in done.values() if name}
    assert parts <= stored.keys()
    assert [name for name in backstage.objects(export_id) if name in parts] == []


def test_every_step_twice(api, alice, exports, backstage, inbox):
    api.post("/v1/projects", json={"name": "Atlas"}, headers=alice)
    once, twice = backstage.queued(alice), None
    backstage.run(once, "once")
    twice = backstage.queued(alice)
    backstage.run(twice, "twice", times=2)

    assert content(exports.download(alice, once)) == content(exports.download(alice, twice))
    assert len(backstage.objects(twice)) == 1
    state = exports.state(alice, twice)
    assert state["progress"]["done"] == state["progress"]["total"]
    assert len(inbox.messages(alice.email)) == 2


def test_a_second_execution_ends_at_once(alice, exports, backstage, inbox):
    job = backstage.queued(alice)
    executions = [backstage.execute(job) for _ in range(3)]
    outcomes = sorted(backstage.outcome(execution)["result"] for execution in executions)

    assert outcomes == ['"done"', '"lost"', '"lost"']
    assert exports.state(alice, job)["status"] == "ready"
    sha256 = exports.state(alice, job)["sha256"]
    assert backstage.outcome(backstage.execute(job))["result"] == '"lost"'
    assert exports.state(alice, job)["sha256"] == sha256 == exports.download(alice, job).sha256
    assert len(inbox.messages(alice.email)) == 1


def test_a_job_that_fell_silent_goes_on_in_another_execution(admin, alice, exports, backstage):
    job = backstage.queued(alice)
    backstage.step(job, "claim", "first")
    parts = backstage.step(job, "plan", "first").json["parts"]
    assert backstage.step(job, f"parts/{parts[0]}", "first").status_code == 200
    admin.run("UPDATE platform.jobs SET status = 'queued', execution_id = NULL WHERE id = :job", job=job)

    assert backstage.step(job, "claim", "second").status_code == 200
    assert backstage.step(job, f"parts/{parts[1]}", "first").status_code == 409
    assert backstage.step(job, "plan", "second").json["parts"] == parts[1:]
    for part in parts[1:]:
        backstage.step(job, f"parts/{part}", "second")
    assert backstage.step(job, "assemble", "second").status_code == 200
    assert exports.state(alice, job)["status"] == "ready"
    assert backstage.step(job, "finish", "first").status_code == 409
    assert backstage.step(job, "finish", "second").status_code == 200


def test_the_slower_of_two_uploads_leaves_nothing(admin, alice, backstage, standing_still_at):
    """Two tables of one call, with rows both: what was uploaded of them goes."""
    job = backstage.queued(alice)
    backstage.step(job, "claim", "first")
    backstage.step(job, "plan", "first")
    with ThreadPoolExecutor() as pool:
        with standing_still_at("identity.login_sessions"):
            slower = pool.submit(backstage.step, job, "parts/accounts,login_sessions", "first")
            waiting = (
                "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%login_sessions%'"
            )
            wait_until(lambda: admin.run(waiting), 10, "the COPY")
            assert len(backstage.objects(job)) == 1
            admin.run(
                "UPDATE platform.export_parts SET status = 'done', row_count = 0, bytes = 0, object_name = 'faster'"
                " WHERE job_id = :job AND name IN ('accounts', 'login_sessions')",
                job=job,
            )
        assert slower.result().status_code == 200

    assert backstage.objects(job) == []
    assert admin.run("SELECT progress_done FROM platform.exports WHERE id = :job", job=job) == [[0]]


def test_a_job_whose_request_has_gone_stops(admin, alice, backstage):
    job = backstage.queued(alice)
    backstage.step(job, "claim", "first")
    admin.run("SET session_replication_role = replica")  # else the job goes with it
    admin.run("DELETE FROM platform.exports WHERE id = :job", job=job)
    admin.run("SET session_replication_role = origin")
    assert admin.run("SELECT status FROM platform.jobs WHERE id = :job", job=job) == [["running"]]

    assert backstage.step(job, "plan", "first").status_code == 409


def test_no_package_without_all_parts(alice, exports, backstage):
    job = backstage.queued(alice)
    backstage.step(job, "claim", "first")
    backstage.step(job, "plan", "first")

    assert backstage.step(job, "assemble", "first").status_code == 409
    assert exports.state(alice, job)["status"] == "running"


def test_giving_up_leaves_a_reason_and_no_file(alice, exports, backstage):
    job = backstage.queued(alice)
    backstage.step(job, "claim", "first")
    backstage.step(job, "plan", "first")
    backstage.step(job, "parts/accounts", "first")
    assert len(backstage.objects(job)) == 1

    assert backstage.step(job, "failed", "another", reason="x").status_code == 409
    assert backstage.step(job, "failed", "first", reason="step_failed").json == {"state": "failed"}

    state = exports.state(alice, job)
    assert (state["status"], state["error"]) == ("failed", "step_failed")
    assert backstage.objects(job) == []
    assert exports.ended(alice, exports.request(alice))["status"] == "ready"


def test_steps_are_for_workflows_alone(alice, api, backstage):
    job = backstage.queued(alice)

    assert backstage.step(job, "claim", "first", account="scheduler").status_code == 403
    assert api.post(f"/internal/exports/{job}/claim", json={"execution": "first"}, headers=alice).status_code == 404


def test_an_unknown_job_is_nobodys(backstage):
    job = str(uuid.uuid4())

    for step in ("claim", "plan", "parts/accounts", "assemble", "notify", "finish", "failed"):
        assert backstage.step(job, step, "first").status_code == 409
