"""Drafts of the notices of Art. 33(3) and Art. 34(2) GDPR: to read as Markdown, or to have in the mailbox."""

from werkzeug.wrappers import Response

from common import incident_drafts as drafts
from common.http import Call, Table
from functions.audit import incident_queries as queries
from functions.audit.incidents import INCIDENT, NEEDS

part = Table()
MARKDOWN = "text/markdown; charset=utf-8"
AUTHORITY, SUBJECTS = f"{INCIDENT}/drafts/authority", f"{INCIDENT}/drafts/subjects"


@part.on("GET", AUTHORITY, needs=NEEDS, body=None, answers=None, records=True, media=MARKDOWN)
def get_authority_draft(call: Call) -> Response:
    """Draft the notification of the supervisory authority (Art. 33(3) GDPR) from what is recorded.

    What is not known is marked as to be filled in; it may follow in phases (Art. 33(4)).
    """
    facts, organization = queries.select_facts(call.tx, call.path["incident_id"])
    call.audit("incident.read", call.path["incident_id"], draft="authority")
    return Response(drafts.authority(facts, organization), content_type=MARKDOWN)


@part.on("GET", SUBJECTS, needs=NEEDS, body=None, answers=None, records=True, media=MARKDOWN)
def get_subjects_draft(call: Call) -> Response:
    """Draft the communication to the people concerned (Art. 34(2) GDPR) from what is recorded."""
    facts, organization = queries.select_facts(call.tx, call.path["incident_id"])
    call.audit("incident.read", call.path["incident_id"], draft="subjects")
    return Response(drafts.subjects(facts, organization), content_type=MARKDOWN)


@part.on("POST", f"{AUTHORITY}/mail", needs=NEEDS, body=None, answers=None, status=204)
def mail_authority_draft(call: Call) -> None:
    """Have the draft for the authority sent to oneself by mail."""
    _mail(call, "authority")


@part.on("POST", f"{SUBJECTS}/mail", needs=NEEDS, body=None, answers=None, status=204)
def mail_subjects_draft(call: Call) -> None:
    """Have the draft for the people concerned sent to oneself by mail."""
    _mail(call, "subjects")


def _mail(call: Call, kind: str) -> None:
    incident_id = call.path["incident_id"]
    queries.mail_draft(call.tx, incident_id, f"draft_{kind}")
    call.audit("incident.draft_mailed", incident_id, draft=kind)
