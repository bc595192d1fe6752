"""A replica dies, all of them are replaced, the database goes and comes back: a session loses and repeats no event.

Two people write and six watch all the while, half of them by server-sent events, half by WebSocket.
"""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from local.layout import replicas
from tests.conftest import running_stack, wait_until
from tests.e2e.conftest import SETTINGS
from tests.e2e.jobs import BACK_SECONDS, Stage
from tests.e2e.watching import Crowd

APPENDED = b'"POST /v1/sessions/<uuid:session_id>/events"'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The gateway has time to learn of a replica's end, however busy the machine is."""
    with running_stack(tmp_path_factory.mktemp("stack"), **SETTINGS, DRAIN_SECONDS="2") as running:
        yield running


@pytest.fixture
def crowd(stage: Stage) -> Iterator[Crowd]:
    with Crowd(stage.api, stage.person("owner")) as crowd:
        yield crowd


def restarted(stage: Stage, replica: str) -> None:
    """End a replica in good order; return when the gateway sends its successor requests."""
    stage.kill(replica, signal.SIGTERM)
    log = stage.layout.path("log", f"{replica}.log")
    before = log.stat().st_size
    wait_until(lambda: APPENDED in log.read_bytes()[before:], BACK_SECONDS, f"an append at {replica}")


def test_kill_9_in_the_middle(stage: Stage, crowd: Crowd) -> None:
    for replica in replicas():
        stage.kill(replica)
        crowd.settle()
    crowd.end()

    crowd.check()
    assert all(watcher.connections > 1 for watcher in crowd.watchers)
    assert {end for watcher in crowd.watchers for end in watcher.ends} <= {"lost", "503"}


def test_a_rolling_restart(stage: Stage) -> None:
    """Two more people speak by WebSocket."""
    with Crowd(stage.api, stage.person("owner"), speakers=2) as crowd:
        for replica in replicas():
            restarted(stage, replica)
            crowd.settle()
        crowd.end()

    crowd.check()
    assert all(watcher.connections > 1 for watcher in crowd.watchers)
    assert {end for watcher in crowd.watchers for end in watcher.ends} == {"draining"}
    assert [set(speaker.ends) for speaker in crowd.speakers] == [{"draining"}] * 2
    assert sum(writer.refused for writer in crowd.writers) == 0


def test_the_database_goes_and_comes_back(stage: Stage, crowd: Crowd) -> None:
    stage.kill("postgres")
    crowd.settle()
    crowd.end()

    crowd.check()
    assert [watcher.connections for watcher in crowd.watchers] == [1] * len(crowd.watchers)
    assert sum(writer.refused for writer in crowd.writers) > 0
