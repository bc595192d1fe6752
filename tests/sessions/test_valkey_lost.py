"""What people see of a Valkey that is killed, held or flushed under their streams: every event, once and in order."""

import os
import signal

import pytest

from tests.common.test_limits import pids
from tests.conftest import pid_of, wait_until
from tests.sessions.replicas import Replica


@pytest.fixture
def watchers(stack, room, alice):
    """A stream at each replica."""
    streams = [Replica(stack, name).sse(f"{room.path}/stream", alice) for name in ("sessions-1", "sessions-2")]
    yield streams
    for each in streams:
        each.close()


def everybody_sees(watchers, first, last):
    for watcher in watchers:
        assert [event["seq"] for event in watcher.take(last - first + 1)] == list(range(first, last + 1))


def test_killed(stack, room, watchers):
    assert room.say(1, 2, 3) == 1
    everybody_sees(watchers, 1, 3)
    dead = pid_of(stack, "valkey")
    os.kill(dead, signal.SIGKILL)
    for each in range(4, 9):
        assert room.say(each) == each
    everybody_sees(watchers, 4, 8)
    wait_until(lambda: pids(stack).get("valkey", dead) != dead, 20, "a new Valkey")
    for each in range(9, 12):
        assert room.say(each) == each
    everybody_sees(watchers, 9, 11)


def test_held(stack, room, watchers):
    assert room.say(1) == 1
    everybody_sees(watchers, 1, 1)
    pid = pid_of(stack, "valkey")
    os.kill(pid, signal.SIGSTOP)
    try:
        for each in range(2, 9):
            assert room.say(each) == each
        everybody_sees(watchers, 2, 8)
        with room.stream(query="?after=0") as late:
            assert [event["seq"] for event in late.take(8)] == list(range(1, 9))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert room.say(9) == 9
    everybody_sees(watchers, 9, 9)


def test_flushed(room, watchers, cache):
    assert room.say(1) == 1
    cache.flushall()
    cache.script_flush()
    assert room.say(2) == 2
    everybody_sees(watchers, 1, 2)


@pytest.fixture
def dumb(cache):
    """Nobody may tell anything, and whoever listens does not notice."""
    cache.execute_command("ACL", "SETUSER", "default", "-publish")
    yield
    cache.execute_command("ACL", "SETUSER", "default", "+publish")


def test_told_to_nobody(room, watchers, dumb):
    """Messages that are lost while all is well: the watcher finds what no later message reveals."""
    assert room.say(1) == 1
    everybody_sees(watchers, 1, 1)
    room.close()
    for watcher in watchers:
        assert [event.json["code"] for event in watcher.rest()] == ["session_closed"]
