"""The notices of Art. 33(3) and Art. 34(2) GDPR as drafts, filled from an incident's record; nothing is invented.

An incident is the object of GET /v1/privacy/incidents/{id}. What people typed is escaped: it is shown, never read as
Markdown or HTML. Source: Regulation (EU) 2016/679, Art. 33 and 34; EDPB Guidelines 9/2022, version 2.0.
"""

import re
from datetime import datetime
from typing import Any

from common.register import register
from common.settings import settings

Json = dict[str, Any]
SPECIAL = re.compile(r"([\\`*_\[\]#|~:@!$])")
LEADING = re.compile(r"^(\s*)([-+=]|\d+[.)])")
RISKS = {
    "undecided": None,
    "unlikely": "unlikely to result in a risk to the rights and freedoms of people",
    "likely": "likely to result in a risk to the rights and freedoms of people",
    "high": "likely to result in a high risk to the rights and freedoms of people",
}
RECIPIENTS = {
    "authority": "supervisory authority",
    "subjects": "people concerned",
    "controller": "controller",
    "processor": "processor",
    "public": "the public",
    "other": "others",
}
CONTACT = "data protection officer or other contact point"
NATURE = "what happened, to which systems: loss of confidentiality, integrity or availability"
NEEDED = ("description", "consequences", "measures", "contact")  # Art. 34(2) with 33(3)(b), (c) and (d)


def missing(what: str) -> str:
    """The mark of what is not known."""
    return f"**[to be filled in: {what}]**"


def inline(text: str) -> str:
    """Typed text on one line, without any meaning for Markdown or HTML."""
    return _escaped(" ".join(text.split()))


def _escaped(line: str) -> str:
    plain = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return LEADING.sub(r"\1\\\2", SPECIAL.sub(r"\\\1", plain)).replace("www.", "www\\.")


def block(text: str, what: str) -> str:
    """Typed text as a quotation that nothing in it can end; the mark when there is none."""
    if not text.strip():
        return missing(what)
    return "\n".join(f"> {_escaped(line)}".rstrip() for line in text.strip().splitlines())


def moment(value: str | None, what: str) -> str:
    """A time of the API as people read it, in UTC; the mark when there is none."""
    if value is None:
        return missing(what)
    return datetime.fromisoformat(value.replace("Z", "+00:00")).strftime("%Y-%m-%d %H:%M UTC")


def _number(stated: int | None, found: int | None, what: str) -> str:
    """What was stated; else what the audit trail shows, said as such; else the mark."""
    if stated is not None:
        return f"about {stated}"
    return (
        missing(what) if found is None else f"at least {found}, by the audit trail; {missing(f'{what}, if it differs')}"
    )


def _classes(incident: Json) -> str:
    known = register().data
    listed = [f"- {known[name]} (`{name}`)" for name in incident["data_classes"] if name in known]
    return "\n".join(listed) or missing("categories of personal data")


def _people(incident: Json) -> str:
    scope = incident["scope"] or {}
    return _number(incident["affected_people"], scope.get("people"), "approximate number of people concerned")


def _first(incident: Json, recipient: str) -> Json | None:
    return next((each for each in incident["notices"] if each["recipient"] == recipient), None)


def _phase(incident: Json) -> str:
    """Art. 33(4): information may be given in phases."""
    before = _first(incident, "authority")
    if before is None:
        return (
            "First notification. What is marked is not known yet and follows without undue further delay (Art. 33(4))."
        )
    reference = f", reference {inline(before['reference'])}" if before["reference"] else ""
    return f"Supplement to the notification of {moment(before['told_at'], '')}{reference} (Art. 33(4))."


def _clock(incident: Json) -> str:
    lines = [
        f"- Became aware of it: {moment(incident['detected_at'], '')}",
        f"- To be notified by: {moment(incident['notify_by'], '')} (72 hours, Art. 33(1))",
    ]
    if incident["first_detected_at"] != incident["detected_at"]:
        lines.append(f"- Recorded at first as: {moment(incident['first_detected_at'], '')}; corrected since")
    if incident["told_by_platform"]:
        noticed = moment(incident["told_by_platform"]["detected_at"], "")
        lines.append(f"- Told by the processor (Art. 33(2)), who became aware of it: {noticed}")
    lines.append(f"- It began: {moment(incident['started_at'], 'beginning of the breach')}")
    lines.append(f"- It ended: {moment(incident['ended_at'], 'end of the breach, or that it goes on')}")
    return "\n".join(lines)


