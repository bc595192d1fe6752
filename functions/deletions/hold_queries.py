"""Legal holds: literal SQL, one function per query."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from common import errors, pagination
from common.db import Tx, Written

NOBODY = {"subject_user_id": ["Nobody by this id is known in this organization."]}


def insert_hold(
    tx: Tx, *, subject_user_id: UUID, reason: str, until: datetime, resources: list[dict[str, Any]] | None
) -> Written:
    """The new hold. Raises 422 for a person or rows that are not here."""
    named = None if resources is None else [{"type": each["type"], "id": str(each["id"])} for each in resources]
    known, missing = tx.flight(
        ("SELECT app.is_subject(:subject)", {"subject": str(subject_user_id)}),
        (
            """
            SELECT CAST(r.position AS integer) - 1
            FROM jsonb_array_elements(CAST(:resources AS jsonb)) WITH ORDINALITY AS r (value, position)
            WHERE NOT CASE r.value ->> 'type'
                WHEN 'project' THEN EXISTS (SELECT FROM app.projects p WHERE p.tenant_id = :tenant_id
                                                AND p.id = CAST(r.value ->> 'id' AS uuid))
                ELSE EXISTS (SELECT FROM app.tasks t WHERE t.tenant_id = :tenant_id
                                 AND t.id = CAST(r.value ->> 'id' AS uuid)) END
            ORDER BY 1
            """,
            {"resources": json.dumps(named or [])},
        ),
    )
    if not known[0][0]:
        raise errors.invalid(NOBODY)
    if missing:
        raise errors.invalid({f"resources.{position}.id": ["There is no such row."] for (position,) in missing})
    made = tx.written(
        """
        INSERT INTO app.legal_holds AS h (tenant_id, subject_user_id, reason, until, resources, created_by)
        VALUES (:tenant_id, :subject, :reason, :until, CAST(:resources AS jsonb), :user_id)
        RETURNING h.id, platform.hold_json(h), h.version
        """,
        subject=str(subject_user_id),
        reason=reason,
        until=until,
        resources=None if named is None else json.dumps(named),
    )
    if made is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return made


def list_holds(
    tx: Tx, *, limit: int, after: list[str] | None, subject: str | None, status: str | None
) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT platform.hold_json(h) AS item, h.created_at, h.id,
                   row_number() OVER (ORDER BY h.created_at DESC, h.id DESC) AS n
            FROM app.legal_holds h
            WHERE h.tenant_id = :tenant_id
                AND (h.created_at, h.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                AND (CAST(:subject AS uuid) IS NULL OR h.subject_user_id = CAST(:subject AS uuid))
                AND (CAST(:status AS text) IS NULL OR platform.hold_json(h) ->> 'status' = :status)
            ORDER BY h.created_at DESC, h.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        subject=subject,
        status=status,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def release_hold(tx: Tx, hold_id: str, if_match: int | None) -> None:
    """Lift it, and let what it kept go; lifting it again changes nothing. Raises 404, 412."""
    found = tx.row(
        """
        SELECT h.subject_user_id, h.version, h.released_at IS NOT NULL FROM app.legal_holds h
        WHERE h.tenant_id = :tenant_id AND h.id = :hold_id FOR UPDATE
        """,
        hold_id=hold_id,
    )
    if found is None:
        raise errors.not_found()
    subject, version, over = found
    if if_match not in (None, version):
        raise errors.Problem("precondition_failed")
    if over:
        return
    tx.flight(
        (
            """
            UPDATE app.legal_holds SET released_at = clock_timestamp(), version = version + 1
            WHERE tenant_id = :tenant_id AND id = :hold_id
            """,
            {"hold_id": hold_id},
        ),
        ("SELECT platform.hasten_follow_ups(:subject)", {"subject": subject}),
    )
