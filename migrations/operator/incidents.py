"""Incidents of the platform: each opens a record in every organization that it touches (Art. 33(2) GDPR)."""

import uuid
from argparse import Namespace
from typing import Any

from migrations.operator.desk import DENIED, DONE, REFUSED, SUCCESS, Answer, Desk, progress, table

TOGETHER = 50  # organizations per transaction
CLOSED = {
    "closed": "closed",
    "unchanged": "it is closed already",
    "unknown": "there is no such incident",
    "incomplete": "say when the authority was told (--notified-at), or why it was not or late (--explanation)",
}


def open_incident(desk: Desk, chosen: Namespace) -> Answer:
    """Note the incident, then open a record in each organization. What a kill left, the job `deadlines` finishes."""
    organizations = _organizations(desk, chosen)
    if organizations == []:
        with desk.transaction():
            desk.record("incident.opened", "incident", outcome=DENIED, result="nobody", severity=chosen.severity)
        return Answer(REFUSED, ["no organization was touched: nothing was opened"], {"outcome": "nobody"})
    incident = uuid.uuid4()
    with desk.transaction():
        affected = desk.value(
            "SELECT platform.open_incident(:incident, :title, :severity,"
            " coalesce(CAST(:detected_at AS timestamptz), clock_timestamp()), CAST(:data_classes AS text[]),"
            " CAST(:organizations AS uuid[]), :description, CAST(:noted AS jsonb), :request)",
            incident=incident,
            title=chosen.title,
            severity=chosen.severity,
            detected_at=chosen.detected_at and chosen.detected_at.isoformat(),
            data_classes=chosen.data_class,
            organizations=organizations,
            description=chosen.description,
        )
    progress(f"{incident} is noted: should this end here, the job `deadlines` tells the organizations that are left")
    opened = 0
    while True:
        with desk.transaction():
            more = desk.value(
                "SELECT platform.fan_out_incident(:incident, :most, :request)", incident=incident, most=TOGETHER
            )
        opened += more
        if not more:
            break
        progress(f"{opened} of {affected} organizations")
    lines = [f"{incident} opened in {opened} organizations"]
    return Answer(DONE, lines, {"incident_id": str(incident), "organizations": affected, "opened": opened})


def _organizations(desk: Desk, chosen: Namespace) -> list[uuid.UUID] | None:
    """Those that were named, or those in whose chains the time range shows something; None for all."""
    if chosen.all or chosen.organization:
        return chosen.organization or None
    with desk.transaction():
        rows = desk.rows(
            "SELECT tenant_id FROM platform.affected_organizations("
            "CAST(:since AS timestamptz), CAST(:until AS timestamptz), CAST(:actor AS uuid), CAST(:network AS text))",
            since=chosen.since.isoformat(),
            until=chosen.until.isoformat(),
            actor=chosen.actor,
            network=chosen.ip,
        )
    return [row[0] for row in rows]


def list_incidents(desk: Desk, chosen: Namespace) -> Answer:
    """The newest first; `untold`: organizations in which nobody could be mailed."""
    with desk.transaction():
        found = desk.tables("SELECT * FROM platform.list_incidents(:most)", most=chosen.limit)
        desk.record("incident.read", "incident", incidents=len(found))
    return Answer(DONE, table(found, "there is no incident"), {"incidents": found})


def close_incident(desk: Desk, chosen: Namespace) -> Answer:
    """Say when the authority was told, or why it was not."""
    notified: Any = chosen.notified_at.isoformat() if chosen.notified_at else None
    with desk.transaction():
        outcome = desk.value(
            "SELECT platform.close_incident(:incident, CAST(:notified AS timestamptz), :explanation,"
            " CAST(:noted AS jsonb), :request)",
            incident=chosen.incident,
            notified=notified,
            explanation=chosen.explanation,
        )
        if outcome != "closed":
            known = SUCCESS if outcome == "unchanged" else DENIED
            desk.record("incident.closed", "incident", str(chosen.incident), outcome=known, result=outcome)
    code = DONE if outcome in ("closed", "unchanged") else REFUSED
    return Answer(code, [CLOSED[outcome]], {"incident_id": str(chosen.incident), "outcome": outcome})
