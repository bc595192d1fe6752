"""The mail of a campaign to one person who consents: asked for again now, with the link that withdraws (RFC 8058)."""

from common.consents import Withdrawal, link
from common.mail import Mail
from functions.auth import queries
from functions.auth.letters import letter

PREFIX = "campaign."


def mail(mail_id: str, _account_id: str) -> Mail | None:
    """The mail; None when the consent is gone, the account is, or may not be mailed any more."""
    found = queries.find_campaign_mail(mail_id)
    if found is None:
        return None
    address = link(Withdrawal(found.account_id, found.organization_id, found.purpose))
    whom = f" of {found.organization}" if found.organization else ""
    paragraphs = [text.strip() for text in found.text.split("\n\n") if text.strip()]
    written = letter(
        found.email,
        found.subject,
        *paragraphs,
        f"You get this mail because you agreed to mails about “{found.purpose}”{whom}. To get no more of them:",
        address,
    )
    headers = (("List-Unsubscribe", f"<{address}>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    return Mail(written.to, written.subject, written.text, written.html, headers)
