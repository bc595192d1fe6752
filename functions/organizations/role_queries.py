"""The organization's own roles: literal SQL, one function per query."""

from typing import Any

from common import errors, pagination
from common.db import Tx, Written
from common.wire import DatabaseError, violates
from functions.organizations.member_queries import CHANGED, LOCK, Held

NAME_TAKEN = "Another role of this organization has this name."
IN_USE = "Members or waiting invitations have this role."


def list_roles(tx: Tx, *, limit: int, after: list[str] | None) -> tuple[str, list[str] | None]:
    """A page as JSON text: own roles, newest first, then the built-in ones; the ordering values behind it, if any."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item ORDER BY n) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT app.role_json(id, name, permissions, builtin, version) AS item, created_at, id,
                   row_number() OVER (ORDER BY created_at DESC, id DESC) AS n
            FROM (
                (SELECT c.id, c.name, c.permissions, false AS builtin, c.version, c.created_at FROM app.roles c
                 WHERE c.tenant_id = :tenant_id
                     AND (c.created_at, c.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                 ORDER BY c.created_at DESC, c.id DESC
                 LIMIT CAST(:limit AS integer) + 1)
                UNION ALL
                SELECT platform.role_id(r.name), r.name, r.permissions, true, 1, '-infinity' FROM platform.roles r
                WHERE ('-infinity', platform.role_id(r.name)) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
            ) AS role
            ORDER BY created_at DESC, id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def lock_role(tx: Tx, role_id: str) -> Held:
    """One of the organization's own roles, until the transaction ends. Raises 404, 409 `role_builtin`."""
    _, found, builtin = tx.flight(
        (LOCK, {}),
        (
            """
            SELECT c.name, c.id, c.permissions, c.version FROM app.roles c
            WHERE c.tenant_id = :tenant_id AND c.id = :role_id
            """,
            {"role_id": role_id},
        ),
        ("SELECT FROM platform.roles r WHERE platform.role_id(r.name) = :role_id", {"role_id": role_id}),
    )
    if builtin:
        raise errors.conflict("role_builtin", "This role is built in.")
    if not found:
        raise errors.not_found()
    return Held(*found[0])


def insert_role(tx: Tx, *, name: str, permissions: list[str]) -> Written:
    """The new role. Raises 409 `role_name_taken`."""
    try:
        role = tx.written(
            """
            INSERT INTO app.roles AS c (tenant_id, name, permissions)
            VALUES (:tenant_id, :name, CAST(:permissions AS text[]))
            RETURNING c.id, app.role_json(c.id, c.name, c.permissions, false, c.version), c.version
            """,
            name=name,
            permissions=permissions,
        )
    except DatabaseError as error:
        if violates(error, "roles_name_taken"):
            raise errors.conflict("role_name_taken", NAME_TAKEN) from error
        raise
    if role is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return role


def update_role(tx: Tx, role_id: str, change: dict[str, Any]) -> Written:
    """The changed role. Raises 409 `role_name_taken`."""
    try:
        role = tx.written(
            """
            UPDATE app.roles AS c
            SET name = coalesce(:name, c.name), permissions = coalesce(CAST(:permissions AS text[]), c.permissions),
                updated_at = now(), version = c.version + 1
            WHERE c.tenant_id = :tenant_id AND c.id = :role_id
            RETURNING c.id, app.role_json(c.id, c.name, c.permissions, false, c.version), c.version
            """,
            role_id=role_id,
            name=change.get("name"),
            permissions=change.get("permissions"),
        )
    except DatabaseError as error:
        if violates(error, "roles_name_taken"):
            raise errors.conflict("role_name_taken", NAME_TAKEN) from error
        raise
    if role is None:
        raise errors.Problem("permission_denied", CHANGED)
    return role


def delete_role(tx: Tx, role_id: str) -> None:
    """Delete a role; invitations that are over keep its name, one that waits keeps it. Raises 409 `role_in_use`."""
    try:
        _, deleted = tx.flight(
            (
                """
                UPDATE app.invitations SET role_id = NULL
                WHERE tenant_id = :tenant_id AND role_id = :role_id
                    AND (accepted_at IS NOT NULL OR revoked_at IS NOT NULL OR expires_at <= now())
                """,
                {"role_id": role_id},
            ),
            ("DELETE FROM app.roles WHERE tenant_id = :tenant_id AND id = :role_id RETURNING id", {"role_id": role_id}),
        )
    except DatabaseError as error:
        if violates(error, "members_role_in_use") or violates(error, "invitations_role_in_use"):
            raise errors.conflict("role_in_use", IN_USE) from error
        raise
    if not deleted:
        raise errors.Problem("permission_denied", CHANGED)
