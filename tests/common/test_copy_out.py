"""COPY … TO STDOUT as it is read: any rows, of any length, in any number; and what ends a connection."""

from urllib.parse import unquote, urlsplit

import pytest
from pg8000.core import CoreConnection
from pg8000.exceptions import DatabaseError, InterfaceError

from common.wire import Connection, Step, sqlstate


@pytest.fixture
def connection(stack):
    part = urlsplit(stack["postgres"]["admin"])
    core = CoreConnection(
        unquote(part.username),
        password=unquote(part.password),
        host=part.hostname,
        port=part.port,
        database=part.path.lstrip("/"),
        ssl_context=False,
    )
    yield Connection(core)
    if core._usock is not None:
        core.close()


def copied(connection, select):
    rows = []
    number = connection.copy_out(f"COPY ({select}) TO STDOUT (FORMAT csv)", rows.extend)
    assert number == len(rows)
    return rows


def test_many_rows(connection):
    assert copied(connection, "SELECT n FROM generate_series(1, 200000) n") == [b"%d" % n for n in range(1, 200_001)]


def test_no_row(connection):
    assert copied(connection, "SELECT 1 WHERE false") == []


def test_rows_with_line_ends_and_rows_of_any_length(connection):
    select = "SELECT repeat(E'a\\nb\\r', n) FROM unnest(ARRAY[0, 1, 50, 70000, 2, 3000000, 1, 0]) n"
    text = "a\nb\r"
    expected = [f'"{text * n}"'.encode() if n else b'""' for n in (0, 1, 50, 70_000, 2, 3_000_000, 1, 0)]
    assert copied(connection, select) == expected
    assert connection.flight([Step("SELECT 1")]) == [[[1]]]


def test_an_error_in_the_middle_leaves_a_good_connection(connection):
    rows = []
    with pytest.raises(DatabaseError) as raised:
        connection.copy_out("COPY (SELECT 1 / (50000 - n) FROM generate_series(1, 60000) n) TO STDOUT", rows.extend)
    assert sqlstate(raised.value) == "22012"
    assert connection.idle
    assert connection.flight([Step("SELECT 1")]) == [[[1]]]


def test_what_the_taker_raises_ends_the_connection(connection):
    def full(_rows):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        connection.copy_out("COPY (SELECT n FROM generate_series(1, 1000000) n) TO STDOUT", full)
    with pytest.raises(InterfaceError):
        connection.flight([Step("SELECT 1")])


def test_a_lost_server_is_an_interface_error(connection, admin):
    def cut(_rows):
        admin.run("SELECT pg_terminate_backend(:pid)", pid=connection.pid)

    with pytest.raises((InterfaceError, DatabaseError)):
        connection.copy_out("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000) n) TO STDOUT", cut)
