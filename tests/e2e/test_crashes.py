"""Kill -9 of every process in the middle of exports and erasures: each still comes to its one right end."""

import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import pytest
import requests

from local.demo.client import VERIFICATION
from tests.conftest import Person, wait_until
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
    case = begin(stage)
    job = case.export if point in EXPORT_POINTS else case.erasure
    wait_until(lambda: stage.run(POINTS[point], job=job), BACK_SECONDS, point)

    seconds = stage.kill(victim)

    assert seconds < BACK_SECONDS
    check_export(stage, case.exporter, case.export, case.typed, mails=2)
    check_erasure(stage, case.leaver, case.erasure, mails=2)


@dataclass
class Case:
    """Two people and their jobs, and the addresses whose registration was accepted around a kill."""

    exporter: Person
    leaver: Person
    typed: dict[str, tuple[str, str]]
    export: str
    erasure: str
    registered: list[str]


def begin(stage: Stage) -> Case:
    """A new case, whose jobs run."""
    exporter, leaver = stage.settled(), stage.settled()
    typed = stage.typed(exporter)
    return Case(exporter, leaver, typed, stage.ask("exports", exporter), stage.ask("deletions", leaver), [])


def register(stage: Stage, case: Case) -> None:
    """Register once more; what is not accepted is not promised."""
    address = f"{uuid.uuid4().hex}@example.org"
    wanted = {"email": address, "password": uuid.uuid4().hex, "display_name": "N", "organization_name": "O"}
    with suppress(requests.ConnectionError):
        if stage.api.post("/v1/auth/register", json=wanted).status_code == 202:
            case.registered.append(address)


def test_killed_while_mails_are_sent(stage: Stage) -> None:
    """A mail that was claimed by a process which died waits for half a minute, so all of them wait together."""
    cases = []
    for victim, point in (
        ("exports-jobs", "export mail"),
        ("metadata", "parts"),
        ("mail", "package"),
        ("deletions-jobs", "account"),
        ("deletions-jobs", "certificate"),
        ("auth", "parts"),
        ("tasks", "rows"),
        ("postgres", "package"),
    ):
        case = begin(stage)
        cases.append(case)
        register(stage, case)
        job = case.export if point in EXPORT_POINTS else case.erasure
        wait_until(partial(stage.run, POINTS[point], job=job), BACK_SECONDS, point)
        register(stage, case)
        assert stage.kill(victim) < BACK_SECONDS
        assert len(case.registered) == 2
        register(stage, case)

    for case in cases:
        check_export(stage, case.exporter, case.export, case.typed, mails=2)
        check_erasure(stage, case.leaver, case.erasure, mails=2)
        for address in case.registered:
            wait_until(partial(mailed, stage, address), 60, f"a mail to {address}")
            assert mailed(stage, address) <= 2


def mailed(stage: Stage, address: str) -> int:
    """How many verification mails have arrived; what a kill left in the outbox is sent on."""
    found = sum(len(VERIFICATION.findall(mail["text"])) for mail in stage.inbox.messages(address))
    if not found:
        stage.drain()
    return found
