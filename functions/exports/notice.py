"""The mail that says a package is ready: a link for a while, and the page that tells how to get a new one."""

import html

from common import errors, jobs, mail, storage
from common.db import database
from common.settings import settings
from functions.exports import queries

TEXT = """Hello {name},

the copy of data that you asked for is ready.

Download it with this link, which works for {minutes} minutes:
{url}

The file is kept until it expires after some days. Until then, this page says how to get a new link:
{page}

If you did not ask for this copy, change your password and tell us.
"""
HTML = """<p>Hello {name},</p>
<p>the copy of data that you asked for is ready.</p>
<p><a href="{url}">Download it</a> with this link, which works for {minutes} minutes.</p>
<p>The file is kept until it expires after some days. Until then, <a href="{page}">this page</a> says how to get a new
link.</p>
<p>If you did not ask for this copy, change your password and tell us.</p>
"""


def send(job_id: str, request_id: str) -> str:
    """`sent`, or why there is nothing to send: `done` before, or `gone` with the reader.

    Raises 503 while another step is sending it, or the mail server takes nothing: the workflow tries again.
    """
    with database().transaction(jobs.claim(job_id)) as tx:
        found = tx.row("SELECT state, email, display_name, object_name FROM platform.claim_export_mail()")
        organization_id = queries.select_request(tx)["organization_id"]
    state, email, name, object_name = found or ["gone", None, None, None]
    if state == "busy":
        raise errors.Problem("unavailable", "The mail is being sent.", headers={"Retry-After": "5"})
    if state != "claimed":
        return str(state)
    over = False
    try:
        mail.send(_message(job_id, email, name, object_name), job_id)
        over = True
    except mail.NotSent as error:
        raise errors.Problem("unavailable", "The mail server takes nothing.", headers={"Retry-After": "5"}) from error
    except mail.Undeliverable:
        state, over = "undeliverable", True
    finally:
        if not over:
            _release(job_id)
    with database().transaction(jobs.claim(job_id, organization_id)) as tx:
        tx.rows("SELECT platform.export_mailed()")
        if state == "claimed":
            tx.audit("export.mailed", "export", job_id, request_id=request_id)
    return "sent" if state == "claimed" else state


def _release(job_id: str) -> None:
    """The mail did not go out: the next try may begin at once."""
    with database().transaction(jobs.claim(job_id)) as tx:
        tx.rows("SELECT platform.release_export_mail()")


def _message(job_id: str, email: str, name: str, object_name: str) -> mail.Mail:
    words = {
        "name": name,
        "url": storage.signed_url(object_name, "export.zip", "application/zip"),
        "page": f"{settings().public_url}/export#id={job_id}",
        "minutes": str(max(1, settings().signed_url_seconds // 60)),
    }
    escaped = {key: html.escape(value) for key, value in words.items()}
    return mail.Mail(email, "Your data export is ready", TEXT.format(**words), HTML.format(**escaped))
