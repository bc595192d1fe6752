"""Members: literal SQL, one function per query. Whoever changes members or roles locks the organization first."""

from dataclasses import dataclass

from common import errors, pagination
from common.db import Tx, Written

LOCK = "SELECT FROM app.organizations WHERE tenant_id = :tenant_id FOR NO KEY UPDATE"
FIND_ROLE = """
    SELECT r.name, CAST(NULL AS uuid), r.permissions, 1 FROM platform.roles r WHERE r.name = :name
    UNION ALL
    SELECT c.name, c.id, c.permissions, c.version FROM app.roles c WHERE c.tenant_id = :tenant_id AND c.name = :name
    """
CHANGED = "What you may do has just changed."  # the database lets nobody touch a role that holds what they lack
LAST_OWNER = "Make somebody else an owner first: an organization needs one."


@dataclass(frozen=True)
class Held:
    """A role as somebody holds it: `role_id` only of the organization's own."""

    name: str
    role_id: str | None
    permissions: list[str]
    version: int

    @property
    def owns(self) -> bool:
        """Whether it is the owner's role."""
        return self.role_id is None and self.name == "owner"

    @property
    def label(self) -> str:
        """How an audit event names it: a built-in role by name, another by id, since its name is typed by people."""
        return self.role_id or self.name


def list_members(tx: Tx, *, limit: int, after: list[str] | None, role: str | None) -> tuple[str, list[str] | None]:
    """A page of members as JSON text, newest first, and the ordering values of its last item when more follow.

    Raises 422 for a role that there is not.
    """
    time, last = after or pagination.START
    rows, known = tx.flight(
        (
            """
            WITH page AS MATERIALIZED (
                SELECT m.user_id, coalesce(m.role, r.name) AS role, m.created_at, m.version,
                       row_number() OVER (ORDER BY m.created_at DESC, m.user_id DESC) AS n
                FROM app.members m LEFT JOIN app.roles r ON r.tenant_id = m.tenant_id AND r.id = m.role_id
                WHERE m.tenant_id = :tenant_id
                    AND (m.created_at, m.user_id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                    AND (CAST(:role AS text) IS NULL OR coalesce(m.role, r.name) = :role)
                ORDER BY m.created_at DESC, m.user_id DESC
                LIMIT CAST(:limit AS integer) + 1
            )
            SELECT coalesce(json_agg(item ORDER BY n) FILTER (WHERE n <= :limit), '[]'),
                   coalesce(max(n) > :limit, false),
                   max(created_at) FILTER (WHERE n = :limit), max(user_id::text) FILTER (WHERE n = :limit)
            FROM (
                SELECT json_build_object(
                           'user_id', page.user_id, 'email', p.email, 'display_name', p.display_name, 'role', page.role,
                           'created_at', to_char(page.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                           'version', page.version) AS item,
                       page.created_at, page.user_id, page.n
                FROM page JOIN app.people(ARRAY(SELECT user_id FROM page)) AS p ON p.user_id = page.user_id
            ) AS shown
            """,
            {"limit": limit, "time": time, "last": last, "role": role},
        ),
        (FIND_ROLE, {"name": role}),
    )
    if role is not None and not known:
        raise errors.invalid({"role": ["There is no such role."]})
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def lock_member(tx: Tx, user_id: str, wanted: str | None = None) -> tuple[Held, bool, Held | None]:
    """What a member's role is, and whether there is another owner, until the transaction ends; and the wanted role.

    Raises 404.
    """
    _, member, owner, role = tx.flight(
        (LOCK, {}),
        (
            """
            SELECT coalesce(m.role, c.name), m.role_id, coalesce(r.permissions, c.permissions), m.version
            FROM app.members m
            LEFT JOIN platform.roles r ON r.name = m.role
            LEFT JOIN app.roles c ON c.tenant_id = m.tenant_id AND c.id = m.role_id
            WHERE m.tenant_id = :tenant_id AND m.user_id = :member
            """,
            {"member": user_id},
        ),
        ("SELECT app.has_other_owner(:member)", {"member": user_id}),
        (FIND_ROLE, {"name": wanted}),
    )
    if not member:
        raise errors.not_found()
    return Held(*member[0]), bool(owner[0][0]), Held(*role[0]) if role else None


def update_member(tx: Tx, user_id: str, role: Held) -> Written:
    """The member with another role."""
    member = tx.written(
        """
        WITH changed AS (
            UPDATE app.members AS m
            SET role = CASE WHEN CAST(:role_id AS uuid) IS NULL THEN CAST(:role AS text) END, role_id = :role_id,
                updated_at = now(), version = m.version + 1
            WHERE m.tenant_id = :tenant_id AND m.user_id = :member
            RETURNING m.user_id, m.created_at, m.version
        )
        SELECT c.user_id,
               json_build_object(
                   'user_id', c.user_id, 'email', p.email, 'display_name', p.display_name, 'role', CAST(:role AS text),
                   'created_at', to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                   'version', c.version),
               c.version
        FROM changed c JOIN app.people(ARRAY[CAST(:member AS uuid)]) AS p ON p.user_id = c.user_id
        """,
        member=user_id,
        role=role.name,
        role_id=role.role_id,
    )
    if member is None:
        raise errors.Problem("permission_denied", CHANGED)
    return member


def delete_member(tx: Tx, user_id: str) -> int:
    """End a membership; keys, teams and log-ins in this organization end with it. How many keys there were."""
    keys, deleted, _ = tx.flight(
        (
            "SELECT count(*) FROM app.api_keys WHERE tenant_id = :tenant_id AND created_by = :member",
            {"member": user_id},
        ),
        (
            "DELETE FROM app.members WHERE tenant_id = :tenant_id AND user_id = :member RETURNING user_id",
            {"member": user_id},
        ),
        ("SELECT identity.end_sessions_here(:member)", {"member": user_id}),
    )
    if not deleted:
        raise errors.Problem("permission_denied", CHANGED)
    return int(keys[0][0])
