"""Mails about incidents: to who answers for them, to the platform's operator, and to the people concerned."""

from html import escape
from typing import Any

from common import incident_drafts as drafts
from common.mail import Mail
from common.settings import settings
from functions.auth import queries
from functions.auth.letters import PAGE, letter

PURPOSE = "incident"
CLOCK = "Article 33(1) GDPR gives 72 hours to notify the supervisory authority, unless no risk to people is likely."
ALARMS = {
    "due": ("An incident has to be decided within a day", "The 72 hours of an incident{whose} are over on {by}."),
    "overdue": ("The 72 hours of an incident are over", "The 72 hours of an incident{whose} were over on {by}."),
}


def mail(mail_id: str, _row_id: str) -> Mail | None:
    """The mail; None when its reader is gone or the alarm has become idle."""
    found = queries.find_incident_mail(mail_id)
    if found is None:
        return None
    to = found.email or settings().privacy_mail
    if not to:
        return None
    if found.kind == "told":
        return _told(to, found)
    if found.kind == "opened":
        return _opened(to, found)
    if found.kind in ALARMS:
        return _alarm(to, found)
    if found.kind == "answered":
        return _answered(to, found)
    return _draft(to, found)


def _told(to: str, found: queries.IncidentMail) -> Mail | None:
    """What the organization tells the people concerned, in its own words (Art. 34 GDPR)."""
    if found.words is None:
        return None
    subject = f"{_line(found.organization)}: a breach that concerns your data"
    return letter(to, subject, *(part.strip() for part in found.words.split("\n\n") if part.strip()))


def _opened(to: str, found: queries.IncidentMail) -> Mail:
    """The processor tells the controller (Art. 33(2) GDPR)."""
    incident = found.incident
    kinds = ", ".join(incident["data_classes"]) or "not known yet"
    noticed = drafts.moment(incident["told_by_platform"]["detected_at"], "")
    return letter(
        to,
        f"An incident of the platform concerns {_line(found.organization)}",
        f"An incident of the platform concerns {_line(found.organization)}: {_line(incident['title'])}"
        f" ({incident['severity']}). We became aware of it on {noticed}"
        " and tell you as your processor (Art. 33(2) GDPR).",
        incident["description"].strip() or "More is told as soon as it is known.",
        f"Kinds of data concerned: {kinds}.",
        f"Your own 72 hours began when you were told and are over on {drafts.moment(incident['notify_by'], '')}."
        f" {CLOCK}",
        _where(incident),
    )


def _alarm(to: str, found: queries.IncidentMail) -> Mail:
    """No word about what happened: who may manage incidents finds it by the id."""
    subject, text = ALARMS[found.kind]
    whose = f" of {_line(found.organization)}" if found.organization else " of the platform"
    return letter(
        to,
        subject,
        text.format(whose=whose, by=drafts.moment(found.incident["notify_by"], ""))
        + " Neither a notice to the supervisory authority is recorded, nor a reason why none is needed.",
        _where(found.incident) if found.organization else f"The number of the incident is {found.incident['id']}.",
        CLOCK,
    )


def _answered(to: str, found: queries.IncidentMail) -> Mail:
    """What the incident automation has done; addresses stand in the list of blocks alone."""
    incident, answer = found.incident, found.incident["answer"] or {}
    blocked, left_over = answer.get("blocked", 0), answer.get("left_over", 0)
    last = f", the last until {drafts.moment(answer['ends_at'], '')}" if answer.get("ends_at") else ""
    done = f"Networks that were blocked for it: {blocked}{last}."
    beyond = f" For {left_over} more there was no room." if left_over else ""
    return letter(
        to,
        f"An alert was answered: {_line(incident['title'])}",
        f"{_line(incident['title'])} ({incident['severity']}). The number of the incident is {incident['id']}.",
        done + beyond + " The command `operator block list` shows them, `operator block lift` ends one.",
        "Judge whether personal data were touched, and close the incident with what you found."
        f" {CLOCK} They are over on {drafts.moment(incident['notify_by'], '')}.",
    )


def _draft(to: str, found: queries.IncidentMail) -> Mail:
    make = drafts.authority if found.kind == "draft_authority" else drafts.subjects
    text = make(found.incident, found.organization or "")
    whom = "the supervisory authority" if found.kind == "draft_authority" else "the people concerned"
    subject = f"Draft: notice of an incident to {whom}"
    page = PAGE.format(title=escape(subject), body=f'<pre style="white-space: pre-wrap">{escape(text)}</pre>')
    return Mail(to, subject, text, page)


def _where(incident: dict[str, Any]) -> str:
    return f"The number of the incident is {incident['id']}: GET /v1/privacy/incidents/{incident['id']} shows it."


def _line(text: str | None) -> str:
    """One line: a header of a mail holds no line break."""
    return " ".join((text or "").split())
