"""Login sessions and the families of their refresh tokens: literal SQL, one function per query."""

from dataclasses import dataclass
from typing import Any

from common import errors, pagination
from common.db import Tx
from functions.auth.queries import SELECT_PERSON, Person, person_of


@dataclass(frozen=True)
class Session:
    """A login session as its tokens show it; times in Unix seconds, `refresh_seconds` until the token expires."""

    id: str
    auth_time: int
    amr: list[str]
    refresh_seconds: int


@dataclass(frozen=True)
class Family:
    """The family of a presented refresh token; see identity.lock_refresh_family."""

    account_id: str
    session_id: str
    tenant_id: str
    generation: int
    tip: int
    seconds_since_use: float | None
    dead: bool
    member: bool


def insert_login_session(tx: Tx, session: dict[str, Any], refresh_hash: bytes) -> tuple[Session, Person]:
    """A new login session with the first token of its family, and whose it is.

    `session`: id, amr, ip, user_agent, lifetime and refresh_lifetime in seconds, and `origin`: the login session whose
    proof of identity and end are taken over, or None for a fresh proof.
    """
    opened, token, person = tx.flight(
        (
            """
            INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, ip, user_agent, auth_time, proved_at,
                                                 expires_at)
            SELECT CAST(:id AS uuid), CAST(:user_id AS uuid), CAST(:tenant_id AS uuid),
                   coalesce(o.amr, CAST(:amr AS text[])), CAST(:ip AS inet), CAST(:user_agent AS text),
                   coalesce(o.auth_time, now()), coalesce(o.proved_at, now()),
                   coalesce(o.expires_at, now() + make_interval(secs => :lifetime))
            FROM (VALUES (true)) AS one
            LEFT JOIN identity.login_sessions o ON o.id = :origin AND o.account_id = :user_id
            RETURNING floor(extract(epoch FROM auth_time))::bigint, amr
            """,
            {name: session[name] for name in ("id", "amr", "ip", "user_agent", "lifetime", "origin")},
        ),
        (
            """
            INSERT INTO identity.refresh_tokens (token_hash, account_id, login_session_id, generation, expires_at)
            SELECT CAST(:hash AS bytea), s.account_id, s.id, 0,
                   least(now() + make_interval(secs => :lifetime), s.expires_at)
            FROM identity.login_sessions s WHERE s.id = :id AND s.account_id = :user_id
            RETURNING floor(extract(epoch FROM expires_at - now()))::bigint
            """,
            {"id": session["id"], "hash": refresh_hash, "lifetime": session["refresh_lifetime"]},
        ),
        (SELECT_PERSON, {}),
    )
    return Session(session["id"], opened[0][0], opened[0][1], token[0][0]), person_of(tx, person)


def lock_family(tx: Tx, presented: bytes) -> Family | None:
    """The family of a presented refresh token, locked until the transaction ends."""
    found = tx.row("SELECT * FROM identity.lock_refresh_family(:presented)", presented=presented)
    return Family(*found) if found else None


def rotate_refresh_token(tx: Tx, family: Family, presented: bytes, successor: dict[str, Any]) -> tuple[Session, Person]:
    """The presented token is spent, its successor (`hash`, `kid`, `lifetime`) is the family's tip."""
    _, session, token, person = tx.flight(
        (
            """
            UPDATE identity.refresh_tokens SET first_used_at = clock_timestamp()
            WHERE token_hash = :presented AND account_id = :user_id
            """,
            {"presented": presented},
        ),
        (
            """
            UPDATE identity.login_sessions SET tip = tip + 1, last_used_at = now()
            WHERE id = :session AND account_id = :user_id
            RETURNING floor(extract(epoch FROM auth_time))::bigint, amr
            """,
            {"session": family.session_id},
        ),
        (
            """
            INSERT INTO identity.refresh_tokens
                (token_hash, account_id, login_session_id, generation, kid, expires_at)
            SELECT CAST(:hash AS bytea), s.account_id, s.id, s.tip, CAST(:kid AS text),
                   least(now() + make_interval(secs => :lifetime), s.expires_at)
            FROM identity.login_sessions s WHERE s.id = :session AND s.account_id = :user_id
            RETURNING floor(extract(epoch FROM expires_at - now()))::bigint
            """,
            {**successor, "session": family.session_id},
        ),
        (SELECT_PERSON, {}),
    )
    return Session(family.session_id, session[0][0], session[0][1], token[0][0]), person_of(tx, person)


