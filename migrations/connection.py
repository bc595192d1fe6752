"""How migrations and the operator's jobs reach PostgreSQL: directly, or Cloud SQL by IAM log-in; and as whom."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pg8000.native

from common.connecting import connector
from common.settings import sqladmin_endpoint

ADMINISTRATORS = "cloudsqlsuperuser"  # Cloud SQL's role with CREATEROLE and CREATEDB; no member inherits attributes
# Statements may take longer than a function's. Locks are each caller's own affair.
SESSION = {"statement_timeout": "15min", "TimeZone": "UTC"}


class Shared(pg8000.native.Connection):  # type: ignore[misc] # pg8000 has no types
    """The session that the connector opened, under pg8000's own interface instead of the DB-API's."""

    def __init__(self, opened: Any) -> None:
        self.__dict__ = opened.__dict__
        self._context = None


@contextmanager
def connected(url: str, database: str) -> Iterator[pg8000.native.Connection]:
    """A connection to `database` on the server of a libpq URL, or of `cloudsql://project:region:instance/…?user=…`."""
    connection = _opened(url, database)
    try:
        yield connection
    finally:
        connection.close()


def _opened(url: str, database: str) -> pg8000.native.Connection:
    part = urlsplit(url)
    options: dict[str, Any] = {
        "database": database,
        "application_name": "migrations",
        "startup_params": SESSION,
        "ssl_context": False,  # the connector brings its own TLS; directly only over loopback or the Auth Proxy
    }
    if part.scheme == "cloudsql":
        user = parse_qs(part.query)["user"][0]
        return Shared(connector(sqladmin_endpoint()).connect(part.netloc, "pg8000", user=user, **options))
    return pg8000.native.Connection(
        unquote(part.username or ""),
        host=part.hostname or "localhost",
        port=part.port or 5432,
        password=unquote(part.password) if part.password else None,
        **options,
    )


def administer(connection: pg8000.native.Connection) -> None:
    """Take the rights to create roles and databases, where the login itself has none but may become who does.

    So it is in Cloud SQL: an IAM account is a member of `cloudsqlsuperuser`, whose attributes count for itself alone.
    """
    connection.run(
        "SELECT set_config('role', rolname, false) FROM pg_roles"
        " WHERE rolname = :administrators AND pg_has_role(session_user, oid, 'SET')"
        " AND NOT (SELECT rolsuper OR (rolcreaterole AND rolcreatedb) FROM pg_roles WHERE rolname = session_user)",
        administrators=ADMINISTRATORS,
    )
