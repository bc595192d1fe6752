"""A line of JSON is what row_to_json makes of the row, times in RFC 3339, whatever the values are."""

import json
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.exports import copying, writing
from functions.exports.queries import Shape
from tests.conftest import database

TYPES = {
    "id": "uuid",
    "said": "text",
    "number": "integer",
    "large": "bigint",
    "sure": "boolean",
    "facts": "jsonb",
    "told": "json",
    "ip": "inet",
    "roles": "text[]",
    "hash": "bytea",
    "happened_at": "timestamp with time zone",
}
TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
VALUES = {
    "uuid": st.uuids().map(str),
    "text": TEXT,
    "integer": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "jsonb": st.dictionaries(TEXT, TEXT | st.integers(-(2**53), 2**53) | st.none()).map(json.dumps),
    "json": st.lists(TEXT | st.booleans()).map(json.dumps),
    "inet": st.ip_addresses().map(str),
    "text[]": st.lists(TEXT | st.none()),
    "bytea": st.binary(),
    "timestamp with time zone": st.datetimes(datetime(1900, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
}
ROWS = st.fixed_dictionaries({name: st.none() | VALUES[kind] for name, kind in TYPES.items()})


PROBE = SimpleNamespace(circumstances=(), subjects=())  # what a copy asks its table


@pytest.fixture(scope="module")
def probe(stack):
    """A connection with a table that has a column of each type."""
    with database(stack["postgres"]["admin"]) as connection:
        connection.run("SET TimeZone = 'UTC'")
        connection.run(f"CREATE TEMP TABLE probe ({', '.join(f'{name} {kind}' for name, kind in TYPES.items())})")
        yield connection


@given(row=ROWS)
def test_a_line_is_what_row_to_json_makes(probe, row):
    probe.run("DELETE FROM probe")
    bound = ", ".join(f"CAST(:{name} AS {kind})" for name, kind in TYPES.items())
    probe.run(f"INSERT INTO probe ({', '.join(TYPES)}) VALUES ({bound})", **row)
    shown = tuple(copying._shown(PROBE, name) for name in TYPES)
    copy = copying.Copy(PROBE, tuple(TYPES), shown, "FROM probe t")
    rows = ", ".join(f"{value} AS {name}" for value, name in zip(shown, TYPES, strict=True))
    line = writing.line(copy, Shape(TYPES, ("id",)))
    sql = f"SELECT {line}, row_to_json(r)::text FROM (SELECT {rows} FROM probe t) r"

    ((ours, theirs),) = probe.run(sql)

    assert ours == theirs
    moment = json.loads(ours)["happened_at"]
    assert (moment and datetime.fromisoformat(moment)) == row["happened_at"]
