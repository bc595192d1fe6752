"""Mails about the time limits of exports and erasures: to whom may act on them, and to the person who has to wait."""

from common.mail import Mail
from common.settings import settings
from functions.auth import queries
from functions.auth.letters import letter

PURPOSE = "privacy_notice"
KINDS = {"export": "a copy of personal data", "deletion": "the erasure of personal data"}
WHEN = {
    "week": ("is due in a week", "It is due on {due}."),
    "two_days": ("is due in two days", "It is due on {due}."),
    "overdue": ("is overdue", "It was due on {due}."),
}
LAW = "Article 12(3) GDPR gives one month from the day of receipt to answer such a request."


def mail(mail_id: str, _notice_id: str) -> Mail | None:
    """The notice; None when its reader is gone or the request has been answered since."""
    notice = queries.find_privacy_notice(mail_id)
    if notice is None:
        return None
    return _extension(notice) if notice.kind == "extended" else _reminder(notice)


def _reminder(notice: queries.PrivacyNotice) -> Mail | None:
    """No word about the person: who may read the queue finds it there by the id."""
    to = notice.email or settings().privacy_mail
    if not to:
        return None
    subject, due = WHEN[notice.kind]
    whose = f"of {notice.organization}" if notice.organization else "that the platform answers"
    return letter(
        to,
        f"A privacy request {subject}",
        f"A request for {KINDS[notice.request_kind]} {whose} has not been answered. It was received on"
        f" {notice.received_on}. {due.format(due=notice.due_on)}",
        f"The number of the request is {notice.request}; the queue at GET /v1/privacy/requests shows how it stands.",
        LAW,
    )


def _extension(notice: queries.PrivacyNotice) -> Mail | None:
    if not notice.email or notice.reason is None:  # erased since: neither address nor reason is kept
        return None
    return letter(
        notice.email,
        "Your request takes longer",
        f"Your request for {KINDS[notice.request_kind]}, received on {notice.received_on}, will not be answered within"
        f" a month. {notice.organization} takes more time for it, until {notice.due_on} at the latest.",
        f"The reason: {notice.reason}",
        "You may complain to a supervisory authority, or go to court.",
    )
