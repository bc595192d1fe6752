"""Jobs that get no further: the operator sees them, and starts one anew with the hands of Cloud Scheduler's job."""

import uuid

import pytest

from tests.conftest import wait_until
from tests.deletions.conftest import Backstage as Erasing
from tests.exports.conftest import Backstage as Exporting

WHY = ("--reason", "ticket 4711")


@pytest.fixture
def exporting(stack, api, admin):
    return Exporting(stack, api, admin)


@pytest.fixture
def erasing(stack, api, admin):
    return Erasing(stack, api, admin)


@pytest.fixture
def failed(exporting, admin):
    """An export of a person that has failed, and whose files are gone."""

    def make(person):
        job = exporting.queued(person)
        assert exporting.step(job, "claim", "first").status_code == 200
        assert exporting.step(job, "plan", "first").status_code == 200
        assert exporting.step(job, "failed", "first", reason="step_failed").json == {"state": "failed"}
        return job

    return make


def status(admin, job):
    return admin.run("SELECT status FROM platform.jobs WHERE id = :id", id=job)[0][0]


def line_of(answer, job):
    return next((line for line in answer["jobs"] if line["id"] == job), None)


def test_a_failed_export_is_started_anew_and_ends_ready(admin, alice, asked, told, failed, exports, drain):
    job = failed(alice)
    listed = asked("jobs", "--limit", "1000", "--operator", "staff-7")
    line = line_of(listed, job)
    assert (line["kind"], line["state"], line["error"], line["next_try"]) == ("export", "failed", "step_failed", None)
    assert told.one(listed["request_id"]) == (
        "job.read",
        "success",
        None,
        {"jobs": len(listed["jobs"]), "operator": "staff-7"},
    )
    assert alice.email not in str(listed)
    assert alice.name not in str(listed)

    answer = asked("replay", job, *WHY, "--operator", "staff-7")

    assert (answer["outcome"], answer["kind"], answer["was"]) == ("queued", "export", "failed")
    data = {"kind": "export", "status": "failed", "reason": "ticket 4711", "operator": "staff-7"}
    assert told.one(answer["request_id"]) == ("job.replayed", "success", job, data)
    admin.run("UPDATE platform.outbox SET created_at = now() - interval '1 minute' WHERE reference = :id", id=job)
    drain()
    assert exports.ended(alice, job)["status"] == "ready"
    assert exports.download(alice, job).archive.testzip() is None
    assert exports.state(alice, job)["error"] is None
    wait_until(lambda: status(admin, job) == "done", 20, "the end of the job")
    again = asked("replay", job, *WHY)
    assert (again["exit_code"], again["outcome"]) == (1, "finished")
    assert told.one(again["request_id"])[:2] == ("job.replayed", "denied")


def test_what_runs_is_left_alone_until_it_is_silent(admin, alice, asked, told, exporting):
    job = exporting.queued(alice)
    assert exporting.step(job, "claim", "dead").status_code == 200
    assert asked("replay", job, *WHY)["outcome"] == "running"
    assert line_of(asked("jobs", "--limit", "1000"), job) is None
    assert line_of(asked("jobs", "--limit", "1000", "--all"), job)["state"] == "running"
    admin.run("UPDATE platform.jobs SET heartbeat_at = now() - interval '16 minutes' WHERE id = :id", id=job)
    assert line_of(asked("jobs", "--limit", "1000"), job)["state"] == "silent"

    assert asked("replay", job, *WHY)["outcome"] == "queued"

    assert (status(admin, job), exporting.step(job, "plan", "dead").status_code) == ("queued", 409)
    waiting = "SELECT count(*) FROM platform.outbox WHERE reference = :id AND name = 'gdpr_export' AND sent_at IS NULL"
    assert admin.run(waiting, id=job) == [[1]]
    again = asked("replay", job, *WHY)
    assert (again["exit_code"], again["outcome"]) == (1, "starting")
    assert told.one(again["request_id"])[:2] == ("job.replayed", "denied")
    assert admin.run(waiting, id=job) == [[1]], "one that starts is not started twice"


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ("UPDATE platform.exports SET removed_at = NULL WHERE id = :job", "settling"),
        ("UPDATE app.members SET role = 'viewer' WHERE user_id = :person", "forbidden"),
        ("UPDATE identity.accounts SET status = 'frozen' WHERE id = :person", "forbidden"),
        (
            "WITH j AS (INSERT INTO platform.jobs (id, kind) VALUES (gen_random_uuid(), 'export') RETURNING id)"
            " INSERT INTO platform.exports (id, requested_by, subject_account_id, organization_id, scope, format)"
            " SELECT j.id, e.requested_by, e.subject_account_id, e.organization_id, e.scope, 'json'"
            " FROM j, platform.exports e WHERE e.id = :job",
            "superseded",
        ),
    ],
)
def test_a_failed_export_that_may_not_begin_again(admin, people, alice, asked, failed, change, outcome):
    dan = people.create("admin", alice.tenant_id)
    job = failed(dan)
    admin.run("UPDATE platform.exports SET scope = 'user' WHERE id = :job", job=job)
    given = {name: value for name, value in (("job", job), ("person", dan.user_id)) if f":{name}" in change}
    admin.run(change, **given)

    answer = asked("replay", job, *WHY)

    assert (answer["exit_code"], answer["outcome"]) == (1, outcome)
    assert status(admin, job) == "failed"


