"""The drainer sends what no request has sent; stuck jobs start anew."""

import pg8000.native

from tests.conftest import Api, Inbox, Person, wait_until
from tests.deletions.conftest import Backstage

DRAIN = "/internal/outbox/drain"


def test_a_message_that_was_left_is_sent(
    alice: Person, backstage: Backstage, inbox: Inbox, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice)
    admin.run(
        "INSERT INTO platform.outbox (id, kind, name, reference, task_name, created_at)"
        " VALUES (gen_random_uuid(), 'workflow', 'gdpr_erasure', :job, replace(gen_random_uuid()::text, '-', ''),"
        " now() - interval '1 minute')",
        job=job,
    )

    assert backstage.call("retention", "scheduler", DRAIN).json["sent"] >= 1

    inbox.wait_for(alice.email, "erased")
    message = (
        "SELECT sent_at IS NOT NULL, to_jsonb(o) FROM platform.outbox o WHERE reference = :job AND kind = 'workflow'"
        " ORDER BY created_at LIMIT 1"  # its parts wake it with messages of their own
    )
    sent = admin.run(message, job=job)
    assert sent[0][0] is True
    backstage.call("retention", "scheduler", DRAIN)
    assert admin.run(message, job=job) == sent, "it was taken up again"


def test_a_silent_job_starts_anew(
    api: Api, alice: Person, backstage: Backstage, admin: pg8000.native.Connection
) -> None:
    job = backstage.queued(alice)
    for step in ("claim", "plan", "freeze", "revoke"):
        backstage.step(job, step, "dead")
    state = "SELECT status, execution_id FROM platform.jobs WHERE id = :job"
    backstage.call("retention", "scheduler", "/internal/jobs/requeue")
    assert admin.run(state, job=job) == [["running", "dead"]]
    admin.run("UPDATE platform.jobs SET heartbeat_at = now() - interval '16 minutes' WHERE id = :job", job=job)

    assert backstage.call("retention", "scheduler", "/internal/jobs/requeue").status_code == 200
    assert admin.run(state, job=job) == [["queued", None]]
    shown = api.get(f"/v1/deletions/{job}/status", params={"receipt": backstage.receipt(job)}).json
    assert shown["status"] == "running"
    assert backstage.step(job, "organizations", "dead").status_code == 409
    admin.run("UPDATE platform.outbox SET created_at = now() - interval '1 minute' WHERE reference = :job", job=job)
    backstage.call("retention", "scheduler", DRAIN)

    wait_until(
        lambda: admin.run("SELECT status FROM platform.jobs WHERE id = :job", job=job) == [["done"]], 60, "the erasure"
    )
