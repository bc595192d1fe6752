"""The audit chain: literal SQL, one function per query."""

import re
from datetime import datetime

from common.db import Tx

TYPE = re.compile(r"[a-z_]+")  # of a resource; no id is so simple
PROBE = 200  # events that a look ahead counts


LIST = """
    WITH bounds AS MATERIALIZED (
        SELECT greatest(
                   coalesce((SELECT h.base_seq FROM app.audit_heads h WHERE h.tenant_id = :tenant_id), 0) + 1,
                   CASE WHEN CAST(:since AS timestamptz) IS NULL THEN 0 ELSE coalesce(
                       (SELECT e.seq FROM app.audit_events e WHERE e.tenant_id = :tenant_id AND e.at >= :since
                        ORDER BY e.at, e.seq LIMIT 1), 9223372036854775807) END) AS first,
               least(
                   coalesce(CAST(:after AS bigint) - 1, 9223372036854775807),
                   CASE WHEN CAST(:until AS timestamptz) IS NULL THEN 9223372036854775807 ELSE coalesce(
                       (SELECT e.seq FROM app.audit_events e WHERE e.tenant_id = :tenant_id AND e.at <= :until
                        ORDER BY e.at DESC, e.seq DESC LIMIT 1), 0) END) AS last
    ), choice AS MATERIALIZED (
        SELECT CASE WHEN :drive <> 'rarest' THEN :drive ELSE (
            SELECT r.name FROM (VALUES
                ('actor', CASE WHEN CAST(:actor AS uuid) IS NOT NULL THEN coalesce(
                    (SELECT e.seq FROM app.audit_events e
                     WHERE e.tenant_id = :tenant_id AND e.actor_id = CAST(:actor AS uuid)
                         AND e.seq >= (SELECT first FROM bounds) AND e.seq <= (SELECT last FROM bounds)
                     ORDER BY e.seq DESC OFFSET :probe LIMIT 1), 0) END),
                ('action', CASE WHEN CAST(:action AS text) IS NOT NULL THEN coalesce(
                    (SELECT e.seq FROM app.audit_events e
                     WHERE e.tenant_id = :tenant_id AND e.action = CAST(:action AS text)
                         AND e.seq >= (SELECT first FROM bounds) AND e.seq <= (SELECT last FROM bounds)
                     ORDER BY e.seq DESC OFFSET :probe LIMIT 1), 0) END),
                ('resource', CASE WHEN CAST(:resource AS text) IS NOT NULL THEN coalesce(
                    (SELECT e.seq FROM app.audit_events e
                     WHERE e.tenant_id = :tenant_id AND e.resource_type = CAST(:resource AS text)
                         AND e.seq >= (SELECT first FROM bounds) AND e.seq <= (SELECT last FROM bounds)
                     ORDER BY e.seq DESC OFFSET :probe LIMIT 1), 0) END)
            ) AS r (name, reach) ORDER BY r.reach NULLS LAST LIMIT 1) END AS drive
    ), page AS MATERIALIZED (
        SELECT found.seq FROM (
            (SELECT e.seq FROM app.audit_events e
             WHERE (SELECT drive FROM choice) = 'nothing' AND e.tenant_id = :tenant_id
                 AND e.seq >= (SELECT first FROM bounds) AND e.seq <= (SELECT last FROM bounds)
             ORDER BY e.seq DESC LIMIT CAST(:limit AS integer) + 1)
            UNION ALL
            (SELECT e.seq FROM app.audit_events e
             WHERE (SELECT drive FROM choice) = 'actor' AND e.tenant_id = :tenant_id
                 AND e.actor_id = CAST(:actor AS uuid)
                 AND e.seq >= (SELECT first FROM bounds) AND e.seq <= (SELECT last FROM bounds)
                 AND (CAST(:action AS text) IS NULL OR e.action = :action)
                 AND (CAST(:resource AS text) IS NULL OR e.resource_type = :resource OR e.resource_id = :resource)
             ORDER BY e.seq DESC LIMIT CAST(:limit AS integer) + 1)
            UNION ALL
            (SELECT e.seq FROM app.audit_events e
             WHERE (SELECT drive FROM choice) = 'action' AND e.tenant_id = :tenant_id
                 AND e.action = CAST(:action AS text)
                 AND e.seq >= (SELECT first FROM bounds) AND e.seq <= (SELECT last FROM bounds)
                 AND (CAST(:resource AS text) IS NULL OR e.resource_type = :resource OR e.resource_id = :resource)
             ORDER BY e.seq DESC LIMIT CAST(:limit AS integer) + 1)
            UNION ALL
            (SELECT e.seq FROM app.audit_events e
             WHERE (SELECT drive FROM choice) = 'resource' AND e.tenant_id = :tenant_id
                 AND e.resource_id = CAST(:resource AS text)
                 AND e.seq >= (SELECT first FROM bounds) AND e.seq <= (SELECT last FROM bounds)
                 AND (CAST(:actor AS uuid) IS NULL OR e.actor_id = :actor)
                 AND (CAST(:action AS text) IS NULL OR e.action = :action)
             ORDER BY e.seq DESC LIMIT CAST(:limit AS integer) + 1)
            UNION ALL
            (SELECT e.seq FROM app.audit_events e
             WHERE (SELECT drive FROM choice) = 'resource' AND e.tenant_id = :tenant_id
                 AND e.resource_type = CAST(:resource AS text)
                 AND e.resource_id IS DISTINCT FROM :resource
                 AND e.seq >= (SELECT first FROM bounds) AND e.seq <= (SELECT last FROM bounds)
                 AND (CAST(:actor AS uuid) IS NULL OR e.actor_id = :actor)
                 AND (CAST(:action AS text) IS NULL OR e.action = :action)
             ORDER BY e.seq DESC LIMIT CAST(:limit AS integer) + 1)
        ) AS found
        ORDER BY found.seq DESC LIMIT CAST(:limit AS integer) + 1
    ), shown AS (
        SELECT p.seq FROM page p ORDER BY p.seq DESC LIMIT :limit
    )
    SELECT coalesce(json_agg((SELECT app.audit_event_json(e) FROM app.audit_events e
                              WHERE e.tenant_id = :tenant_id AND e.seq = s.seq) ORDER BY s.seq DESC), '[]'),
           (SELECT count(*) FROM page) > :limit, min(s.seq)
    FROM shown s
"""


def list_events(
    tx: Tx,
    *,
    limit: int,
    after: list[str] | None,
    actor: str | None,
    action: str | None,
    resource: str | None,
    since: datetime | None,
    until: datetime | None,
) -> tuple[str, list[str] | None]:
    """A page of events as JSON text, newest first, and the seq of its last one when more follow.

    Each filter walks an index of its own, newest first, whatever the plan knows of its values; of several the one whose
    events reach back furthest, being the rarest. Times are bounds of the seq, since `at` never goes back.
    """
    rows = tx.rows(
        LIST,
        drive=_drive(actor, action, resource),
        probe=PROBE,
        limit=limit,
        after=int(after[0]) if after else None,
        actor=actor,
        action=action,
        resource=resource,
        since=since,
        until=until,
    )
    items, more, last = rows[0]
    return items, [str(last)] if more else None


def _drive(actor: str | None, action: str | None, resource: str | None) -> str:
    """Which filter's index is walked: an id of a resource has few events; of others, a look ahead finds the rarest."""
    if resource is not None and not TYPE.fullmatch(resource):
        return "resource"
    filters = (("actor", actor), ("action", action), ("resource", resource))
    given = [name for name, value in filters if value is not None]
    return "rarest" if len(given) > 1 else given[0] if given else "nothing"
