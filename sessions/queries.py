"""Sessions and their events: literal SQL, one function per query."""

from dataclasses import dataclass
from typing import Any

from common import errors, pagination
from common.db import Tx, Written
from common.settings import settings
from common.wire import DatabaseError, violates
from sessions.schemas import MAX_SEQ

CLOSED = "The session is closed."
PAGE = 100  # the LIMIT of page_behind


@dataclass(frozen=True)
class State:
    """How far a session is, and whether it is over."""

    last_seq: int
    closed: bool


def list_sessions(
    tx: Tx, *, limit: int, after: list[str] | None, project_id: str | None, closed: bool | None
) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow.

    Of all projects or of one: each has its index, and only one half of the statement runs.
    """
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT item, created_at, id, row_number() OVER (ORDER BY created_at DESC, id DESC) AS n
            FROM (
                (SELECT app.session_json(s) AS item, s.created_at, s.id
                FROM app.sessions s
                WHERE s.tenant_id = :tenant_id AND CAST(:project_id AS uuid) IS NULL
                    AND (s.created_at, s.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                    AND (CAST(:closed AS boolean) IS NULL OR s.closed_at IS NOT NULL OR s.closes_at <= now())
                ORDER BY s.created_at DESC, s.id DESC LIMIT CAST(:limit AS integer) + 1)
                UNION ALL
                (SELECT app.session_json(s) AS item, s.created_at, s.id
                FROM app.sessions s
                WHERE s.tenant_id = :tenant_id AND s.project_id = :project_id
                    AND (s.created_at, s.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                    AND (CAST(:closed AS boolean) IS NULL OR s.closed_at IS NOT NULL OR s.closes_at <= now())
                ORDER BY s.created_at DESC, s.id DESC LIMIT CAST(:limit AS integer) + 1)
            ) AS found
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        project_id=project_id,
        closed=closed or None,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def list_open_sessions(
    tx: Tx, *, limit: int, after: list[str] | None, project_id: str | None, status: str
) -> tuple[str, list[str] | None]:
    """The same of those that are open, `active` or `idle`: few among many, which have an index of their own."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT app.session_json(s) AS item, s.created_at, s.id,
                   row_number() OVER (ORDER BY s.created_at DESC, s.id DESC) AS n
            FROM app.sessions s
            WHERE s.tenant_id = :tenant_id AND s.closed_at IS NULL AND s.closes_at > now()
                AND (s.created_at, s.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                AND (CAST(:project_id AS uuid) IS NULL OR s.project_id = :project_id)
                AND app.session_json(s) ->> 'status' = :status
            ORDER BY s.created_at DESC, s.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        project_id=project_id,
        status=status,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def select_session(tx: Tx, session_id: str) -> Written:
    """One session. Raises 404."""
    session = tx.written(
        """
        SELECT s.id, app.session_json(s), s.version FROM app.sessions s
        WHERE s.tenant_id = :tenant_id AND s.id = :session_id
        """,
        session_id=session_id,
    )
    if session is None:
        raise errors.not_found()
    return session


def select_state(tx: Tx, session_id: str) -> State:
    """How far a session is. Raises 404."""
    found = tx.row(
        """
        SELECT s.last_seq, s.closed_at IS NOT NULL OR s.closes_at <= clock_timestamp() FROM app.sessions s
        WHERE s.tenant_id = :tenant_id AND s.id = :session_id
        """,
        session_id=session_id,
    )
    if found is None:
        raise errors.not_found()
    return State(*found)


def insert_session(tx: Tx, *, project_id: str, title: str) -> Written:
    """The new session. Raises 422 for a project that the organization does not have."""
    try:
        session = tx.written(
            """
            INSERT INTO app.sessions AS s (tenant_id, project_id, title, created_by, closes_at)
            VALUES (:tenant_id, :project_id, :title, :user_id,
                    now() + make_interval(secs => CAST(:idle AS double precision) * 61 / 60))
            RETURNING s.id, app.session_json(s), s.version
            """,
            project_id=project_id,
            title=title,
            idle=settings().session_idle_seconds,
        )
    except DatabaseError as error:
        if violates(error, "sessions_of_a_project"):
            raise errors.invalid({"project_id": ["Not a project of this organization."]}) from error
        raise
    if session is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return session


def update_session(tx: Tx, session_id: str, if_match: int | None, change: dict[str, Any]) -> Written | None:
    """The changed session, awake or closed; None for one that is over. Raises 404, 412."""
    session = tx.written(
        """
        UPDATE app.sessions AS s
        SET title = coalesce(:title, s.title), active_at = clock_timestamp(), version = s.version + 1,
            closed_at = CASE WHEN :closes THEN clock_timestamp() END,
            closes_at = clock_timestamp() + make_interval(secs => CAST(:idle AS double precision) * 61 / 60)
        WHERE s.tenant_id = :tenant_id AND s.id = :session_id
            AND s.closed_at IS NULL AND s.closes_at > clock_timestamp()
            AND (CAST(:if_match AS integer) IS NULL OR s.version = :if_match)
        RETURNING s.id, app.session_json(s), s.version
        """,
        session_id=session_id,
        if_match=if_match,
        title=change.get("title"),
        closes=change.get("status") == "closed",
        idle=settings().session_idle_seconds,
    )
    if session is None:
        known = select_session(tx, session_id)
        if if_match is not None and known.version != if_match:
            raise errors.Problem("precondition_failed")
    return session


def delete_session(tx: Tx, session_id: str, if_match: int | None) -> None:
    """Delete a session with its events. Raises 404, 412."""
    deleted = tx.row(
        """
        DELETE FROM app.sessions
        WHERE tenant_id = :tenant_id AND id = :session_id
            AND (CAST(:if_match AS integer) IS NULL OR version = :if_match)
        RETURNING id
        """,
        session_id=session_id,
        if_match=if_match,
    )
    if deleted is None:
        select_session(tx, session_id)
        raise errors.Problem("precondition_failed")


def insert_events(tx: Tx, session_id: str, events: str) -> list[tuple[int, str]]:
    """Append a JSON list of `{type, data}`; seq and JSON text of each, in order. Raises 404, 409 `session_closed`.

    The lock of the session's row stands until the commit: seqs have no gap, and a lower one is visible first. The time
    at which the session closes moves on by a sixtieth of the idle time at once, so that most appends touch no index.
    """
    rows = tx.rows(
        """
        WITH given AS (
            SELECT n, event ->> 'type' AS type, event -> 'data' AS data
            FROM json_array_elements(CAST(:events AS json)) WITH ORDINALITY AS e (event, n)
        ), reached AS (
            UPDATE app.sessions AS s
            SET last_seq = s.last_seq + (SELECT count(*) FROM given), last_event_at = clock_timestamp(),
                active_at = clock_timestamp(),
                closes_at = CASE
                    WHEN s.closes_at < clock_timestamp() + make_interval(secs => CAST(:idle AS double precision))
                    THEN clock_timestamp() + make_interval(secs => CAST(:idle AS double precision) * 61 / 60)
                    ELSE s.closes_at
                END
            WHERE s.tenant_id = :tenant_id AND s.id = :session_id
                AND s.closed_at IS NULL AND s.closes_at > clock_timestamp()
            RETURNING s.last_seq
        )
        INSERT INTO app.session_events AS e (tenant_id, session_id, seq, type, data, created_by)
        SELECT :tenant_id, :session_id, reached.last_seq - (SELECT count(*) FROM given) + given.n, given.type,
               given.data, :user_id
        FROM reached, given ORDER BY given.n
        RETURNING e.seq, app.session_event_json(e)
        """,
        session_id=session_id,
        events=events,
        idle=settings().session_idle_seconds,
    )
    if not rows:
        select_session(tx, session_id)
        raise errors.conflict("session_closed", CLOSED)
    return sorted((seq, text) for seq, text in rows)


def list_events(tx: Tx, session_id: str, *, after: int, limit: int) -> tuple[str, int, int | None]:
    """Events behind a seq as a JSON list, the session's last seq, and the last one listed. Raises 404.

    Asked for by a range of seqs: the planner, who takes a session for small, would read and sort all that follows. Not
    by time as well, though it would spare the partitions of other months: he would read a month of all sessions.
    """
    until = min(after + limit, MAX_SEQ)
    items, tip, last = _events_until(tx, session_id, after=after, until=until, limit=limit)
    if last is None and tip > until:  # these have gone: for their age, or with their author
        items, tip, last = _events_until(tx, session_id, after=after, until=tip, limit=limit)
    return items, tip, last


def _events_until(tx: Tx, session_id: str, *, after: int, until: int, limit: int) -> tuple[str, int, int | None]:
    found = tx.row(
        """
        SELECT page.items, s.last_seq, page.last_seq
        FROM app.sessions s
        CROSS JOIN LATERAL (
            SELECT coalesce(json_agg(json_build_object(
                       'seq', e.seq, 'type', e.type, 'data', e.data, 'created_by', e.created_by,
                       'created_at', to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                   ) ORDER BY e.seq), '[]') AS items, max(e.seq) AS last_seq
            FROM (
                SELECT * FROM app.session_events known
                WHERE known.tenant_id = :tenant_id AND known.session_id = :session_id
                    AND known.seq > :after AND known.seq <= :until
                ORDER BY known.seq LIMIT CAST(:limit AS integer)
            ) AS e
        ) AS page
        WHERE s.tenant_id = :tenant_id AND s.id = :session_id
        """,
        session_id=session_id,
        after=after,
        until=until,
        limit=limit,
    )
    if found is None:
        raise errors.not_found()
    items, tip, last = found
    return items, tip, last


def page_behind(tx: Tx, session_id: str, after: int) -> tuple[int, list[bytes]]:
    """The first seq behind `after` and the JSON text of that event and of those that follow it without a gap.

    At most 100, and 256 KiB unless the first alone is longer; (0, []) when there is none.
    """
    until = min(after + PAGE, MAX_SEQ)  # as in list_events: a range of seqs, and all that follows only behind a hole
    rows = _texts_until(tx, session_id, after, until) or _texts_until(tx, session_id, after, MAX_SEQ)
    first = rows[0][0] if rows else 0
    return first, [text.encode() for place, (seq, text) in enumerate(rows) if seq == first + place]


def _texts_until(tx: Tx, session_id: str, after: int, until: int) -> list[list[Any]]:
    return tx.rows(
        """
        SELECT seq, text
        FROM (
            SELECT e.seq, app.session_event_json(e) AS text, row_number() OVER (ORDER BY e.seq) AS n,
                   sum(octet_length(CAST(e.data AS text)) + 128) OVER (ORDER BY e.seq) AS size
            FROM (
                SELECT * FROM app.session_events known
                WHERE known.tenant_id = :tenant_id AND known.session_id = :session_id
                    AND known.seq > :after AND known.seq <= :until
                ORDER BY known.seq LIMIT 100
            ) AS e
        ) AS page
        WHERE n = 1 OR size <= 262144
        ORDER BY seq
        """,
        session_id=session_id,
        after=after,
        until=until,
    )
