"""Invitations: literal SQL, one function per query. The secret of a link is made where its mail is sent."""

from dataclasses import dataclass

from common import errors, pagination
from common.db import Tx, Written
from common.settings import settings
from common.wire import DatabaseError, violates
from functions.organizations.member_queries import FIND_ROLE, LOCK, Held

PENDING = "An invitation to this address is waiting. Have it sent again, or revoke it."
HOUR = 3600
GONE = "The membership is gone."  # somebody was removed while she invited
MEMBER = "The person with this address is a member already."


@dataclass(frozen=True)
class Open:
    """An invitation that is neither accepted nor revoked: its version, and its role while that exists."""

    version: int
    role: Held | None
    pace: "Pace"


@dataclass(frozen=True)
class Pace:
    """Mails that invite: how many the organization made within the hour, and when the last went to the address.

    `sent_ago`: seconds, not above zero; None when none was sent.
    """

    made: int
    sent_ago: int | None

    def check(self) -> None:
        """429 `rate_limited` when it is too soon for another mail to the address, or there were too many in all."""
        wait = settings().invitation_pause_seconds + (self.sent_ago or 0) if self.sent_ago is not None else 0
        if self.made >= settings().invitations_per_hour:
            wait = HOUR
        if wait > 0:
            raise errors.Problem("rate_limited", "Wait before the next invitation.", headers={"Retry-After": str(wait)})


def list_invitations(tx: Tx, *, limit: int, after: list[str] | None) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT app.invitation_json(i, r.name) AS item, i.created_at, i.id,
                   row_number() OVER (ORDER BY i.created_at DESC, i.id DESC) AS n
            FROM app.invitations i LEFT JOIN app.roles r ON r.tenant_id = i.tenant_id AND r.id = i.role_id
            WHERE i.tenant_id = :tenant_id
                AND (i.created_at, i.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
            ORDER BY i.created_at DESC, i.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def prepare_invitation(tx: Tx, email: str, role: str) -> tuple[Held | None, Pace]:
    """The role of that name, and how much was sent; an expired invitation to the address makes room.

    Raises 409 `already_member`.
    """
    found, member, pace, _ = tx.flight(
        (FIND_ROLE, {"name": role}),
        ("SELECT app.has_member(:email)", {"email": email}),
        (
            """
            SELECT (SELECT count(*) FROM app.invitations
                    WHERE tenant_id = :tenant_id AND created_at > now() - interval '1 hour'),
                   (SELECT ceil(extract(epoch FROM max(sent_at) - now()))::integer FROM app.invitations
                    WHERE tenant_id = :tenant_id AND email = :email)
            """,
            {"email": email},
        ),
        (
            """
            UPDATE app.invitations SET revoked_at = now(), version = version + 1
            WHERE tenant_id = :tenant_id AND email = :email AND accepted_at IS NULL AND revoked_at IS NULL
                AND expires_at <= now()
            """,
            {"email": email},
        ),
    )
    if member[0][0]:
        raise errors.conflict("already_member", MEMBER)
    made, sent_ago = pace[0]
    return (Held(*found[0]) if found else None), Pace(made, sent_ago)


def insert_invitation(tx: Tx, email: str, role: Held) -> Written:
    """The new invitation. Raises 409 `invitation_pending`, 422 when the role has just gone."""
    try:
        invitation = tx.written(
            """
            INSERT INTO app.invitations AS i (tenant_id, email, role, role_id, invited_by, expires_at)
            VALUES (:tenant_id, :email, :role, :role_id, :user_id, now() + make_interval(secs => :lifetime))
            RETURNING i.id, app.invitation_json(i, NULL), i.version
            """,
            email=email,
            role=role.name,
            role_id=role.role_id,
            lifetime=settings().invitation_seconds,
        )
    except DatabaseError as error:
        if violates(error, "invitations_one_open"):
            raise errors.conflict("invitation_pending", PENDING) from error
        if violates(error, "invitations_role_in_use"):
            raise errors.invalid({"role": ["There is no such role."]}) from error
        if violates(error, "invitations_inviter"):
            raise errors.unauthenticated(GONE) from error
        raise
    if invitation is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return invitation


def lock_invitation(tx: Tx, invitation_id: str) -> Open:
    """An open invitation, until the transaction ends. Raises 404, and 409 when it was accepted or revoked."""
    _, found = tx.flight(
        (LOCK, {}),
        (
            """
            SELECT i.accepted_at IS NULL AND i.revoked_at IS NULL, i.version, i.role, i.role_id,
                   coalesce(c.permissions, r.permissions), ceil(extract(epoch FROM i.sent_at - now()))::integer
            FROM app.invitations i
            LEFT JOIN app.roles c ON c.tenant_id = i.tenant_id AND c.id = i.role_id
            LEFT JOIN platform.roles r ON r.name = i.role AND i.role_id IS NULL
            WHERE i.tenant_id = :tenant_id AND i.id = :invitation_id
            """,
            {"invitation_id": invitation_id},
        ),
    )
    if not found:
        raise errors.not_found()
    is_open, version, name, role_id, permissions, sent_ago = found[0]
    if not is_open:
        raise errors.conflict("conflict", "The invitation was accepted or revoked.")
    role = Held(name, role_id, permissions, version) if permissions is not None else None
    return Open(version, role, Pace(0, sent_ago))


def renew_invitation(tx: Tx, invitation_id: str) -> Written:
    """The invitation with a new link and a new end, in the caller's name; the old link is dead."""
    try:
        invitation = tx.written(
            """
            WITH renewed AS (
                UPDATE app.invitations AS i
                SET generation = i.generation + 1, invited_by = :user_id, version = i.version + 1, sent_at = now(),
                    expires_at = now() + make_interval(secs => :lifetime)
                WHERE i.tenant_id = :tenant_id AND i.id = :invitation_id
                RETURNING i.*
            )
            SELECT n.id, app.invitation_json(CAST(ROW(n.*) AS app.invitations), r.name), n.version
            FROM renewed n LEFT JOIN app.roles r ON r.tenant_id = n.tenant_id AND r.id = n.role_id
            """,
            invitation_id=invitation_id,
            lifetime=settings().invitation_seconds,
        )
    except DatabaseError as error:
        if violates(error, "invitations_inviter"):
            raise errors.unauthenticated(GONE) from error
        raise
    if invitation is None:
        raise errors.not_found()
    return invitation


def revoke_invitation(tx: Tx, invitation_id: str) -> None:
    """The invitation's link is dead."""
    tx.rows(
        """
        UPDATE app.invitations SET revoked_at = now(), version = version + 1
        WHERE tenant_id = :tenant_id AND id = :invitation_id
        """,
        invitation_id=invitation_id,
    )
