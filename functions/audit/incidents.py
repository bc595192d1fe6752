"""Incidents (Art. 33 and 34 GDPR): the organization's record of each, its 72-hour clock, and who was told when."""

from datetime import UTC, datetime

from common import errors
from common.http import Call, Json, Table
from common.incident_drafts import open_points, words
from functions.audit import incident_queries as queries
from functions.audit.incident_schemas import (
    LONGEST_WORDS,
    Incident,
    IncidentChange,
    IncidentFilter,
    IncidentPage,
    NewIncident,
    NewNotice,
    Notice,
    Words,
)

part = Table()
INCIDENTS = "/v1/privacy/incidents"
INCIDENT = f"{INCIDENTS}/<uuid:incident_id>"
NEEDS = "incident.manage"
LATE = "The 72 hours were over: a first notice to the authority needs the reason for the delay (Art. 33(1) GDPR)."
LONG = f"The draft is longer than the {LONGEST_WORDS:,} characters of a mail: shorten the fields, or give a text."
NOBODY = "There is nobody to tell: give the incident a scope first; who was told already is not told again."


@part.on("GET", INCIDENTS, needs=NEEDS, query=IncidentFilter, body=None, answers=IncidentPage, records=True)
def list_incidents(call: Call) -> Json:
    """List the organization's incidents, newest first; reading them is an event itself."""
    query = call.query
    items, last = queries.list_incidents(
        call.tx,
        limit=query["limit"],
        after=call.after(),
        status=query["status"],
        severity=query["severity"],
        overdue=query["overdue"],
    )
    call.audit("incident.read")
    return call.page(items, last)


@part.on("POST", INCIDENTS, needs=NEEDS, body=NewIncident, answers=Incident, status=201)
def open_incident(call: Call) -> Json:
    """Record an incident: the authority is to be notified within 72 hours of `detected_at` (Art. 33(1) GDPR).

    That is when the organization became aware of it, whatever its severity. Every incident is recorded, also one that
    need not be notified (Art. 33(5)).
    """
    incident = queries.insert_incident(call.tx, call.body)
    call.audit("incident.opened", incident.id, severity=call.body["severity"])
    call.headers["Location"] = f"{INCIDENTS}/{incident.id}"
    return incident


@part.on("GET", INCIDENT, needs=NEEDS, body=None, answers=Incident, records=True)
def get_incident(call: Call) -> Json:
    """Read an incident and whom was told of it; an event itself, too."""
    incident = queries.select_incident(call.tx, call.path["incident_id"])
    call.audit("incident.read", incident.id)
    return incident


@part.on("PATCH", INCIDENT, needs=NEEDS, body=IncidentChange, answers=Incident, errors=("conflict",))
def change_incident(call: Call) -> Json:
    """Change some fields of an incident, close it, or open it again.

    It can be closed once its risk is judged, the authority notified (when late: with the reason) or the reason
    documented why not, and at high risk the people concerned were told or the reason documented why not. A corrected
    `detected_at` moves the clock; what was stated first stays in `first_detected_at`, and the correction in the audit
    trail.
    """
    incident_id, change = call.path["incident_id"], call.body
    version, status, detected_at, _, _ = queries.lock_incident(call.tx, incident_id)
    if call.if_match not in (None, version):
        raise errors.Problem("precondition_failed")
    if status == "closed" and change.get("status", status) == "closed" and change:
        raise errors.conflict("conflict", queries.CLOSED)
    incident = queries.update_incident(call.tx, incident_id, change)
    fields = sorted(set(change) - {"status"})
    if fields or not change:
        call.audit("incident.updated", incident_id, fields=fields)
    corrected = change.get("detected_at", detected_at)
    if corrected != detected_at:
        before, after = _shown(detected_at), _shown(corrected)
        call.audit("incident.clock_corrected", incident_id, before=before, after=after)
    _audit_status(call, incident_id, status, change.get("status", status))
    return incident


def _audit_status(call: Call, incident_id: str, before: str, after: str) -> None:
    if before == after:
        return
    if after == "closed":
        call.audit("incident.closed", incident_id)
    elif before == "closed":
        call.audit("incident.reopened", incident_id, status=after)
    else:
        call.audit("incident.updated", incident_id, fields=["status"])


def _shown(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


@part.on("POST", f"{INCIDENT}/notices", needs=NEEDS, body=NewNotice, answers=Notice, status=201)
def record_notice(call: Call) -> Json:
    """Record that somebody was told: whom, by which way, when, and under which reference. It is never changed."""
    incident_id, notice = call.path["incident_id"], call.body
    _, _, _, notified, notify_by = queries.lock_incident(call.tx, incident_id)
    told_at = notice["told_at"] or datetime.now(UTC)
    first = notice["recipient"] == "authority" and not notified
    if first and told_at > notify_by and not notice["delay_reason"]:
        raise errors.invalid({"delay_reason": [LATE]})
    made = queries.insert_notice(call.tx, incident_id, notice)
    call.audit("incident.notice_recorded", incident_id, recipient=notice["recipient"], channel=notice["channel"])
    call.headers["Location"] = f"{INCIDENTS}/{incident_id}"
    return made


@part.on(
    "POST", f"{INCIDENT}/notices/subjects", needs=NEEDS, body=Words, answers=Notice, status=201, step_up=True,
    errors=("conflict",),
)  # fmt: skip
def tell_subjects(call: Call) -> Json:
    """Tell the people whom the incident concerns (Art. 34 GDPR): a mail to each, once, and a notice with their number.

    They are those of the scope who are members now; a later call tells those who came into the scope since. Without
    `text` they get the draft, 409 `conflict` while something in it is open or it is too long for a mail.
    """
    incident_id = call.path["incident_id"]
    facts, organization = queries.select_facts(call.tx, incident_id)
    text = call.body["text"]
    if text is None:
        missing = open_points(facts)
        if missing:
            raise errors.conflict(
                "conflict", f"The draft is not complete: fill in {', '.join(missing)}, or give a text."
            )
        text = words(facts, organization)
        if len(text) > LONGEST_WORDS:
            raise errors.conflict("conflict", LONG)
    made = queries.tell_subjects(call.tx, incident_id, text)
    if made is None:
        raise errors.conflict("conflict", NOBODY)
    call.audit("incident.notice_recorded", incident_id, recipient="subjects", channel="mail")
    call.headers["Location"] = f"{INCIDENTS}/{incident_id}"
    return made
