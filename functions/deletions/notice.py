"""The last mail: the erasure is complete, and a receipt that proves it without an account."""

import html

from common import errors, jobs, mail, tokens
from common.db import database
from common.settings import settings
from functions.deletions import job_queries as queries

TEXT = """Your account and your data have been erased, as you asked.

This page shows the state of the erasure and its signed certificate, without a log-in:
{page}

Keep this mail: the link is your receipt, and this was the last time that we knew your address.
"""
HTML = """<p>Your account and your data have been erased, as you asked.</p>
<p><a href="{page}">This page</a> shows the state of the erasure and its signed certificate, without a log-in.</p>
<p>Keep this mail: the link is your receipt, and this was the last time that we knew your address.</p>
"""


def send(job_id: str) -> None:
    """Send it, once, or twice when a crash fell between sending and forgetting; then forget the address.

    Raises 503 while another step is sending it or the mail server takes nothing: the workflow tries again.
    """
    with database().transaction(jobs.claim(job_id)) as tx:
        claimed = queries.claim_mail(tx)
        pending = queries.mail_pending(tx)
    if claimed is None:
        if pending:
            raise errors.Problem("unavailable", "The mail is being sent.", headers={"Retry-After": "5"})
        return
    try:
        mail.send(_message(job_id, claimed[0], _receipt(job_id, claimed[1])), job_id)
    except mail.NotSent as error:
        with database().transaction(jobs.claim(job_id)) as tx:
            queries.release_mail(tx)
        raise errors.Problem("unavailable", "The mail server takes nothing.", headers={"Retry-After": "5"}) from error
    except mail.Undeliverable:
        pass  # nobody reads it; the erasure is complete all the same
    with database().transaction(jobs.claim(job_id)) as tx:
        queries.forget_subject(tx)


def _receipt(job_id: str, known: bytes) -> str:
    """The receipt that was promised: made under the key that was active then."""
    for receipt in tokens.macs("mail-key", "deletion_receipt", job_id):
        if tokens.digest(receipt) == known:
            return receipt
    raise errors.Problem("internal_error", "The key of this receipt is gone.")


def _message(job_id: str, address: str, receipt: str) -> mail.Mail:
    page = f"{settings().public_url}/deletion#id={job_id}&receipt={receipt}"
    return mail.Mail(address, "Your data has been erased", TEXT.format(page=page), HTML.format(page=html.escape(page)))
