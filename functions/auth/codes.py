"""Codes that are sent: six digits, ten minutes, once.

They stand nowhere, being a MAC of the message's id that is made when it is sent: neither the database nor the outbox
knows them, and a message waits with nothing but ids.
"""

import hmac
import uuid

from common import errors, kms, log, phones, secrets, sms
from common.db import Tx
from common.http import Call, Table
from common.mail import Mail
from common.outbox import Message
from functions.auth import code_queries, lock, queries
from functions.auth.letters import letter
from functions.auth.mfa_queries import Factor
from functions.auth.totp import truncated

RING = "mfa-key"
PURPOSE = "mfa_code"
LIFE_SECONDS = 600
TRIES = 5
PAUSE_SECONDS = 30
HOURLY = 5
DAILY_TEXTS = 20  # of one person, used or not: numbers exist that pay those who text them

part = Table()


def count(call: Call, factor_type: str, email: str) -> None:
    """A text message costs money: each counts as a failure in the lock of `email`, until a log-in succeeds."""
    if factor_type == "sms":
        lock.count(call, email)


def send(tx: Tx, factor: Factor, bound_to: str) -> None:
    """Have a code sent that is good for `bound_to` (a challenge or a login session). Raises 422, 429."""
    if factor.type == "totp":
        raise errors.invalid({"factor_id": ["No code is sent for an authenticator app."]})
    pause = code_queries.sending_pause(tx, factor.id, bound_to, pause=PAUSE_SECONDS, hourly=HOURLY)
    if factor.type == "sms":
        pause = max(pause, code_queries.text_pause(tx, daily=DAILY_TEXTS))
    if pause:
        headers = {"Retry-After": str(pause)}
        raise errors.Problem("rate_limited", "A code has been sent: look for it, or wait.", headers=headers)
    message = Message("sms" if factor.type == "sms" else "mail", PURPOSE, tx.claim.principal_id)
    kid = secrets.ring(RING).active
    code = {"id": message.id, "factor_id": factor.id, "bound_to": bound_to, "kid": kid}
    code_queries.insert_code(tx, code, LIFE_SECONDS)
    tx.post(message)


def matches(tx: Tx, factor: Factor, bound_to: str, given: str) -> bool:
    """Whether it is the code that was sent last for this factor and use: it is spent then. It dies after five tries."""
    sent = code_queries.newest_code(tx, factor.id, bound_to, tries=TRIES)
    if sent is None or not sent.alive:
        return False
    digits = _digits(sent.id, sent.kid)
    right = digits is not None and hmac.compare_digest(digits.encode(), given.encode())
    code_queries.mark_code(tx, sent.id, factor.id, right=right)
    return right


def _digits(code_id: str, kid: str) -> str | None:
    """The code's digits, None when its key is gone. Raises kms.Unavailable."""
    key = secrets.ring(RING).keys.get(kid)
    if key is None:
        return None
    message = f"{PURPOSE}\x1f{uuid.UUID(code_id)}".encode()
    try:
        return truncated(hmac.digest(secrets.data_key(RING, key), message, "sha256"))
    except kms.Refused:
        return None


def mail(message_id: str, _account_id: str) -> Mail | None:
    """The mail with a code, None when the code is of no use any more."""
    found = _being_sent(message_id)
    if found is None:
        return None
    address, digits = found
    return letter(
        address,
        f"{digits} is your code",
        f"Your code is {digits}. It works once, for {LIFE_SECONDS // 60} minutes.",
        "If you did not ask for it, somebody knows your password: change it. Tell the code to nobody.",
    )


@part.on("POST", "/internal/sms/<uuid:message_id>", needs="service:tasks", body=None, answers=None, status=204)
def deliver_text(call: Call) -> None:
    """Send a text message of the outbox, for Cloud Tasks."""
    message_id = call.path["message_id"]
    state, _, _ = queries.claim_mail(message_id)
    if state == "busy":
        raise errors.Problem("unavailable", "Another delivery is sending it.", headers={"Retry-After": "5"})
    if state != "claimed":
        return
    found = _being_sent(message_id)
    if found is None:
        log.entry("INFO", "a text message is of no use any more", message_id=message_id)
    else:
        _hand_over(message_id, *found)
    queries.mark_delivered(message_id)


def _hand_over(message_id: str, number: str, digits: str) -> None:
    text = f"{digits} is your code for Dev Context. It works for {LIFE_SECONDS // 60} minutes. Tell it to nobody."
    try:
        sms.send(number, text)
    except sms.Undeliverable:
        log.entry("WARNING", "a number was refused for good", message_id=message_id)
    except sms.NotSent as error:
        log.entry("WARNING", "a text message waits for another try", message_id=message_id, error=str(error))
        queries.release_mail(message_id)
        raise errors.Problem("unavailable", headers={"Retry-After": "5"}) from error


def _being_sent(message_id: str) -> tuple[str, str] | None:
    """Address and digits of a code whose message was claimed."""
    found = code_queries.find_message(message_id)
    if found is None:
        return None
    address, kid, account_id, is_phone = found
    digits = _digits(message_id, kid)
    if is_phone:
        address = phones.read(address, account_id) or ""
    if digits is None or not address:
        log.entry("ERROR", "the key of a code, or of the number it goes to, is gone", message_id=message_id)
        return None
    return address, digits
