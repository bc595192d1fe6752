"""Where the operator's acts are done: one connection as the owner, and a chain that hears of each."""

import json
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pg8000.native

from migrations.connection import connected

DONE, REFUSED, UNUSABLE = 0, 1, 2
SUCCESS, DENIED, FAILURE = "success", "denied", "failure"
LOCK_SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """What an act says: an exit code, lines for a person, and the same for a script."""

    code: int
    lines: list[str]
    document: dict[str, Any] = field(default_factory=dict)


class Desk:
    """A connection of the operator. `noted` is what every event says beside the act: {reason, operator}, if given."""

    def __init__(self, connection: pg8000.native.Connection, noted: dict[str, str]) -> None:
        self._connection = connection
        self._noted = noted
        self.request_id = str(uuid.uuid4())

    @contextmanager
    def transaction(self, how: str = "") -> Iterator[None]:
        """All or nothing; `how` is `ISOLATION LEVEL REPEATABLE READ READ ONLY` or nothing."""
        self._connection.run(f"BEGIN {how}")
        try:
            yield
        except BaseException:
            self._connection.run("ROLLBACK")
            raise
        self._connection.run("COMMIT")

    def rows(self, sql: str, **parameters: Any) -> list[list[Any]]:
        """The rows of a statement, which may name :noted and :request."""
        known = {"noted": json.dumps(self._noted), "request": self.request_id}
        used = {name: value for name, value in known.items() if f":{name}" in sql}
        found: list[list[Any]] = self._connection.run(sql, **used, **parameters)
        return found

    def value(self, sql: str, **parameters: Any) -> Any:
        """The first column of the first row."""
        return self.rows(sql, **parameters)[0][0]

    def tables(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows by the names of their columns."""
        rows = self.rows(sql, **parameters)
        names = [column["name"] for column in self._connection.columns or []]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def record(self, done: str, kind: str, id: str | None = None, *, outcome: str = SUCCESS, **data: Any) -> None:
        """An event in the platform's chain, in this transaction. `data` holds ids, codes and counts only."""
        self._connection.run(
            "SELECT platform.record_event(NULL, :done, :kind, :id, CAST(:data AS jsonb), :request, :outcome)",
            done=done,
            kind=kind,
            id=id,
            data=json.dumps({**self._noted, **data}),
            request=self.request_id,
            outcome=outcome,
        )


@contextmanager
def opened(url: str, noted: dict[str, str]) -> Iterator[Desk]:
    """The operator's desk at the database that the administrator's URL names."""
    with connected(url, urlsplit(url).path.lstrip("/")) as connection:
        connection.run("SET ROLE context_owner")
        connection.run(f"SET lock_timeout = '{LOCK_SECONDS}s'; SET TimeZone = 'UTC'")
        yield Desk(connection, noted)


def progress(line: str) -> None:
    """A line for whoever waits, apart from the answer."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def table(rows: list[dict[str, Any]], empty: str) -> list[str]:
    """Rows as aligned lines under their names."""
    if not rows:
        return [empty]
    cells = [[name.replace("_", " ") for name in rows[0]], *([shown(cell) for cell in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def shown(value: Any) -> str:
    """A cell for a person: times to the second, nothing as a dash."""
    if value is None:
        return "-"
    return value.strftime("%Y-%m-%d %H:%M:%S") if hasattr(value, "strftime") else str(value)
