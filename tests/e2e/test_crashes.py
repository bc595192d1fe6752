"""Kill -9 of every process in the middle of an export and an erasure; every message twice: the same end, nothing lost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.cloud import tasks_v2

from local.layout import PROJECT, REGION
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
        ("exports-jobs", "export mail"),
        ("deletions-jobs", "erasure begins"),
        ("deletions-jobs", "rows"),
        ("deletions-jobs", "account"),
        ("deletions-jobs", "certificate"),
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
        ("gateway", "parts"),
        ("metadata", "parts"),
        ("secrets", "rows"),
        ("mail", "package"),
        ("exports", "export begins"),
        ("deletions", "erasure begins"),
        ("auth", "rows"),
        ("retention", "rows"),
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
