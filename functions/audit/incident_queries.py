"""Incidents: literal SQL, one function per query."""

import json
from datetime import datetime
from typing import Any

from common import errors, pagination
from common.db import Tx, Written
from common.wire import DatabaseError, violates

TIMES = "incidents_times"
WRONG_TIMES = {"ended_at": ["Must not be before started_at."]}
CLOSED = "The incident is closed: set its status to open or contained first."
LACKS = {
    "risk": "Judge the risk first.",
    "notification": "The authority was not notified, and no reason is documented: risk unlikely needs its"
    " no_notification_reason (Art. 33(5) GDPR).",
    "delay_reason": "The authority was notified late: record a notice with the delay_reason (Art. 33(1) GDPR).",
    "communication": "The risk is high: the people concerned have to be told, or a no_communication_reason documented"
    " (Art. 34 GDPR).",
}


def list_incidents(
    tx: Tx, *, limit: int, after: list[str] | None, status: str | None, severity: str | None, overdue: bool | None
) -> tuple[str, list[str] | None]:
    """A page as JSON text, newest first, and the ordering values of its last item when more follow."""
    time, last = after or pagination.START
    rows = tx.rows(
        """
        SELECT coalesce(json_agg(item ORDER BY n) FILTER (WHERE n <= :limit), '[]'), coalesce(max(n) > :limit, false),
               max(created_at) FILTER (WHERE n = :limit), max(id::text) FILTER (WHERE n = :limit)
        FROM (
            SELECT app.incident_json(i) AS item, i.created_at, i.id,
                   row_number() OVER (ORDER BY i.created_at DESC, i.id DESC) AS n
            FROM app.incidents i
            WHERE i.tenant_id = :tenant_id
                AND (i.created_at, i.id) < (CAST(:time AS timestamptz), CAST(:last AS uuid))
                AND (CAST(:status AS text) IS NULL OR i.status = :status)
                AND (CAST(:severity AS text) IS NULL OR i.severity = :severity)
                AND (CAST(:overdue AS boolean) IS NULL
                     OR (platform.notify_by(i.detected_at) <= now() AND app.incident_undecided(i)) = :overdue)
            ORDER BY i.created_at DESC, i.id DESC
            LIMIT CAST(:limit AS integer) + 1
        ) AS page
        """,
        limit=limit,
        time=time,
        last=last,
        status=status,
        severity=severity,
        overdue=overdue,
    )
    items, more, oldest, last_id = rows[0]
    return items, [oldest, last_id] if more else None


def select_incident(tx: Tx, incident_id: str) -> Written:
    """One incident. Raises 404."""
    found = tx.written(
        """
        SELECT i.id, app.incident_json(i), i.version FROM app.incidents i
        WHERE i.tenant_id = :tenant_id AND i.id = :incident_id
        """,
        incident_id=incident_id,
    )
    if found is None:
        raise errors.not_found()
    return found


def select_facts(tx: Tx, incident_id: str) -> tuple[dict[str, Any], str]:
    """The incident as its JSON says, and the organization's name. Raises 404."""
    found = tx.row(
        """
        SELECT app.incident_json(i), g.name FROM app.incidents i
        JOIN app.organizations g ON g.tenant_id = i.tenant_id
        WHERE i.tenant_id = :tenant_id AND i.id = :incident_id
        """,
        incident_id=incident_id,
    )
    if found is None:
        raise errors.not_found()
    return json.loads(found[0]), found[1]


def insert_incident(tx: Tx, incident: dict[str, Any]) -> Written:
    """The new incident. Raises 422 when it ended before it began."""
    empty = {"description", "consequences", "measures", "contact", "no_notification_reason", "no_communication_reason"}
    given: dict[str, Any] = dict.fromkeys(empty, "")
    given |= {"data_classes": [], "risk": "undecided", "started_at": None, "ended_at": None}
    given |= {"affected_people": None, "affected_records": None, **incident}
    try:
        made = tx.written(
            """
            INSERT INTO app.incidents AS i
                (tenant_id, title, description, severity, status, detected_at, first_detected_at, started_at, ended_at,
                 data_classes, risk, affected_people, affected_records, consequences, measures, contact,
                 no_notification_reason, no_communication_reason, created_by)
            VALUES (:tenant_id, :title, :description, :severity, :status, :detected_at, :detected_at, :started_at,
                    :ended_at, :data_classes, :risk, :affected_people, :affected_records, :consequences, :measures,
                    :contact, :no_notification_reason, :no_communication_reason, :user_id)
            RETURNING i.id, app.incident_json(i), i.version
            """,
            **given,
        )
    except DatabaseError as error:
        if violates(error, TIMES):
            raise errors.invalid(WRONG_TIMES) from error
        raise
    if made is None:
        raise AssertionError("INSERT … RETURNING gave no row")
    return made


