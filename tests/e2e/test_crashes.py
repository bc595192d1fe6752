"""Kill -9 of every process in the middle of exports and erasures: each still comes to its one right end."""

import uuid
from functools import partial

import pytest
import requests

from local.demo.client import VERIFICATION
from tests.conftest import wait_until
from tests.e2e.jobs import BACK_SECONDS, Stage, check_erasure, check_export

POINTS = {  # when a job has come so far; the job's id is bound
    "export begins": "SELECT FROM platform.exports WHERE id = :job AND status <> 'queued'",
    "parts": "SELECT FROM platform.exports WHERE id = :job AND progress_done > 3",
    "package": "SELECT FROM platform.exports WHERE id = :job AND progress_done + 1 >= progress_total"
    " AND progress_total > 0",
    "export mail": "SELECT FROM platform.exports WHERE id = :job AND mail_claimed_until IS NOT NULL",
    "erasure begins": "SELECT FROM platform.jobs WHERE id = :job AND status <> 'queued'",
    "rows": "SELECT FROM platform.deletion_steps WHERE job_id = :job AND name = 'organizations' AND rows > 0",
    "account": "SELECT FROM platform.deletion_steps WHERE job_id = :job AND name = 'account' AND status <> 'pending'",
    "certificate": "SELECT FROM platform.deletions WHERE job_id = :job AND certificate IS NOT NULL",
}
EXPORT_POINTS = ("export begins", "parts", "package", "export mail")


@pytest.mark.parametrize(
    ("victim", "point"),
    [
        ("exports-jobs", "export begins"),
        ("exports-jobs", "parts"),
        ("exports-jobs", "package"),
        ("deletions-jobs", "erasure begins"),
        ("deletions-jobs", "rows"),
        ("deletions-jobs", "account"),
        ("workflows", "parts"),
        ("workflows", "package"),
        ("workflows", "rows"),
        ("workflows", "certificate"),
        ("tasks", "export begins"),
        ("tasks", "rows"),
        ("storage", "parts"),
        ("storage", "package"),
        ("storage", "account"),
        ("postgres", "parts"),
        ("postgres", "rows"),
        ("postgres", "account"),
        ("gateway", "package"),
        ("secrets", "rows"),
        ("exports", "export begins"),
        ("deletions", "erasure begins"),
        ("auth", "rows"),
        ("retention", "parts"),
        ("scheduler", "rows"),
    ],
)
def test_killed_at(stage: Stage, victim: str, point: str) -> None:
    exporter, leaver = stage.settled(), stage.settled()
    typed = stage.typed(exporter)
    export, erasure = stage.ask("exports", exporter), stage.ask("deletions", leaver)
    job = export if point in EXPORT_POINTS else erasure
    wait_until(lambda: stage.run(POINTS[point], job=job), BACK_SECONDS, point)

    seconds = stage.kill(victim)

    assert seconds < BACK_SECONDS
    check_export(stage, exporter, export, typed, mails=2)
    check_erasure(stage, leaver, erasure, mails=2)


def test_killed_while_the_last_mails_are_sent(stage: Stage) -> None:
    """A mail that was claimed by a process which died waits for half a minute: the four of them together."""
    begun = []
    for victim, point in (
        ("exports-jobs", "export mail"),
        ("metadata", "parts"),
        ("mail", "package"),
        ("deletions-jobs", "certificate"),
    ):
        exporter, leaver = stage.settled(), stage.settled()
        typed = stage.typed(exporter)
        export, erasure = stage.ask("exports", exporter), stage.ask("deletions", leaver)
        begun.append((exporter, typed, export, leaver, erasure))
        job = export if point in EXPORT_POINTS else erasure
        wait_until(partial(stage.run, POINTS[point], job=job), BACK_SECONDS, point)
        assert stage.kill(victim) < BACK_SECONDS

    for exporter, typed, export, leaver, erasure in begun:
        check_export(stage, exporter, export, typed, mails=2)
        check_erasure(stage, leaver, erasure, mails=2)


@pytest.mark.parametrize("victim", ["auth", "tasks", "mail", "postgres"])
def test_no_registration_mail_is_lost(stage: Stage, victim: str) -> None:
    addresses = [f"{uuid.uuid4().hex}@example.org" for _ in range(4)]
    accepted = []
    for number, address in enumerate(addresses):
        wanted = {"email": address, "password": uuid.uuid4().hex, "display_name": "N", "organization_name": "O"}
        try:
            if stage.api.post("/v1/auth/register", json=wanted).status_code == 202:
                accepted.append(address)
        except requests.ConnectionError:
            continue
        if number == 1:
            stage.kill(victim)

    assert addresses[:2] == accepted[:2]
    for address in accepted:
        wait_until(partial(_mailed, stage, address), 60, f"a mail to {address}")
    assert all(_mailed(stage, address) <= 2 for address in accepted)


def _mailed(stage: Stage, address: str) -> int:
    """How many verification mails have arrived; what the kill left in the outbox is sent on."""
    found = sum(len(VERIFICATION.findall(mail["text"])) for mail in stage.inbox.messages(address))
    if not found:
        stage.drain()
    return found
