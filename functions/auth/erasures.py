"""Mails about an erasure before it is over: it was asked for, or it was refused. The last one is the job's own."""

from dataclasses import dataclass

from common import tokens
from common.db import database
from common.mail import Mail
from common.settings import settings
from common.tokens import Claim
from functions.auth.letters import letter

RECEIVED, REFUSED = "deletion_received", "deletion_refused"
ASKED = {
    "user": "The organization {organization} was asked to erase your data there. Your account stays.",
    "organization": "The erasure of the organization {organization} with all its data was asked for.",
}
BEGINS = "It begins on {when} UTC. Until then, it can be called off."
WAITS = "It begins once the organization has approved it."
FOLLOW = "This page shows how far it is, without a log-in. Keep this mail: the link is your receipt."
NOT_NOW = "Your data was asked to be erased, but the law wants it kept for now (Article 17(3)(e) GDPR): {reason}."
AGAIN = "Nothing was erased and nothing has changed. When the hold has ended, the erasure can be asked for again."
RIGHTS = (
    "You may complain to a supervisory authority (Article 77 GDPR), and you may go to court (Article 79 GDPR);"
    " Article 12(4) GDPR wants us to tell you so."
)


@dataclass(frozen=True)
class Told:
    """One reader of such a mail, and what there is to say."""

    email: str
    job_id: str
    receipt_hash: bytes
    scope: str
    organization: str | None
    execute_after: str
    refusal: str | None
    waits: bool


def received(mail_id: str, _job_id: str) -> Mail | None:
    """The request has come in; None when its reader is gone."""
    told = _find(mail_id)
    if told is None or told.scope not in ASKED:
        return None
    begins = WAITS if told.waits else BEGINS.format(when=told.execute_after)
    paragraphs = [ASKED[told.scope].format(organization=told.organization), begins]
    page = _page(told)
    return letter(told.email, "An erasure was asked for", *paragraphs, *([FOLLOW, page] if page else []))


def refused(mail_id: str, _job_id: str) -> Mail | None:
    """The request was refused (Art. 12(4) GDPR); None when its reader is gone. Why somebody is held is not told."""
    told = _find(mail_id)
    if told is None or told.refusal is None:
        return None
    return letter(told.email, "An erasure was refused for now", NOT_NOW.format(reason=told.refusal), AGAIN, RIGHTS)


def _page(told: Told) -> str | None:
    """The address that opens with the receipt, made under the key that was active then."""
    for receipt in tokens.macs("mail-key", "deletion_receipt", told.job_id):
        if tokens.digest(receipt) == told.receipt_hash:
            return f"{settings().public_url}/deletion#id={told.job_id}&receipt={receipt}"
    return None


def _find(mail_id: str) -> Told | None:
    rows = database().single(
        Claim("u"),
        """
        SELECT email, job_id::text, receipt_hash, scope, organization, execute_after, refusal, waits
        FROM platform.mail_of_deletion(:mail_id)
        """,
        mail_id=mail_id,
    )
    return Told(*rows[0]) if rows else None
