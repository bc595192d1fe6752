"""PostgreSQL killed and restarted under load: clean refusals, nothing written twice, nothing acknowledged and lost."""

import os
import signal
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from local.demo.client import VERIFICATION
from tests.conftest import Api, Person, pid_of, wait_until
from tests.e2e.jobs import BACK_SECONDS, Stage, check_erasure, check_export

WRITERS = 6
WARM, AFTER = 60, 60  # answers before the first end of PostgreSQL, and successes after the last


@dataclass
class Load:
    """What several clients were answered: statuses, and the titles whose creation was confirmed."""

    statuses: Counter[int] = field(default_factory=Counter)
    confirmed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)


def write(stack: dict[str, Any], person: Person, project: str, load: Load, stop: threading.Event) -> None:
    """Create tasks and read them until told to stop."""
    api = Api(stack["api"])
    while not stop.is_set():
        title = uuid.uuid4().hex
        created = api.post(f"/v1/projects/{project}/tasks", json={"title": title}, headers=person)
        listed = api.get(f"/v1/projects/{project}/tasks?limit=10", headers=person)
        (load.confirmed if created.status_code == 201 else load.refused).append(title)
        for answer in (created, listed):
            load.statuses[answer.status_code] += 1
            if answer.status_code not in {200, 201, 503}:
                load.odd.append(answer.text)


@contextmanager
def under_load(stage: Stage, person: Person) -> Any:
    """Writers at work inside the block; they go on until everything works again."""
    project = stage.api.post("/v1/projects", json={"name": "Load"}, headers=person).json["id"]
    load, stop = Load(), threading.Event()
    with ThreadPoolExecutor(WRITERS) as pool:
        running = [pool.submit(write, stage.stack, person, project, load, stop) for _ in range(WRITERS)]
        try:
            wait_until(lambda: load.statuses.total() > WARM, 60, "the load")
            yield load
            enough = len(load.confirmed) + AFTER
            wait_until(lambda: len(load.confirmed) > enough, 60, "successes after the restart")
        finally:
            stop.set()
        for each in running:
            each.result()


def end(stage: Stage, how: signal.Signals) -> None:
    """End PostgreSQL and wait for the next one: the postmaster is gone when its pid is another's."""
    old, began = pid_of(stage.stack, "postgres"), time.monotonic()
    os.kill(old, how)
    wait_until(lambda: pid_of_now(stage, old), BACK_SECONDS, "another PostgreSQL")
    stage.run("SELECT 1")
    assert time.monotonic() - began < BACK_SECONDS


def pid_of_now(stage: Stage, old: int) -> bool:
    try:
        return pid_of(stage.stack, "postgres") != old
    except KeyError:
        return False


@pytest.mark.parametrize("ends", [(signal.SIGKILL, signal.SIGKILL), (signal.SIGINT,), (signal.SIGQUIT,)], ids=str)
def test_requests_in_flight(stage: Stage, ends: tuple[signal.Signals, ...]) -> None:
    person = stage.settled()
    with under_load(stage, person) as load:
        for how in ends:
            end(stage, how)

    assert load.odd == []
    found = Counter(
        title for (title,) in stage.run("SELECT title FROM app.tasks WHERE tenant_id = :t", t=person.tenant_id)
    )
    assert all(found[title] == 1 for title in load.confirmed)
    assert all(found[title] <= 1 for title in load.refused)
    events = "SELECT count(*) FROM app.audit_events WHERE tenant_id = :t AND action = 'task.created'"
    written = sum(found[title] for title in (*load.confirmed, *load.refused))
    assert stage.run(events, t=person.tenant_id) == [[written]]
    assert stage.api.get("/v1/audit-events/verify", headers=person).json["valid"] is True


def test_jobs_and_mails_in_flight(stage: Stage) -> None:
    """Registrations, exports and erasures that were accepted while PostgreSQL came and went all come to their end."""
    exporters, leavers = [stage.settled() for _ in range(2)], [stage.settled() for _ in range(2)]
    typed = [stage.typed(person) for person in exporters]
    exports = [stage.ask("exports", person) for person in exporters]
    erasures = [stage.ask("deletions", person) for person in leavers]
    address = f"{uuid.uuid4().hex}@example.org"
    wanted = {"email": address, "password": uuid.uuid4().hex, "display_name": "N", "organization_name": "O"}
    assert stage.api.post("/v1/auth/register", json=wanted).status_code == 202
    end(stage, signal.SIGKILL)
    end(stage, signal.SIGINT)

    for person, job, texts in zip(exporters, exports, typed, strict=True):
        check_export(stage, person, job, texts, mails=2)
    for person, job in zip(leavers, erasures, strict=True):
        check_erasure(stage, person, job, mails=2)
    mails = wait_until(lambda: stage.inbox.messages(address), 60, "the verification mail")
    assert 1 <= sum(len(VERIFICATION.findall(mail["text"])) for mail in mails) <= 2


def test_a_flushed_cache_loses_nothing(stage: Stage) -> None:
    person = stage.settled()
    stage.kill("valkey")

    assert stage.api.get("/v1/projects", headers=person).status_code == 200
    wait_until(lambda: stage.api.get("/health/ready").status_code == 200, BACK_SECONDS, "readiness")
