"""Exports: literal SQL, one function per query."""

import json
from dataclasses import dataclass
from typing import Any

from common import errors, jobs, pagination
from common.db import Tx
from common.wire import DatabaseError, violates

RUNNING = "An export of this data is running already; wait for it or cancel it."


@dataclass(frozen=True)
class Part:
    """One COPY of the plan; sizes and the object are there once it is done."""

    name: str
    table_name: str
    tenant_id: str | None
    range_from: str | None
    range_to: str | None
    status: str = "pending"
    rows: int = 0
    bytes: int = 0
    object_name: str | None = None
    sha256: str | None = None

    @property
    def ranged(self) -> bool:
        """Whether it is one of several of its table."""
        return self.range_from is not None or self.range_to is not None


@dataclass(frozen=True)
class Shape:
    """A table of the database: column → type as PostgreSQL names it, and its primary key without the organization."""

    types: dict[str, str]
    key: tuple[str, ...]


@dataclass(frozen=True)
class Downloadable:
    """What a download needs to know."""

    status: str
    object_name: str | None
    requested_at: str


def insert_export(tx: Tx, export_id: str, *, scope: str, user_id: str | None, format: str) -> str:
    """A new export, as JSON. Raises 409 `export_in_progress`, and 404 for a person whom nothing here is about."""
    try:
        answers = tx.flight(
            (
                "SELECT platform.request_export(:export_id, :scope, CAST(:subject AS uuid), :format)",
                {"export_id": export_id, "scope": scope, "subject": user_id, "format": format},
            ),
            (
                "SELECT platform.export_json(e) FROM platform.exports e WHERE e.id = :export_id",
                {"export_id": export_id},
            ),
        )
    except DatabaseError as error:
        if violates(error, "exports_one_running"):
            raise errors.conflict("export_in_progress", RUNNING) from error
        raise
    if not answers[0][0][0]:
        raise errors.not_found()
    return str(answers[1][0][0])


