"""What the database says: exports and erasures with their steps, the outbox, incidents and blocks, and itself."""

from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from local.layout import Layout, login_role, logins
from local.postgres import admin_dsn

PATIENCE = "SET default_transaction_read_only = on; SET statement_timeout = '2s'; SET application_name = 'status'"
TOO_SLOW = "57014"  # query_canceled
JOBS = """
SELECT coalesce(json_agg(job ORDER BY job.queued_at DESC), '[]') FROM (
    SELECT j.id, j.kind, j.status, j.attempts, j.stalls, j.queued_at, j.finished_at, j.execution_id,
        coalesce(j.last_error, e.error, d.error) AS error, coalesce(e.scope, d.scope) AS scope,
        e.format, e.progress_done, e.progress_total, e.status AS export_status, e.size_bytes,
        e.object_name IS NOT NULL AS assembled, e.mailed_at IS NOT NULL AS mailed, d.execute_after, d.parent_id,
        coalesce(e.due_at, d.due_at) AS due_at, d.approval_needed AND d.approved_at IS NULL AS unapproved,
        d.scan_places, d.scan_hits, d.certificate IS NOT NULL AS certified,
        (SELECT json_agg(json_build_object('name', s.name, 'status', s.status, 'rows', s.rows, 'at', s.at)
            ORDER BY s.position) FROM platform.deletion_steps s WHERE s.job_id = j.id) AS steps
    FROM platform.jobs j
    LEFT JOIN platform.exports e ON e.id = j.id LEFT JOIN platform.deletions d ON d.job_id = j.id
    WHERE j.kind IN ('export', 'deletion') ORDER BY j.queued_at DESC LIMIT 24
) job
"""
OUTBOX = """
SELECT json_build_object(
    'waiting', count(*) FILTER (WHERE sent_at IS NULL AND not_before <= now()),
    'later', count(*) FILTER (WHERE sent_at IS NULL AND not_before > now()),
    'oldest', min(created_at) FILTER (WHERE sent_at IS NULL AND not_before <= now()),
    'undelivered', count(*) FILTER (WHERE kind <> 'workflow' AND sent_at IS NOT NULL AND delivered_at IS NULL),
    'sent', count(*) FILTER (WHERE sent_at > now() - interval '1 hour'),
    'minutes', (SELECT coalesce(json_object_agg(ago, number), '{}') FROM (
        SELECT floor(extract(epoch FROM now() - sent_at) / 60)::integer AS ago, count(*) AS number
        FROM platform.outbox WHERE sent_at > now() - interval '1 hour' GROUP BY ago) m),
    'kinds', (SELECT coalesce(json_agg(k), '[]') FROM (
        SELECT kind, name, count(*) AS number, count(*) FILTER (WHERE sent_at IS NULL) AS waiting
        FROM platform.outbox WHERE created_at > now() - interval '1 day'
        GROUP BY kind, name ORDER BY number DESC LIMIT 12) k))
FROM platform.outbox
"""
DATABASE = """
SELECT json_build_object(
    'logins', (SELECT coalesce(json_object_agg(coalesce(usename, ''), states), '{}') FROM (
        SELECT usename, json_object_agg(state, number) AS states FROM (
            SELECT usename, coalesce(state, 'other') AS state, count(*) AS number FROM pg_stat_activity
            WHERE backend_type = 'client backend' AND application_name <> 'status' GROUP BY usename, state) s
        GROUP BY usename) u),
    'most', current_setting('max_connections')::integer,
    'bytes', pg_database_size(current_database()),
    'commits', xact_commit, 'rollbacks', xact_rollback, 'deadlocks', deadlocks,
    'hits', blks_hit, 'reads', blks_read,
    'waiting', (SELECT count(*) FROM pg_locks WHERE NOT granted),
    'longest', (SELECT coalesce(extract(epoch FROM max(now() - xact_start)), 0) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()))
FROM pg_stat_database WHERE datname = current_database()
"""
ANSWERED = """
SELECT json_build_object(
    'blocks', (SELECT coalesce(json_agg(b), '[]') FROM (
        SELECT network, source, requests, created_at, in_force_at, ends_at, lifted_at
        FROM platform.blocks ORDER BY created_at DESC LIMIT 20) b),
    'incidents', (SELECT coalesce(json_agg(i), '[]') FROM (
        SELECT id, title, severity, detected_at, closed_at
        FROM platform.incidents ORDER BY created_at DESC LIMIT 10) i))
"""
HAS_BLOCKS = "SELECT to_regclass('platform.blocks') IS NOT NULL"


class Records:
    """One connection whose transactions are read-only, opened when somebody looks, and again after an error."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.connection: Any = None
        self.names = {login_role(service): service for service in logins()}

    def read(self) -> dict[str, Any]:
        """All of it; else `{"problem": …}`: silent, slow, or the code of the database's error."""
        from pg8000.exceptions import DatabaseError, InterfaceError

        try:
            return self._read()
        except DatabaseError as error:
            code = str(error.args[0].get("C")) if error.args and isinstance(error.args[0], dict) else "unknown"
            problem = "slow" if code == TOO_SLOW else code
        except TimeoutError:
            problem = "slow"
        except (InterfaceError, OSError):
            problem = "silent"
        self.close()
        return {"problem": problem}

    def _read(self) -> dict[str, Any]:
        connection = self._connected()
        facts = connection.run(DATABASE)[0][0]
        facts["logins"] = {self.names.get(login, login): states for login, states in facts["logins"].items()}
        answered = connection.run(ANSWERED)[0][0] if connection.run(HAS_BLOCKS)[0][0] else None
        return {
            "jobs": connection.run(JOBS)[0][0],
            "outbox": connection.run(OUTBOX)[0][0],
            "database": facts,
            "answered": answered,
        }

    def _connected(self) -> Any:
        from pg8000.native import Connection

        if self.connection is None:
            address = urlsplit(admin_dsn(self.layout.path(), self.layout.ports["postgres"]))
            self.connection = Connection(
                unquote(address.username or ""),
                password=unquote(address.password or ""),
                host=address.hostname or "",
                port=address.port or 5432,
                database=address.path.lstrip("/"),
                ssl_context=False,
                timeout=3,
            )
            for statement in PATIENCE.split(";"):
                self.connection.run(statement)
        return self.connection

    def close(self) -> None:
        """Give the connection back."""
        from pg8000.exceptions import InterfaceError

        if self.connection is not None:
            connection, self.connection = self.connection, None
            with suppress(InterfaceError, OSError):  # it was broken already
                connection.close()
