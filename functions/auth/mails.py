"""The mails: what an outbox row says is built when it is sent, so that the outbox holds ids only."""

from collections.abc import Callable
from functools import partial
from html import escape

from common import errors, log
from common.mail import Mail, NotSent, Undeliverable, send
from common.settings import settings
from functions.auth import (
    campaigns,
    codes,
    desk,
    email_change,
    erasures,
    incidents,
    joining,
    mailed,
    notices,
    password_queries,
    password_routes,
    queries,
)
from functions.auth.letters import PAGE, letter
from functions.auth.registering import VERIFY_EMAIL

Builder = Callable[[str, str], Mail | None]


def deliver(mail_id: str, request_id: str) -> None:
    """Send the mail of an outbox row, once. Raises 503 when Tasks should try again.

    The row is claimed for 30 seconds: two deliveries at once cannot both send, and a crash in between costs at most one
    duplicate, with the same Message-ID.
    """
    state, purpose, reference = queries.claim_mail(mail_id)
    if state == "busy":
        raise errors.Problem("unavailable", "Another delivery is sending it.", headers={"Retry-After": "5"})
    if state != "claimed":
        return
    builder = campaigns.mail if purpose.startswith(campaigns.PREFIX) else BUILDERS.get(purpose)
    if builder is None:  # a newer service asked for it: its own release of this one will know
        log.entry("ERROR", "a mail of unknown purpose", message_id=mail_id, purpose=purpose)
        raise errors.Problem("unavailable", headers={"Retry-After": "60"})
    mail = builder(mail_id, reference)
    if mail is None:
        log.entry("INFO", "a mail has no recipient any more", message_id=mail_id)
    else:
        _hand_over(mail, mail_id)
        if purpose == password_routes.RESET:
            password_queries.note_reset_mail(mail_id, request_id)
    queries.mark_delivered(mail_id)


def _hand_over(mail: Mail, mail_id: str) -> None:
    try:
        send(mail, mail_id)
    except Undeliverable:
        log.entry("WARNING", "a recipient was refused for good", message_id=mail_id)
    except NotSent as error:
        log.entry("WARNING", "a mail waits for another try", message_id=mail_id, error=str(error))
        queries.release_mail(mail_id)
        raise errors.Problem("unavailable", headers={"Retry-After": "5"}) from error


def registration(mail_id: str, registration_id: str) -> Mail | None:
    """The link, or the warning to the owner of an address that is taken. Nothing in it was typed by the sender."""
    found = queries.find_mail_registration(mail_id)
    if found is None:
        return None
    address, token_hash, taken = found
    if taken:
        return _taken(address)
    link = mailed.link("verify-email", VERIFY_EMAIL, registration_id, token_hash)
    return _link(address, link) if link else None


def _link(address: str, link: str) -> Mail:
    hours = settings().verification_seconds // 3600
    first = "Somebody, most likely you, has registered with this e-mail address."
    last = f"The link works once, for {hours} hours. If it was not you, do nothing: without it there is no account."
    return Mail(
        address,
        "Confirm your e-mail address",
        f"{first}\n\nFollow this link to confirm the address and finish the registration:\n\n{link}\n\n{last}\n",
        PAGE.format(
            title="Confirm your e-mail address",
            body=f"<p>{first}</p>\n"
            f'<p><a href="{escape(link)}">Confirm the address and finish the registration</a></p>\n<p>{last}</p>',
        ),
    )


def _taken(address: str) -> Mail:
    return letter(
        address,
        "Someone tried to register with your e-mail address",
        "Somebody tried to register with this e-mail address, which has an account already.",
        "If it was you: just log in. If it was not you, nothing has happened and there is nothing to do.",
    )


BUILDERS: dict[str, Builder] = {
    VERIFY_EMAIL: registration,
    codes.PURPOSE: codes.mail,
    joining.PURPOSE: joining.mail,
    password_routes.RESET: password_routes.reset_mail,
    email_change.PURPOSE: email_change.change_mail,
    desk.PURPOSE: desk.mail,
    incidents.PURPOSE: incidents.mail,
    erasures.RECEIVED: erasures.received,
    erasures.REFUSED: erasures.refused,
    **{notices.PREFIX + kind: partial(notices.build, kind) for kind in notices.KINDS},
}
