"""The scope of an incident: literal SQL, one function per query."""

import json
from datetime import datetime
from typing import Any

from common import errors
from common.db import Tx, Written


def select_scope(
    tx: Tx,
    incident_id: str,
    *,
    limit: int,
    after: list[str] | None,
    since: datetime,
    until: datetime,
    who: str | None,
    network: str | None,
) -> tuple[dict[str, Any], int, list[dict[str, Any]], list[str] | None]:
    """The facts of a time range, how many people it touched, a page of them, most events first, and where it ends.

    Raises 404 for an incident that is not there.
    """
    events, last = (int(after[0]), after[1]) if after else (None, None)
    bounds = {"since": since, "until": until, "who": who, "network": network}
    known, facts, people = tx.flight(
        (
            "SELECT count(*) FROM app.incidents WHERE tenant_id = :tenant_id AND id = :incident_id",
            {"incident_id": incident_id},
        ),
        ("SELECT app.incident_facts(:since, :until, :who, CAST(:network AS inet))", bounds),
        (
            """
            WITH found AS MATERIALIZED (
                SELECT p.user_id, p.events, p.resources
                FROM app.incident_people(:since, :until, :who, CAST(:network AS inet)) p
            ), page AS (
                SELECT f.*, row_number() OVER (ORDER BY f.events DESC, f.user_id) AS n FROM found f
                WHERE CAST(:events AS bigint) IS NULL OR f.events < :events
                    OR (f.events = :events AND f.user_id > CAST(:last AS uuid))
                ORDER BY f.events DESC, f.user_id LIMIT CAST(:limit AS integer) + 1
            )
            SELECT (SELECT count(*) FROM found),
                   coalesce(json_agg(json_build_object('user_id', p.user_id, 'events', p.events,
                                                       'resources', p.resources) ORDER BY p.n)
                            FILTER (WHERE p.n <= :limit), '[]'),
                   coalesce(max(p.n) > :limit, false), max(p.events) FILTER (WHERE p.n = :limit),
                   max(p.user_id::text) FILTER (WHERE p.n = :limit)
            FROM page p
            """,
            {**bounds, "events": events, "last": last, "limit": limit},
        ),
    )
    if not known[0][0]:
        raise errors.not_found()
    count, page, more, end, end_id = people[0]
    return _json(facts[0][0]), count, _json(page), [str(end), end_id] if more else None


def select_facts(tx: Tx, *, since: datetime, until: datetime, who: str | None, network: str | None) -> dict[str, Any]:
    """What the events of a time range touched, in numbers."""
    found: dict[str, Any] = _json(
        tx.value(
            "SELECT app.incident_facts(:since, :until, :who, CAST(:network AS inet))",
            since=since,
            until=until,
            who=who,
            network=network,
        )
    )
    return found


def keep_scope(
    tx: Tx,
    incident_id: str,
    *,
    since: datetime,
    until: datetime,
    who: str | None,
    network: str | None,
    events: int,
    classes: list[str],
) -> tuple[str, Written | None]:
    """Outcome (`done`, `unknown`, `closed`) and the incident with its new scope."""
    outcome, shown = tx.flight(
        (
            """
            SELECT app.keep_scope(:incident_id, :since, :until, :who, CAST(:network AS inet), :events,
                                  CAST(:classes AS text[]))
            """,
            {
                "incident_id": incident_id,
                "since": since,
                "until": until,
                "who": who,
                "network": network,
                "events": events,
                "classes": classes,
            },
        ),
        (
            """
            SELECT i.id, app.incident_json(i), i.version FROM app.incidents i
            WHERE i.tenant_id = :tenant_id AND i.id = :incident_id
            """,
            {"incident_id": incident_id},
        ),
    )
    return outcome[0][0], Written(*shown[0]) if shown else None


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
