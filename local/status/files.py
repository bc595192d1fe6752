"""Reading what the other stand-ins keep: their databases, without a write, and whether they exist at all."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

BUSY_SECONDS = 1.0


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A database of another process, read-only; None while it is not there."""
    if not path.exists():
        yield None
        return
    address = f"file:{quote(str(path))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=BUSY_SECONDS, check_same_thread=False)) as connection:
        connection.row_factory = sqlite3.Row
        yield connection