def select_tip(tx: Tx, family: Family) -> tuple[list[str], Session, Person]:
    """The keys that lead from the presented token to the family's tip, in order; the session; whose it is."""
    steps, session, person = tx.flight(
        (
            """
            SELECT r.kid FROM identity.refresh_tokens r
            WHERE r.login_session_id = :session AND r.account_id = :user_id AND r.generation > :generation
            ORDER BY r.generation
            """,
            {"session": family.session_id, "generation": family.generation},
        ),
        (
            """
            SELECT floor(extract(epoch FROM s.auth_time))::bigint, s.amr,
                   floor(extract(epoch FROM r.expires_at - now()))::bigint
            FROM identity.login_sessions s
            JOIN identity.refresh_tokens r ON r.login_session_id = s.id AND r.generation = s.tip
            WHERE s.id = :session AND s.account_id = :user_id
            """,
            {"session": family.session_id},
        ),
        (SELECT_PERSON, {}),
    )
    return [row[0] for row in steps], Session(family.session_id, *session[0]), person_of(tx, person)


def revoke_session(tx: Tx, session_id: str) -> None:
    """End one of the person's login sessions. Raises 404."""
    ended = tx.row(
        """
        UPDATE identity.login_sessions SET revoked_at = clock_timestamp()
        WHERE id = :session AND account_id = :user_id AND revoked_at IS NULL AND expires_at > clock_timestamp()
        RETURNING id
        """,
        session=session_id,
    )
    if ended is None:
        raise errors.not_found()


def revoke_all_sessions(tx: Tx) -> int:
    """End all of the person's login sessions, and those that wait for a second factor; how many sessions there were."""
    _, ended = tx.flight(
        ("DELETE FROM identity.mfa_challenges WHERE account_id = :user_id", {}),
        (
            """
            UPDATE identity.login_sessions SET revoked_at = clock_timestamp()
            WHERE account_id = :user_id AND revoked_at IS NULL AND expires_at > clock_timestamp()
            RETURNING id
            """,
            {},
        ),
    )
    return len(ended)


def list_sessions(tx: Tx, *, limit: int, after: list[str] | None, current: str) -> tuple[str, list[str] | None]:
    """A page of live sessions as JSON text, newest first, and the last one's ordering values when more follow."""
    time, last = after or pagination.START
    items, more, oldest, last_id = tx.rows(
        """
        SELECT coalesce(json_agg(item) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT json_build_object(
                       'id', s.id,
                       'created_at', to_char(s.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                       'last_used_at', to_char(s.last_used_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                       'ip', host(s.ip), 'user_agent', s.user_agent, 'current', s.id = :current) AS item,
                   s.created_at, s.id, row_number() OVER (ORDER BY s.created_at DESC, s.id DESC) AS n
            FROM identity.login_sessions s
            WHERE s.account_id = :user_id AND s.revoked_at IS NULL AND s.expires_at > clock_timestamp()
                AND (s.created_at, s.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
            ORDER BY s.created_at DESC, s.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        current=current,
    )[0]
    return items, [oldest, last_id] if more else None


def update_auth_time(tx: Tx, session_id: str) -> tuple[int, list[str]]:
    """The login session is proved anew: its `auth_time` in Unix seconds and its methods."""
    found = tx.rows(
        """
        UPDATE identity.login_sessions SET auth_time = clock_timestamp()
        WHERE id = :session AND account_id = :user_id
        RETURNING floor(extract(epoch FROM auth_time))::bigint, amr
        """,
        session=session_id,
    )[0]
    return found[0], found[1]
