"""A replica dies, all of them are replaced, the database goes and comes back: a session loses and repeats no event.

Two people write and six watch all the while, half of them by server-sent events, half by WebSocket.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.layout import replicas
from tests.conftest import wait_until
from tests.e2e.jobs import BACK_SECONDS, Stage
from tests.e2e.watching import Crowd

ESTABLISHED = "01"


@pytest.fixture
def crowd(stage: Stage) -> Iterator[Crowd]:
    with Crowd(stage.api, stage.person("owner")) as crowd:
        yield crowd


def in_use(stage: Stage, replica: str) -> bool:
    """Whether the gateway sends it requests: it has a connection besides the one for health checks (proc(5), Linux)."""
    here = f":{stage.layout.ports[replica]:04X}"
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(line[1].endswith(here) and line[3] == ESTABLISHED for line in lines) > 1


def test_kill_9_in_the_middle(stage: Stage, crowd: Crowd) -> None:
    for replica in replicas():
        stage.kill(replica)
        crowd.settle()
    crowd.end()

    crowd.check()
    assert all(watcher.connections > 1 for watcher in crowd.watchers)
    assert {end for watcher in crowd.watchers for end in watcher.ends} <= {"lost", "503"}


def test_a_rolling_restart(stage: Stage, crowd: Crowd) -> None:
    for replica in replicas():
        stage.kill(replica, signal.SIGTERM)
        wait_until(lambda: in_use(stage, replica), BACK_SECONDS, f"a request for {replica}")  # noqa: B023 - called here
        crowd.settle()
    crowd.end()

    crowd.check()
    assert all(watcher.connections > 1 for watcher in crowd.watchers)
    assert [(each.kind, each.ends) for each in crowd.watchers if set(each.ends) != {"draining"}] == []
    assert sum(writer.refused for writer in crowd.writers) == 0


def test_the_database_goes_and_comes_back(stage: Stage, crowd: Crowd) -> None:
    stage.kill("postgres")
    crowd.settle()
    crowd.end()

    crowd.check()
    assert [watcher.connections for watcher in crowd.watchers] == [1] * len(crowd.watchers)
    assert sum(writer.refused for writer in crowd.writers) > 0
