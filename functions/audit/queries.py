"""The audit chain: literal SQL, one function per query."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from common.db import Tx

BATCH = 2000


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
    """A page of events as JSON text, newest first, and the seq of its last one when more follow."""
    rows = tx.rows(
        """
        WITH page AS (
            SELECT e.seq, app.audit_event_json(e) AS item
            FROM app.audit_events e
            WHERE e.tenant_id = :tenant_id
                AND (CAST(:after AS bigint) IS NULL OR e.seq < :after)
                AND (CAST(:actor AS uuid) IS NULL OR e.actor_id = :actor)
                AND (CAST(:action AS text) IS NULL OR e.action = :action)
                AND (CAST(:resource AS text) IS NULL OR e.resource_id = :resource OR e.resource_type = :resource)
                AND (CAST(:since AS timestamptz) IS NULL OR e.at >= :since)
                AND (CAST(:until AS timestamptz) IS NULL OR e.at <= :until)
            ORDER BY e.seq DESC
            LIMIT CAST(:limit AS integer) + 1
        ), shown AS (
            SELECT * FROM page ORDER BY seq DESC LIMIT :limit
        )
        SELECT coalesce(json_agg(item ORDER BY seq DESC), '[]'), (SELECT count(*) FROM page) > :limit, min(seq)
        FROM shown
        """,
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


def chain(tx: Tx, last: int) -> Iterator[dict[str, Any]]:
    """Every event from the first to seq `last`, a batch in memory at a time."""
    seq = 0
    while True:
        rows = tx.rows(
            """
            SELECT e.seq, app.audit_event_json(e) FROM app.audit_events e
            WHERE e.tenant_id = :tenant_id AND e.seq > :seq AND e.seq <= :last ORDER BY e.seq LIMIT :batch
            """,
            seq=seq,
            last=last,
            batch=BATCH,
        )
        for row in rows:
            yield json.loads(row[1])
        if len(rows) < BATCH:
            return
        seq = rows[-1][0]


def head(tx: Tx) -> tuple[int, str, int]:
    """Seq and hash of the chain's head row, and the last seq that an event has, all of one moment."""
    row = tx.row(
        """
        SELECT coalesce(max(h.seq), 0), coalesce(max(h.hash), repeat('0', 64)),
               (SELECT coalesce(max(seq), 0) FROM app.audit_events WHERE tenant_id = :tenant_id)
        FROM app.audit_heads h WHERE h.tenant_id = :tenant_id
        """
    )
    if row is None:
        raise AssertionError("an aggregate gave no row")
    return row[0], row[1], row[2]
