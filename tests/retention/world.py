"""A database of its own on the stack's server: what is moved or dropped there is nobody else's."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pg8000.native
import yaml

from common import register_rules
from common.register import SOURCE, Register, parse
from migrations.apply import load_register
from tests.conftest import CHECKOUT, database


@contextmanager
def own_database(stack: dict[str, Any], admin: pg8000.native.Connection) -> Iterator[str]:
    """The URL of a migrated database, dropped in the end."""
    name = f"own_{uuid.uuid4().hex[:8]}"
    url = stack["postgres"]["admin"].rsplit("/", 1)[0] + f"/{name}"
    environment = {"PATH": os.environ["PATH"], "DATABASE_ADMIN_URL": url}
    subprocess.run([sys.executable, "-m", "migrations.apply"], cwd=CHECKOUT, env=environment, check=True)
    try:
        yield url
    finally:
        admin.run(f"DROP DATABASE {name} WITH (FORCE)")


def register_with(more: str) -> Register:
    """The register with some more tables."""
    document = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    document["tables"] |= yaml.safe_load("tables:\n" + more)["tables"]
    return parse(yaml.safe_dump(document, sort_keys=False))


def add_tables(url: str, migration: str, entries: str) -> None:
    """What a release with new tables does: its migration, then the register."""
    with database(url) as connection:
        connection.run("SET ROLE context_owner")
        connection.execute_simple(migration)
        load_register(connection, register_rules.compiled(register_with(entries)))
