"""Teams and who belongs to them: literal SQL, one function per query."""

from typing import Any

from common import errors, pagination
from common.db import Tx, Written
from common.wire import DatabaseError, violates

NAME_TAKEN = "Another team of this organization has this name."


def list_teams(tx: Tx, *, limit: int, after: list[str] | None) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT app.team_json(t) AS item, t.created_at, t.id,
                   row_number() OVER (ORDER BY t.created_at DESC, t.id DESC) AS n
            FROM app.teams t
            WHERE t.tenant_id = :tenant_id
                AND (t.created_at, t.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
            ORDER BY t.created_at DESC, t.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def select_team(tx: Tx, team_id: str) -> Written:
    """One team. Raises 404."""
    team = tx.written(
        "SELECT t.id, app.team_json(t), t.version FROM app.teams t WHERE t.tenant_id = :tenant_id AND t.id = :team_id",
        team_id=team_id,
    )
    if team is None:
        raise errors.not_found()
    return team


def insert_team(tx: Tx, *, name: str, description: str) -> Written:
    """The new team. Raises 409 `team_name_taken`."""
    try:
        team = tx.written(
            """
            INSERT INTO app.teams AS t (tenant_id, name, description) VALUES (:tenant_id, :name, :description)
            RETURNING t.id, app.team_json(t), t.version
            """,
            name=name,
            description=description,
        )
    except DatabaseError as error:
        if violates(error, "teams_name_taken"):
            raise errors.conflict("team_name_taken", NAME_TAKEN) from error
        raise
    if team is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return team


def update_team(tx: Tx, team_id: str, if_match: int | None, change: dict[str, Any]) -> Written:
    """The changed team. Raises 404, 409 `team_name_taken`, 412."""
    try:
        team = tx.written(
            """
            UPDATE app.teams AS t
            SET name = coalesce(:name, t.name), description = coalesce(:description, t.description),
                updated_at = now(), version = t.version + 1
            WHERE t.tenant_id = :tenant_id AND t.id = :team_id
                AND (CAST(:if_match AS integer) IS NULL OR t.version = :if_match)
            RETURNING t.id, app.team_json(t), t.version
            """,
            team_id=team_id,
            if_match=if_match,
            **{name: change.get(name) for name in ("name", "description")},
        )
    except DatabaseError as error:
        if violates(error, "teams_name_taken"):
            raise errors.conflict("team_name_taken", NAME_TAKEN) from error
        raise
    if team is None:
        select_team(tx, team_id)
        raise errors.Problem("precondition_failed")
    return team


def delete_team(tx: Tx, team_id: str, if_match: int | None) -> None:
    """Delete a team; its members stay in the organization. Raises 404, 412."""
    deleted = tx.row(
        """
        DELETE FROM app.teams
        WHERE tenant_id = :tenant_id AND id = :team_id
            AND (CAST(:if_match AS integer) IS NULL OR version = :if_match)
        RETURNING id
        """,
        team_id=team_id,
        if_match=if_match,
    )
    if deleted is None:
        select_team(tx, team_id)
        raise errors.Problem("precondition_failed")


def list_team_members(tx: Tx, team_id: str, *, limit: int, after: list[str] | None) -> tuple[str, list[str] | None]:
    """A page of a team's members, the latest first, and the ordering values behind it, if any. Raises 404."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        WITH page AS MATERIALIZED (
            SELECT t.user_id, t.created_at, row_number() OVER (ORDER BY t.created_at DESC, t.user_id DESC) AS n
            FROM app.team_members t
            WHERE t.tenant_id = :tenant_id AND t.team_id = :team_id
                AND (t.created_at, t.user_id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
            ORDER BY t.created_at DESC, t.user_id DESC
            LIMIT CAST(:limit AS integer) + 1
        )
        SELECT coalesce(json_agg(item ORDER BY n) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(user_id::text) FILTER (WHERE n = :limit),
               EXISTS (SELECT FROM app.teams WHERE tenant_id = :tenant_id AND id = :team_id)
        FROM (
            SELECT json_build_object(
                       'user_id', page.user_id, 'email', p.email, 'display_name', p.display_name,
                       'created_at', to_char(page.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                   ) AS item,
                   page.created_at, page.user_id, page.n
            FROM page JOIN app.people(ARRAY(SELECT user_id FROM page)) AS p ON p.user_id = page.user_id
        ) AS shown
        """,
        team_id=team_id,
        limit=limit,
        time=time,
        last=last,
    )
    items, more, oldest, last_id, known = rows[0]
    if not known:
        raise errors.not_found()
    return items, [oldest, last_id] if more else None


def insert_team_member(tx: Tx, team_id: str, user_id: str) -> bool:
    """Whether the member is new in the team. Raises 404 for a team or a member that there is not."""
    try:
        added = tx.row(
            """
            INSERT INTO app.team_members (tenant_id, team_id, user_id) VALUES (:tenant_id, :team_id, :member)
            ON CONFLICT (tenant_id, team_id, user_id) DO NOTHING
            RETURNING user_id
            """,
            team_id=team_id,
            member=user_id,
        )
    except DatabaseError as error:
        if violates(error, "team_members_of_a_team") or violates(error, "team_members_are_members"):
            raise errors.not_found() from error
        raise
    return added is not None


def delete_team_member(tx: Tx, team_id: str, user_id: str) -> None:
    """The member leaves the team. Raises 404."""
    left = tx.row(
        """
        DELETE FROM app.team_members WHERE tenant_id = :tenant_id AND team_id = :team_id AND user_id = :member
        RETURNING user_id
        """,
        team_id=team_id,
        member=user_id,
    )
    if left is None:
        raise errors.not_found()
