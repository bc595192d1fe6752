"""Organizations and members: literal SQL, one function per query."""

import json
from typing import Any

from common import errors, pagination
from common.db import Tx, Written


def select_organization(tx: Tx) -> Written:
    """The caller's organization."""
    organization = tx.written(
        "SELECT tenant_id, app.organization_json(o), version FROM app.organizations o WHERE tenant_id = :tenant_id"
    )
    if organization is None:
        raise errors.not_found()
    return organization


def update_organization(tx: Tx, if_match: int | None, change: dict[str, Any]) -> Written:
    """The changed organization. Raises 412."""
    organization = tx.written(
        """
        UPDATE app.organizations AS o
        SET name = coalesce(:name, o.name), settings = coalesce(CAST(:settings AS jsonb), o.settings),
            updated_at = now(), version = o.version + 1
        WHERE o.tenant_id = :tenant_id AND (CAST(:if_match AS integer) IS NULL OR o.version = :if_match)
        RETURNING o.tenant_id, app.organization_json(o), o.version
        """,
        name=change.get("name"),
        settings=json.dumps(change["settings"]) if "settings" in change else None,
        if_match=if_match,
    )
    if organization is None:
        raise errors.Problem("precondition_failed")
    return organization


def list_members(tx: Tx, *, limit: int, after: list[str] | None, role: str | None) -> tuple[str, list[str] | None]:
    """A page of members as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(user_id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT json_build_object(
                       'user_id', m.user_id, 'email', p.email, 'display_name', p.display_name, 'role', m.role,
                       'created_at', to_char(m.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                       'version', m.version) AS item,
                   m.created_at, m.user_id, row_number() OVER (ORDER BY m.created_at DESC, m.user_id DESC) AS n
            FROM app.members m JOIN app.member_people() p ON p.user_id = m.user_id
            WHERE m.tenant_id = :tenant_id
                AND (m.created_at, m.user_id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                AND (CAST(:role AS text) IS NULL OR m.role = :role)
            ORDER BY m.created_at DESC, m.user_id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        role=role,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None
