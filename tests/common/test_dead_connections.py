"""A pooled connection that the server has closed is found dead, in a process with thousands of open sockets too."""

import fcntl
import resource
import socket
from contextlib import ExitStack, contextmanager
from urllib.parse import unquote, urlsplit

import pytest
from pg8000.core import CoreConnection

from common.wire import Connection, DatabaseError, InterfaceError, Step, sqlstate

BEYOND_SELECT = 1024


@contextmanager
def connected(stack):
    part = urlsplit(stack["postgres"]["admin"])
    options = {"host": part.hostname, "port": part.port, "database": part.path.lstrip("/"), "ssl_context": False}
    core = CoreConnection(unquote(part.username), password=unquote(part.password), **options)
    with core._usock, core._sock:
        yield core, Connection(core)


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("high", [False, True], ids=["low descriptor", "descriptor beyond 1023"])
def test_dead_and_alive(stack, many_files, high):
    with connected(stack) as (core, connection), connected(stack) as (_, other), ExitStack() as left:
        if high:
            moved = fcntl.fcntl(core._usock, fcntl.F_DUPFD, BEYOND_SELECT)
            core._usock = left.enter_context(socket.socket(fileno=moved))
        assert not connection.dead

        other.flight([Step("SELECT pg_terminate_backend(CAST(:pid AS integer), 5000)", {"pid": connection.pid})])

        assert connection.dead


def test_what_the_server_said_last_is_why(stack):
    with connected(stack) as (_, connection):
        with pytest.raises(DatabaseError) as caught:
            connection.flight([Step("SELECT pg_terminate_backend(CAST(:pid AS integer))", {"pid": connection.pid})])
        assert sqlstate(caught.value) == "57P01"


@pytest.mark.parametrize("rows", [3, 50, 5000])
def test_an_answer_that_nobody_can_read_ends_the_connection(stack, rows):
    """24:00:00 is a time to PostgreSQL and none to Python: what follows it would be taken for the next answer."""
    odd = "SELECT CASE WHEN n = 2 THEN time '24:00:00' END, repeat('x', 4000) FROM generate_series(1, :rows::int) AS n"
    with connected(stack) as (_, connection):
        with pytest.raises(ValueError, match="24:00:00"):
            connection.flight([Step(odd, {"rows": rows})])
        with pytest.raises(InterfaceError):
            connection.flight([Step("SELECT 1", {})])


def test_a_commit_that_rolled_back_is_an_error(stack):
    with connected(stack) as (_, connection):
        connection.flight([Step("BEGIN")])
        with pytest.raises(DatabaseError):
            connection.flight([Step("SELECT 1 / 0", {})])
        for commit in (Step("COMMIT", {}), Step("COMMIT")):
            with pytest.raises(InterfaceError, match="in failed transaction"):
                connection.flight([commit])
            connection.flight([Step("BEGIN")])
            with pytest.raises(DatabaseError):
                connection.flight([Step("SELECT 1 / 0", {})])
