"""A pooled connection that the server has closed is found dead, in a process with thousands of open sockets too."""

import fcntl
import resource
import socket
from contextlib import ExitStack, contextmanager
from urllib.parse import unquote, urlsplit

import pytest
from pg8000.core import CoreConnection

from common.wire import Connection, Step

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
