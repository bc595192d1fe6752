"""The edge to the mail server: one message, plain text and HTML, over SMTP."""

import smtplib
import ssl
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import SplitResult, unquote, urlsplit

from common import secrets, tracing
from common.settings import settings

RELAY = "smtp-password"  # the secret: the URL holds none, since it stands in the environment
ANSWER_SECONDS = 4  # an answer each for connect, EHLO, STARTTLS, MAIL, RCPT, DATA: together less than a mail's claim
UNFOLDED = SMTP.clone(max_line_length=998)  # else the library encodes a long address, and nobody can follow it
NO_SUCH_MAILBOX = frozenset({550, 551, 553})  # RFC 5321, 4.2.3; other refusals may be of us, not of the mailbox


class NotSent(Exception):
    """The mail server could not be reached or did not take the message for now."""


class Undeliverable(Exception):
    """The mail server refuses the recipient for good."""


@dataclass(frozen=True)
class Mail:
    """One message to one address."""

    to: str
    subject: str
    text: str
    html: str
    headers: tuple[tuple[str, str], ...] = ()  # beside the usual ones


def message(mail: Mail, reference: str) -> EmailMessage:
    """The message as RFC 5322 wants it; `reference` (an outbox id) makes the Message-ID, the same for a duplicate.

    Raises ValueError for a line break in a header or for what is not an address.
    """
    sender = Address(addr_spec=settings().mail_from)
    built = EmailMessage(policy=UNFOLDED if mail.headers else SMTP)
    built["From"] = sender
    built["To"] = Address(addr_spec=mail.to)
    built["Subject"] = mail.subject
    built["Date"] = format_datetime(datetime.now(UTC))
    built["Message-ID"] = f"<{reference}@{sender.domain}>"
    built["Auto-Submitted"] = "auto-generated"  # RFC 3834
    for name, value in mail.headers:
        built[name] = value
    built.set_content(mail.text)
    built.add_alternative(mail.html, subtype="html")
    return built


@tracing.traced("smtp")
def send(mail: Mail, reference: str) -> None:
    """Hand the message to the server of SMTP_URL. Raises NotSent or Undeliverable; returning means it was taken."""
    built = message(mail, reference)
    try:
        client = _connect(urlsplit(settings().smtp_url))
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(type(error).__name__) from error
    try:
        client.send_message(built)
    except smtplib.SMTPRecipientsRefused as error:
        if all(code in NO_SUCH_MAILBOX for code, _ in error.recipients.values()):
            raise Undeliverable from error
        raise NotSent(type(error).__name__) from error
    except (OSError, smtplib.SMTPException) as error:
        raise NotSent(type(error).__name__) from error
    finally:
        with suppress(OSError, smtplib.SMTPException):  # the message's fate is decided already
            client.quit()


def _connect(url: SplitResult) -> smtplib.SMTP:
    """`smtps://` speaks TLS from the start, `smtp://` where the server offers it, and always before a password."""
    host = url.hostname or "localhost"
    if url.scheme == "smtps":
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            host, url.port or 465, timeout=ANSWER_SECONDS, context=ssl.create_default_context()
        )
    else:
        client = smtplib.SMTP(host, url.port or 587, timeout=ANSWER_SECONDS)
        client.ehlo()
        if url.username or client.has_extn("starttls"):
            client.starttls(context=ssl.create_default_context())
    if url.username:
        client.login(unquote(url.username), secrets.read(RELAY).decode().strip())
    return client
