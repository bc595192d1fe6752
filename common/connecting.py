"""How a service reaches PostgreSQL, and the login with which it refuses to."""

from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pg8000.core import CoreConnection

from common.settings import settings
from common.tokens import database_role
from common.wire import Connection, Step


class PrivilegedLogin(Exception):
    """The database login may do more than it should; the message says what."""


def connect(url: str) -> Connection:
    """`postgresql://` directly, `cloudsql://project:region:instance/database?user=…` by the Cloud SQL connector."""
    part = urlsplit(url)
    options: dict[str, Any] = {
        "database": part.path.lstrip("/"),
        "application_name": settings().service,
        "startup_params": {
            "statement_timeout": f"{settings().statement_timeout_seconds}s",
            "idle_in_transaction_session_timeout": "60s",
            "lock_timeout": "5s",
            "TimeZone": "UTC",
            "plan_cache_mode": "force_generic_plan",  # every query is by key: planned once per connection
        },
        "ssl_context": False,  # the connector brings its own TLS; directly only over loopback or the Auth Proxy
    }
    if part.scheme == "cloudsql":
        user = parse_qs(part.query)["user"][0]
        return Connection(connector(settings().sqladmin_endpoint).connect(part.netloc, "pg8000", user=user, **options))
    return Connection(
        CoreConnection(
            unquote(part.username or ""),
            password=unquote(part.password or ""),
            host=part.hostname,
            port=part.port or 5432,
            timeout=settings().statement_timeout_seconds + 5,
            **options,
        )
    )


@cache
def connector(endpoint: str) -> Any:
    """The process's Cloud SQL connector: private address, IAM log-in, certificates when they are needed."""
    from google.cloud.sql.connector import Connector, IPTypes  # noqa: PLC0415 - aiohttp and RSA keys, only where used

    return Connector(
        ip_type=IPTypes.PRIVATE,
        enable_iam_auth=True,
        refresh_strategy="LAZY",
        sqladmin_api_endpoint=endpoint,
    )


# Every IAM log-in of Cloud SQL is a member of this role, which holds nothing. Should it ever, that is too much.
IAM = "cloudsqliamserviceaccount"
PRIVILEGES = """
WITH RECURSIVE held AS (
    SELECT oid, rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication
    FROM pg_catalog.pg_roles WHERE rolname = session_user
    UNION
    SELECT r.oid, r.rolname, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcreatedb, r.rolreplication
    FROM held JOIN pg_catalog.pg_auth_members m ON m.member = held.oid
    JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
)
SELECT reason FROM (
    SELECT 'attribute of ' || rolname AS reason FROM held
    WHERE rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication
    UNION ALL
    SELECT 'inherits ' || rolname FROM held WHERE rolname NOT IN (session_user, :role, :iam)
    UNION ALL
    SELECT 'does not inherit ' || :role::text WHERE NOT EXISTS (SELECT FROM held WHERE rolname = :role)
    UNION ALL
    SELECT 'altered settings of ' || held.rolname
    FROM held JOIN pg_catalog.pg_db_role_setting s ON s.setrole = held.oid
    UNION ALL
    SELECT 'owns ' || c.relname FROM held JOIN pg_catalog.pg_class c ON c.relowner = held.oid
    UNION ALL
    SELECT 'may ' || a.privilege_type || ' ' || c.relname
    FROM pg_catalog.pg_class c
    CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
    WHERE (a.grantee = 0 OR a.grantee IN (SELECT oid FROM held))
        AND a.privilege_type IN ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN')
    UNION ALL
    SELECT DISTINCT 'holds rights as ' || :iam::text
    FROM pg_catalog.pg_shdepend d JOIN held ON held.oid = d.refobjid AND held.rolname = :iam
    WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass
        AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    UNION ALL
    SELECT 'may create temporary tables'
    WHERE has_database_privilege(session_user, current_database(), 'TEMPORARY')
) AS found (reason)
"""


def refuse_privileged_login(connection: Connection) -> None:
    """Raise PrivilegedLogin when the login, or a role that it inherits, may do more than it should."""
    found = connection.flight([Step(PRIVILEGES, {"role": database_role(), "iam": IAM}, unnamed=True)])
    if found[0]:
        raise PrivilegedLogin("; ".join(row[0] for row in found[0]))