def _delay(incident: Json) -> str:
    reasons = [each["delay_reason"] for each in incident["notices"] if each["delay_reason"]]
    if reasons:
        return "\n\n".join(block(each, "") for each in reasons)
    late = incident["overdue"]
    return missing("reason for the delay") if late else "None is needed within the 72 hours."


def _told(incident: Json) -> str:
    lines = [
        f"- {moment(each['told_at'], '')}: {RECIPIENTS[each['recipient']]}, by {each['channel'].replace('_', ' ')}"
        + (f", {each['people']} people" if each["people"] is not None else "")
        + (f", reference {inline(each['reference'])}" if each["reference"] else "")
        for each in incident["notices"]
    ]
    return "\n".join(lines) or "Nobody was told yet."


def _communication(incident: Json) -> str:
    risk = RISKS[incident["risk"]] or missing("whether it is likely to result in a risk, or a high risk")
    told = _first(incident, "subjects") or _first(incident, "public")
    if told:
        people = f"They were told on {moment(told['told_at'], '')}."
    elif incident["no_communication_reason"].strip():
        people = "They are not told (Art. 34(3)):\n\n" + block(incident["no_communication_reason"], "")
    else:
        people = missing("whether and when the people concerned are told (Art. 34)")
    return f"The breach is {risk}.\n\n{people}"


def authority(incident: Json, organization: str) -> str:
    """The notification of the supervisory authority (Art. 33(3)) as Markdown."""
    known = settings()
    scope = incident["scope"] or {}
    records = _number(incident["affected_records"], None, "approximate number of personal data records concerned")
    events = f" The audit trail shows {scope['events']} events." if scope else ""
    processor = inline(known.operator_name) or missing("name of the processor")
    contact = inline(known.dpo_contact or known.operator_contact) or missing("contact of the processor")
    return f"""# Notification of a personal data breach (Art. 33 GDPR): draft

Made from the record of incident `{incident["id"]}`, version {incident["version"]}. {_phase(incident)}

- To: {missing("competent supervisory authority (Art. 55)")}
- Controller: {inline(organization) or missing("name of the controller")}
- Contact for more information, Art. 33(3)(b): {inline(incident["contact"]) or missing(CONTACT)}
- Processor concerned: {processor}, {contact}

## When

{_clock(incident)}

Reason for a delay, Art. 33(1):

{_delay(incident)}

## Nature of the breach, Art. 33(3)(a)

**{inline(incident["title"])}** (own classification: {incident["severity"]})

{block(incident["description"], NATURE)}

Categories of people concerned: {missing("for example members, customers, employees")}

Number of people concerned: {_people(incident)}

Categories of personal data:

{_classes(incident)}

Number of records concerned: {records}.{events}

## Likely consequences, Art. 33(3)(c)

{block(incident["consequences"], "likely consequences of the breach")}

## Measures taken or proposed, Art. 33(3)(d)

{block(incident["measures"], "measures against the breach and its effects")}

## Communication to the people concerned, Art. 34

{_communication(incident)}

## Who was told so far

{_told(incident)}
"""


def subjects(incident: Json, organization: str) -> str:
    """The communication to the people concerned (Art. 34(2)) as Markdown."""
    return f"""# What happened to your data (Art. 34 GDPR): draft

{inline(organization) or missing("name of the controller")} tells you of a breach that concerns personal data of you.

## What happened

It became known on {moment(incident["detected_at"], "")}.

{block(incident["description"], "what happened, in clear and plain language")}

Kinds of data concerned:

{_classes(incident)}

## What it may mean for you

{block(incident["consequences"], "likely consequences for the people concerned")}

## What was done, and what you can do

{block(incident["measures"], "measures taken or proposed, and what people can do to protect themselves")}

## Whom to ask

{inline(incident["contact"]) or missing(CONTACT)}
"""


def open_points(incident: Json) -> list[str]:
    """The fields that a communication to the people concerned needs and the incident does not have yet."""
    return [name for name in NEEDED if not incident[name].strip()]


def words(incident: Json, organization: str) -> str:
    """The same communication as plain paragraphs, for the mail. No point may be open."""
    known = register().data
    kinds = ", ".join(known[name] for name in incident["data_classes"] if name in known)
    parts = [
        f"{' '.join(organization.split())} tells you of a breach that concerns personal data of you. It became known on"
        f" {moment(incident['detected_at'], '')}.",
        f"What happened: {incident['description'].strip()}",
        f"Kinds of data concerned: {kinds}." if kinds else "",
        f"What it may mean for you: {incident['consequences'].strip()}",
        f"What was done, and what you can do: {incident['measures'].strip()}",
        f"Whom to ask: {incident['contact'].strip()}",
    ]
    return "\n\n".join(part for part in parts if part)
