"""Consents: literal SQL, one function per query."""

from typing import NamedTuple

from common import pagination
from common.consents import Withdrawal
from common.db import Tx, Written, database
from common.tokens import Claim

NOBODY = Claim("u")


class Put(NamedTuple):
    """What came of a decision; `before` is what the person had said until then, None for nothing."""

    outcome: str
    id: str | None
    before: bool | None
    shown: str
    version: int


def list_purposes(tx: Tx) -> str:
    """Every purpose that the caller's organization and the platform ask for, as JSON text."""
    found: str = tx.value(
        """
        SELECT coalesce(json_agg(json_build_object(
            'purpose', p.purpose, 'version', p.version, 'marketing', p.marketing, 'text', p.text,
            'text_hash', p.text_hash, 'scope', p.scope,
            'created_at', to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        ) ORDER BY p.purpose), '[]')
        FROM app.consent_purposes() p
        """
    )
    return found


def put_text(
    tx: Tx, purpose: str, text: str, *, marketing: bool | None = None, if_match: int | None = None
) -> tuple[str, Written | None]:
    """Outcome of app.put_consent_text, and the purpose as it is then. `marketing` makes a new one."""
    outcome, purposes = tx.flight(
        (
            "SELECT p.outcome FROM app.put_consent_text(:purpose, :text, :marketing, :if_match) p",
            {"purpose": purpose, "text": text, "marketing": marketing, "if_match": if_match},
        ),
        (
            """
            SELECT p.purpose, json_build_object(
                'purpose', p.purpose, 'version', p.version, 'marketing', p.marketing, 'text', p.text,
                'text_hash', p.text_hash, 'scope', p.scope,
                'created_at', to_char(p.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            ), p.version
            FROM app.consent_purposes() p WHERE p.purpose = :purpose
            """,
            {"purpose": purpose},
        ),
    )
    return str(outcome[0][0]), Written(*purposes[0]) if purposes else None


def list_consents(tx: Tx) -> str:
    """The caller's newest decisions as JSON text."""
    found: str = tx.value("SELECT coalesce(json_agg(c), '[]') FROM app.my_consents() c")
    return found


def put_consent(
    tx: Tx, purpose: str, *, granted: bool, version: int | None, signal: str | None, personal: dict[str, str | None]
) -> Put:
    """Write the caller's decision down, if it is one."""
    found = tx.rows(
        """
        SELECT p.outcome, p.consent_id, p.before, p.shown, CAST(p.shown ->> 'version' AS integer)
        FROM app.put_consent(:purpose, :version, :granted, :signal, CAST(:ip AS inet), :user_agent) p
        """,
        purpose=purpose,
        version=version,
        granted=granted,
        signal=signal,
        **personal,
    )
    return Put(*found[0])


def list_history(tx: Tx, *, limit: int, after: list[str] | None) -> tuple[str, list[str] | None]:
    """A page of the caller's decisions as JSON text, newest first, and the ordering values of its last one."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item ORDER BY n) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT json_build_object(
                       'id', c.id, 'purpose', c.purpose, 'scope', c.scope, 'version', c.version,
                       'text_hash', c.text_hash, 'granted', c.granted, 'source', c.source, 'signal', c.signal,
                       'ip', host(c.ip), 'user_agent', c.user_agent,
                       'at', to_char(c.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) AS item,
                   c.at, c.id, row_number() OVER (ORDER BY c.at DESC, c.id DESC) AS n
            FROM (
                SELECT p.id, p.purpose, 'platform' AS scope, p.version, p.text_hash, p.granted, p.source, p.signal,
                       p.ip, p.user_agent, p.at
                FROM identity.consents p WHERE p.account_id = :user_id
                UNION ALL
                SELECT o.id, o.purpose, 'organization', o.version, o.text_hash, o.granted, o.source, o.signal,
                       o.ip, o.user_agent, o.at
                FROM app.member_consents o WHERE o.tenant_id = :tenant_id AND o.user_id = :user_id
            ) AS c
            WHERE (c.at, c.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
            ORDER BY c.at DESC, c.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def unsubscribe(
    withdrawal: Withdrawal, *, signal: str | None, personal: dict[str, str | None], request_id: str
) -> None:
    """Withdraw what a link of ours names; nothing happens where there is nothing to withdraw."""
    database().single(
        NOBODY,
        """
        SELECT identity.unsubscribe(:account, :organization, :purpose, :signal, CAST(:ip AS inet), :user_agent,
                                    :request)
        """,
        account=withdrawal.account_id,
        organization=withdrawal.organization_id,
        purpose=withdrawal.purpose,
        signal=signal,
        request=request_id,
        **personal,
    )