def test_erasures(admin, alice, dan, asked, told, erasing):
    """One that failed with the person locked out goes on; one that waits, or has touched nothing, does not."""
    job = erasing.queued(dan, "user")
    for step in ("claim", "plan", "freeze"):
        assert erasing.step(job, step, "first").status_code == 200
    assert erasing.step(job, "failed", "first", reason="step_failed").status_code == 200
    line = line_of(asked("jobs", "--limit", "1000"), job)
    assert (line["state"], line["organization"], line["error"]) == ("failed", alice.tenant_id, "step_failed")
    assert line["next_try"]

    answer = asked("replay", job, *WHY)

    assert (answer["outcome"], status(admin, job)) == ("queued", "queued")
    assert told.of(answer["request_id"], alice.tenant_id)[0]["action"] == "job.replayed"
    assert erasing.step(job, "claim", "second").status_code == 200
    admin.run("UPDATE platform.deletions SET execute_after = now() + interval '1 day' WHERE job_id = :id", id=job)
    assert asked("replay", job, *WHY)["outcome"] == "waits"
    admin.run("UPDATE platform.jobs SET status = 'failed', finished_at = now() WHERE id = :id", id=job)
    admin.run(
        "UPDATE platform.deletions SET execute_after = now(), frozen_at = NULL, finished_at = now() WHERE job_id = :id",
        id=job,
    )
    assert asked("replay", job, *WHY)["outcome"] == "untouched"


def test_what_is_not_there(asked, told):
    nothing = str(uuid.uuid4())
    answer = asked("replay", nothing, *WHY)
    assert (answer["exit_code"], answer["outcome"]) == (1, "unknown")
    assert told.one(answer["request_id"])[1:3] == ("denied", nothing)


def message(admin, kind="mail", name="verify_email", **columns):
    """A message that nobody has sent, a minute old."""
    id = str(uuid.uuid4())
    given = {"not_before": "now()", "sent_at": "NULL", "delivered_at": "NULL", "claimed_until": "NULL", **columns}
    admin.run(
        f"INSERT INTO platform.outbox (id, kind, name, reference, task_name, created_at, {', '.join(given)})"
        " VALUES (:id, :kind, :name, gen_random_uuid(), replace(gen_random_uuid()::text, '-', ''),"
        " now() - interval '2 minutes',"
        f" {', '.join(given.values())})",
        id=id,
        kind=kind,
        name=name,
    )
    return id


def test_messages_that_wait(admin, asked, told, drain):
    leased = message(admin)
    admin.run("UPDATE platform.outbox SET leased_until = now() + interval '1 hour' WHERE id = :id", id=leased)
    lost = message(admin, sent_at="now() - interval '1 hour'")
    listed = {line["id"]: line["state"] for line in asked("messages", "--limit", "1000")["messages"]}
    assert (listed[leased], listed[lost]) == ("waiting", "undelivered")
    answer = asked("send", leased, *WHY)
    assert answer["outcome"] == "queued"
    data = {"reason": "ticket 4711", "kind": "mail", "purpose": "verify_email"}
    assert told.one(answer["request_id"]) == ("message.sent_again", "success", leased, data)
    task = "SELECT task_name FROM platform.outbox WHERE id = :id"
    before = admin.run(task, id=lost)
    assert asked("send", lost, *WHY)["outcome"] == "queued"
    assert admin.run(task, id=lost) != before  # Cloud Tasks remembers names for an hour

    drain()

    for id in (leased, lost):  # of nobody: delivered without a mail
        wait_until(
            lambda id=id: admin.run("SELECT delivered_at FROM platform.outbox WHERE id = :id", id=id)[0][0], 20, id
        )


@pytest.mark.parametrize(
    ("columns", "outcome"),
    [
        ({"sent_at": "now()", "delivered_at": "now()"}, "delivered"),
        ({"claimed_until": "now() + interval '1 minute'", "sent_at": "now()"}, "busy"),
        ({"not_before": "now() + interval '1 day'"}, "waits"),
        ({"kind": "workflow", "name": "gdpr_export", "sent_at": "now()"}, "started"),
    ],
)
def test_messages_that_need_nothing(admin, asked, columns, outcome):
    id = message(admin, **columns)
    before = admin.run("SELECT to_json(o)::text FROM platform.outbox o WHERE id = :id", id=id)

    answer = asked("send", id, *WHY)

    assert (answer["exit_code"], answer["outcome"]) == (1, outcome)
    assert admin.run("SELECT to_json(o)::text FROM platform.outbox o WHERE id = :id", id=id) == before
    admin.run("DELETE FROM platform.outbox WHERE id = :id", id=id)