def lock_incident(tx: Tx, incident_id: str) -> tuple[int, str, datetime, bool, datetime]:
    """Version, status, detected_at, whether the authority was notified before, notify_by; nobody else changes it now.

    Raises 404.
    """
    found = tx.row(
        """
        SELECT i.version, i.status, platform.utc(i.detected_at),
               EXISTS (SELECT FROM app.incident_notices n WHERE n.tenant_id = i.tenant_id AND n.incident_id = i.id
                           AND n.recipient = 'authority'),
               platform.utc(platform.notify_by(i.detected_at))
        FROM app.incidents i WHERE i.tenant_id = :tenant_id AND i.id = :incident_id FOR NO KEY UPDATE
        """,
        incident_id=incident_id,
    )
    if found is None:
        raise errors.not_found()
    version, status, detected_at, notified, notify_by = found
    return version, status, _moment(detected_at), notified, _moment(notify_by)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def update_incident(tx: Tx, incident_id: str, change: dict[str, Any]) -> Written:
    """The changed incident, which is locked. Raises 409 when it cannot be closed yet, 422."""
    nullable = ("started_at", "ended_at", "affected_people", "affected_records")
    plain = (
        *("title", "description", "severity", "status", "detected_at", "data_classes", "risk", "consequences"),
        *("measures", "contact", "no_notification_reason", "no_communication_reason"),
    )
    try:
        found = tx.row(
            """
            UPDATE app.incidents AS i
            SET title = coalesce(:title, i.title), description = coalesce(:description, i.description),
                severity = coalesce(:severity, i.severity), status = coalesce(:status, i.status),
                detected_at = coalesce(:detected_at, i.detected_at),
                data_classes = coalesce(:data_classes, i.data_classes), risk = coalesce(:risk, i.risk),
                consequences = coalesce(:consequences, i.consequences), measures = coalesce(:measures, i.measures),
                contact = coalesce(:contact, i.contact),
                no_notification_reason = coalesce(:no_notification_reason, i.no_notification_reason),
                no_communication_reason = coalesce(:no_communication_reason, i.no_communication_reason),
                started_at = CASE WHEN 'started_at' = ANY (CAST(:given AS text[])) THEN :started_at
                                  ELSE i.started_at END,
                ended_at = CASE WHEN 'ended_at' = ANY (CAST(:given AS text[])) THEN :ended_at ELSE i.ended_at END,
                affected_people = CASE WHEN 'affected_people' = ANY (CAST(:given AS text[])) THEN :affected_people
                                       ELSE i.affected_people END,
                affected_records = CASE WHEN 'affected_records' = ANY (CAST(:given AS text[])) THEN :affected_records
                                        ELSE i.affected_records END,
                closed_at = CASE WHEN coalesce(:status, i.status) = 'closed' THEN coalesce(i.closed_at, now()) END,
                updated_at = now(), version = i.version + 1
            WHERE i.tenant_id = :tenant_id AND i.id = :incident_id
            RETURNING i.id, app.incident_json(i), i.version,
                      CASE WHEN i.status = 'closed' THEN app.incident_lacks(i) END
            """,
            incident_id=incident_id,
            given=[name for name in nullable if name in change],
            **{name: change.get(name) for name in (*plain, *nullable)},
        )
    except DatabaseError as error:
        if violates(error, TIMES):
            raise errors.invalid(WRONG_TIMES) from error
        raise
    if found is None:
        raise errors.not_found()
    if found[3] is not None:
        raise errors.conflict("conflict", LACKS[found[3]])
    return Written(found[0], found[1], found[2])


def insert_notice(tx: Tx, incident_id: str, notice: dict[str, Any]) -> str:
    """The new notice as JSON; it is a change of its incident, which is locked."""
    made, _ = tx.flight(
        (
            """
            INSERT INTO app.incident_notices AS n
                (tenant_id, incident_id, recipient, channel, told_at, reference, delay_reason, people, recorded_by)
            VALUES (:tenant_id, :incident_id, :recipient, :channel, coalesce(:told_at, clock_timestamp()), :reference,
                    :delay_reason, :people, :user_id)
            RETURNING app.incident_notice_json(n)
            """,
            {"incident_id": incident_id, **notice},
        ),
        (
            """
            UPDATE app.incidents SET updated_at = now(), version = version + 1
            WHERE tenant_id = :tenant_id AND id = :incident_id
            """,
            {"incident_id": incident_id},
        ),
    )
    return str(made[0][0])


def tell_subjects(tx: Tx, incident_id: str, words: str) -> str | None:
    """Mail these words to the people concerned who were not told yet; the notice as JSON, None if there was nobody."""
    notice = tx.value(
        "SELECT platform.tell_incident_subjects(:incident_id, :words)", incident_id=incident_id, words=words
    )
    if notice is None:
        return None
    shown = tx.value(
        """
        SELECT app.incident_notice_json(n) FROM app.incident_notices n
        WHERE n.tenant_id = :tenant_id AND n.id = :notice
        """,
        notice=notice,
    )
    return str(shown)


def mail_draft(tx: Tx, incident_id: str, kind: str) -> None:
    """Have a draft sent to the caller. Raises 404."""
    if not tx.value("SELECT platform.mail_incident_draft(:incident_id, :kind)", incident_id=incident_id, kind=kind):
        raise errors.not_found()