def list_exports(tx: Tx, *, limit: int, after: list[str] | None) -> tuple[str, list[str] | None, bool]:
    """A page as JSON text, newest first, its last item's ordering values when more follow; whether it shows others.

    Which of the organization's requests the caller sees, the policy says: those who may make them.
    """
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(requested_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit),
               coalesce(bool_or(of_others) FILTER (WHERE n <= :limit), false)
        FROM (
            SELECT platform.export_json(e) AS item, e.requested_at, e.id,
                   coalesce(e.subject_account_id, e.requested_by) IS DISTINCT FROM :user_id AS of_others,
                   row_number() OVER (ORDER BY e.requested_at DESC, e.id DESC) AS n
            FROM platform.exports e
            WHERE (e.subject_account_id = :user_id OR (e.scope <> 'me' AND e.organization_id = :tenant_id))
                AND (e.requested_at, e.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
            ORDER BY e.requested_at DESC, e.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
    )
    items, more, oldest, last_id, of_others = rows[0]
    return items, [oldest, last_id] if more else None, of_others


def select_export(tx: Tx, export_id: str) -> tuple[str, bool]:
    """One export as JSON, and whether it is somebody else's. Raises 404."""
    found = tx.row(
        """
        SELECT platform.export_json(e), coalesce(e.subject_account_id, e.requested_by) IS DISTINCT FROM :user_id
        FROM platform.exports e
        WHERE e.id = :export_id
            AND (e.subject_account_id = :user_id OR (e.scope <> 'me' AND e.organization_id = :tenant_id))
        """,
        export_id=export_id,
    )
    if found is None:
        raise errors.not_found()
    return str(found[0]), bool(found[1])


def select_download(tx: Tx, export_id: str) -> Downloadable:
    """What a download needs. Raises 404, and 403 for who may see the request but not the file."""
    found = tx.row(
        """
        SELECT CASE WHEN e.expires_at <= clock_timestamp() THEN 'expired' ELSE e.status END, e.object_name,
               to_char(e.requested_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),
               coalesce(:user_id IN (e.requested_by, e.subject_account_id), false)
        FROM platform.exports e
        WHERE e.id = :export_id
            AND (e.subject_account_id = :user_id OR (e.scope <> 'me' AND e.organization_id = :tenant_id))
        """,
        export_id=export_id,
    )
    if found is None:
        raise errors.not_found()
    *facts, hers = found
    if not hers:
        raise errors.Problem("permission_denied", "The file is for who asked for it and for whom it is about.")
    return Downloadable(*facts)


def cancel_export(tx: Tx, export_id: str) -> str:
    """`cancelled`, `expired` (the file of a ready one goes), or `over` when it had ended before.

    Raises 404, and 403 for the person whom an organization's request is about.
    """
    outcome = tx.value("SELECT platform.cancel_export(:export_id)", export_id=export_id)
    if outcome is None:
        raise errors.not_found()
    if outcome == "denied":
        raise errors.Problem("permission_denied", "The organization has asked for this copy: it decides about it.")
    return str(outcome)


def select_request(tx: Tx) -> dict[str, Any]:
    """The export of the sealed job: id, scope, format, subject_user_id, requested_by, times, organizations.

    Raises 409 when it has gone.
    """
    found = tx.value("SELECT platform.export_request()")
    if found is None:
        raise jobs.lost()
    request: dict[str, Any] = json.loads(found)
    return request


def insert_plan(tx: Tx, parts: list[Part]) -> None:
    """Store the plan; the first one stays."""
    planned = [
        {
            "name": part.name,
            "table_name": part.table_name,
            "tenant_id": part.tenant_id,
            "range_from": part.range_from,
            "range_to": part.range_to,
        }
        for part in parts
    ]
    tx.rows("SELECT platform.plan_export(CAST(:parts AS jsonb))", parts=json.dumps(planned))


def select_parts(tx: Tx) -> list[Part]:
    """The planned parts of the sealed job, by name."""
    return [
        Part(*row)
        for row in tx.rows(
            """
            SELECT name, table_name, tenant_id, range_from, range_to, status, coalesce(row_count, 0),
                   coalesce(bytes, 0), object_name, sha256
            FROM platform.planned_parts()
            """
        )
    ]


def finish_parts(tx: Tx, execution: str, parts: list[Part]) -> list[bool]:
    """Of each part, whether this upload of it is the one that counts."""
    sql = """
        SELECT platform.finish_part(:execution, :part, :object, CAST(:copied AS bigint), CAST(:size AS bigint), :digest)
        """
    found = tx.flight(
        *(
            (
                sql,
                {
                    "execution": execution,
                    "part": part.name,
                    "object": part.object_name,
                    "copied": part.rows,
                    "size": part.bytes,
                    "digest": part.sha256,
                },
            )
            for part in parts
        )
    )
    return [bool(rows[0][0]) for rows in found]


def finish_package(tx: Tx, execution: str, *, object_name: str, size: int, sha256: str, seconds: int) -> bool:
    """Whether this package is the one that counts: the export is ready then."""
    return bool(
        tx.value(
            """
            SELECT platform.finish_package(:execution, :object, CAST(:size AS bigint), :digest,
                                           make_interval(secs => CAST(:seconds AS double precision)))
            """,
            execution=execution,
            object=object_name,
            size=size,
            digest=sha256,
            seconds=seconds,
        )
    )


def fail_export(tx: Tx, export_id: str, execution: str, reason: str) -> str | None:
    """`failed`, or `ready` when it was that before; None when another execution has the job."""
    state: str | None = tx.value(
        "SELECT platform.fail_export(:job, :execution, :reason)", job=export_id, execution=execution, reason=reason
    )
    return state


def select_shapes(tx: Tx, tables: list[str]) -> dict[str, Shape]:
    """The shape of each table, by schema.relation."""
    rows = tx.rows(
        """
        SELECT n.nspname || '.' || c.relname, a.attname::text, format_type(a.atttypid, NULL),
               array_position(i.indkey::int2[], a.attnum)
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
        LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary
        WHERE n.nspname IN ('app', 'identity', 'platform')
            AND n.nspname || '.' || c.relname = ANY (CAST(:tables AS text[]))
        ORDER BY 1, 4
        """,
        tables=tables,
    )
    types: dict[str, dict[str, str]] = {table: {} for table in tables}
    keys: dict[str, list[str]] = {table: [] for table in tables}
    for table, column, kind, position in rows:
        types[table][column] = kind
        if position is not None and column != "tenant_id":
            keys[table].append(column)
    return {table: Shape(types[table], tuple(keys[table]) or ("tenant_id",)) for table in tables}


def prefer_scans(tx: Tx) -> None:
    """For counts with a sample: no sorted walk along an index, which would visit the rows one by one."""
    tx.rows(
        "SELECT set_config('enable_presorted_aggregate', 'off', true), set_config('statement_timeout', '25min', true)"
    )


def set_range(tx: Tx, part: Part) -> None:
    """Bind the key range of a part, and give its COPY the time it needs.

    A range is read in the order of its pages and then sorted: along the index, row by row, it would take twice as long.
    """
    tx.rows(
        """
        SELECT set_config('export.first', coalesce(:first, ''), true),
               set_config('export.last', coalesce(:last, ''), true), set_config('statement_timeout', '25min', true),
               set_config('enable_indexscan', CASE WHEN :ranged THEN 'off' ELSE 'on' END, true),
               set_config('work_mem', CASE WHEN :ranged THEN '32MB' ELSE current_setting('work_mem') END, true)
        """,
        first=part.range_from,
        last=part.range_to,
        ranged=part.ranged,
    )
