"""Every message of an export and an erasure delivered twice, while they run and afterwards: nothing happens twice."""

import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from functions.deletions.plan import STEPS
from local.demo.client import VERIFICATION
from tests.conftest import Api, Person, wait_until
from tests.e2e.jobs import Stage, check_erasure, check_export

OVER = 409
FINE = {200, OVER, 503}  # done again, lost, or another is doing it right now
OUTBOX = "SELECT id::text FROM platform.outbox WHERE reference = :reference"
SEEN = "SELECT name FROM platform.deletion_steps WHERE job_id = :job AND status <> 'pending'"
PARTS = "SELECT name FROM platform.export_parts WHERE job_id = :job AND status = 'done'"
EXECUTION = "SELECT execution_id FROM platform.jobs WHERE id = :job AND execution_id IS NOT NULL"


def export_steps(stage: Stage, job: str) -> list[str]:
    """The steps that the workflow has called already, as far as the database tells."""
    steps = ["claim", "plan", *(f"parts/{name}" for (name,) in stage.run(PARTS, job=job))]
    shown = stage.run("SELECT status, mail_claimed_until IS NOT NULL FROM platform.exports WHERE id = :job", job=job)
    ready, mailing = shown[0][0] == "ready", shown[0][1]
    return steps + ["assemble"] * ready + ["notify"] * mailing


def erasure_steps(stage: Stage, job: str) -> list[str]:
    """The same of an erasure."""
    return ["claim", *(name for (name,) in stage.run(SEEN, job=job))]


@contextmanager
def echoed(stage: Stage, kind: str, job: str) -> Iterator[set[int]]:
    """Call every step that the workflow has called once more, at the same time, as the same execution; the answers."""
    steps = export_steps if kind == "exports" else erasure_steps
    statuses: set[int] = set()
    stop = threading.Event()

    def echo() -> None:
        mine = Stage(stage.stack, Api(stage.stack["api"]), stage.inbox)
        execution = wait_until(lambda: mine.run(EXECUTION, job=job), 20, "the claim")[0][0]
        done: set[str] = set()
        while not stop.is_set():
            for name in steps(mine, job):
                if name not in done:
                    statuses.add(mine.step(kind, job, name, execution).status_code)
                    done.add(name)
        mine.close()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(echo)
        try:
            yield statuses
            stage.over(job)
        finally:
            stop.set()
        running.result()


def deliver_again(stage: Stage, job: str, workflow: str) -> None:
    """The Cloud Task under another name, and the execution."""
    stage.queue_again(stage.run(OUTBOX, reference=job)[0][0])
    assert stage.execute(workflow, job).status_code == 200


def executions(stage: Stage, job: str) -> str:
    """The execution that has the job."""
    return str(wait_until(lambda: stage.run(EXECUTION, job=job), 20, "the claim")[0][0])


def test_an_export(stage: Stage) -> None:
    person = stage.settled()
    typed = stage.typed(person)
    job = stage.ask("exports", person)
    deliver_again(stage, job, "gdpr_export")
    execution = executions(stage, job)

    with echoed(stage, "exports", job) as statuses:
        deliver_again(stage, job, "gdpr_export")

    assert statuses
    assert statuses <= FINE
    check_export(stage, person, job, typed, mails=1)
    before = stage.objects(job)
    deliver_again(stage, job, "gdpr_export")
    for name in ("claim", "plan", "assemble", "notify", "finish"):
        for _ in range(2):
            assert stage.step("exports", job, name, execution).status_code in {200, OVER}
    assert stage.objects(job) == before
    check_export(stage, person, job, typed, mails=1)


def test_an_erasure(stage: Stage) -> None:
    person = stage.settled()
    job = stage.ask("deletions", person)
    deliver_again(stage, job, "gdpr_erasure")
    execution = executions(stage, job)

    with echoed(stage, "deletions", job) as statuses:
        assert stage.execute("gdpr_erasure", job).status_code == 200

    assert statuses
    assert statuses <= FINE
    check_erasure(stage, person, job, mails=1)
    assert stage.execute("gdpr_erasure", job).status_code == 200
    for name in ("claim", *STEPS, "finish"):
        for _ in range(2):
            assert stage.step("deletions", job, name, execution).status_code in {200, OVER}
    check_erasure(stage, person, job, mails=1)


def test_a_package_that_a_crash_left_is_deleted_at_the_end(stage: Stage) -> None:
    person = stage.settled()
    job, execution = export_of_ours(stage, person)
    assert stage.step("exports", job, "claim", execution).json == {"work": "export"}
    for part in stage.step("exports", job, "plan", execution).json["parts"]:
        assert stage.step("exports", job, f"parts/{part}", execution).status_code == 200
    stage.put(f"exports/{job}/package/left", b"PK")
    for name in ("assemble", "notify", "finish"):
        assert stage.step("exports", job, name, execution).status_code == 200

    check_export(stage, person, job, stage.typed(person), mails=1)


def export_of_ours(stage: Stage, person: Person) -> tuple[str, str]:
    """An export and the execution that has it, which is no workflow's: the task of its own comes too late."""
    execution = uuid.uuid4().hex
    with stage.paused("jobs"):
        job = stage.ask("exports", person)
        taken = "UPDATE platform.jobs SET status = 'running', execution_id = :execution WHERE id = :job"
        stage.run(taken, job=job, execution=execution)
    return job, execution


def test_a_mail(stage: Stage) -> None:
    address = f"{uuid.uuid4().hex}@example.org"
    wanted = {"email": address, "password": uuid.uuid4().hex, "display_name": "N", "organization_name": "O"}
    assert stage.api.post("/v1/auth/register", json=wanted).status_code == 202
    sql = "SELECT id::text FROM identity.registrations WHERE email = :address"
    registration = stage.run(sql, address=address)[0][0]
    mail = stage.run(OUTBOX, reference=registration)[0][0]
    for _ in range(3):
        stage.queue_again(mail)

    delivered = "SELECT FROM platform.outbox WHERE id = :mail AND delivered_at IS NOT NULL"
    wait_until(lambda: stage.run(delivered, mail=mail), 30, "the mail's delivery")
    stage.queue_again(mail)
    wait_until(lambda: stage.idle("mails"), 30, "the end of the tasks")
    links = [link for found in stage.inbox.messages(address) for link in VERIFICATION.findall(found["text"])]
    assert len(links) == 1
