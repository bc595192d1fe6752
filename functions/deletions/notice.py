"""The last mail: the erasure is complete, and a receipt that proves it without an account."""

import html

from common import errors, jobs, mail, tokens
from common.db import database
from common.settings import settings
from functions.deletions import job_queries as queries
from functions.deletions import state_queries as state
from functions.deletions.state_queries import LastMail

# scope: subject, what was done
WORDS = {
    "me": ("Your data has been erased", "Your account and your data have been erased, as you asked."),
    "user": (
        "Your data in an organization has been erased",
        "Your data in the organization {organization} has been erased.",
    ),
    "organization": (
        "Your organization has been erased",
        "The organization has been erased with its data, as you asked.",
    ),
}
KEPT = "What a legal hold keeps is not erased yet; it will be, by itself, when the hold ends. The page lists it."
PAGE = "This page shows the state of the erasure and its signed certificate, without a log-in:"
KEEP = "Keep this mail: the link is your receipt."
LAST = "Keep this mail: the link is your receipt, and this was the last time that we knew your address."


def send(job_id: str) -> None:
    """Send it, once, or twice when a crash fell between sending and forgetting; then forget the address.

    Raises 503 while another step is sending it or the mail server takes nothing: the workflow tries again.
    """
    with database().transaction(jobs.claim(job_id)) as tx:
        claimed = state.claim_last_mail(tx)
        pending = queries.mail_pending(tx)
    if claimed is not None:
        _deliver(job_id, claimed)
    elif pending:
        raise errors.Problem("unavailable", "The mail is being sent.", headers={"Retry-After": "5"})
    with database().transaction(jobs.claim(job_id)) as tx:
        queries.forget_subject(tx)


def _deliver(job_id: str, claimed: LastMail) -> None:
    try:
        mail.send(_message(job_id, claimed), job_id)
    except mail.NotSent as error:
        with database().transaction(jobs.claim(job_id)) as tx:
            queries.release_mail(tx)
        raise errors.Problem("unavailable", "The mail server takes nothing.", headers={"Retry-After": "5"}) from error
    except mail.Undeliverable:
        pass  # nobody reads it; the erasure is complete all the same


def _receipt(job_id: str, known: bytes) -> str:
    """The receipt that was promised: made under the key that was active then."""
    for receipt in tokens.macs("mail-key", "deletion_receipt", job_id):
        if tokens.digest(receipt) == known:
            return receipt
    raise errors.Problem("internal_error", "The key of this receipt is gone.")


def _message(job_id: str, claimed: LastMail) -> mail.Mail:
    page = f"{settings().public_url}/deletion#id={job_id}&receipt={_receipt(job_id, claimed.receipt_hash)}"
    subject, done = WORDS[claimed.scope]
    first = [done.format(organization=claimed.organization or "that you belonged to")]
    first += [KEPT] if claimed.retains else []
    last = LAST if claimed.scope == "me" and not claimed.retains else KEEP
    text = "\n\n".join([*first, f"{PAGE}\n{page}", last]) + "\n"
    link = f'<a href="{html.escape(page)}">{html.escape(PAGE.removesuffix(":"))}</a>.'
    paragraphs = [*map(html.escape, first), link, html.escape(last)]
    return mail.Mail(claimed.email, subject, text, "".join(f"<p>{paragraph}</p>\n" for paragraph in paragraphs))
