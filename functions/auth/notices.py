"""Notices by mail: what a person should know of her account, so that she sees what was not her."""

from common.db import Tx
from common.mail import Mail
from common.outbox import Message
from common.settings import settings
from functions.auth import queries
from functions.auth.letters import letter

PREFIX = "notice_"
NOT_YOU = "If it was not you, set a new password at once: whoever did this is logged out by it."
TELL_US = "If it was not you, tell us: the account may be in other hands."
WAY_IN = (
    "If it was not you, set a new password at once, and then remove that provider from your account:"
    " until then its log-in opens the account."
)
SECOND_FACTOR = (
    "If it was not you, set a new password at once. If you cannot log in then, because you are asked for a code"
    " that you do not have, tell us."
)

# kind: subject, what happened, what to do
KINDS = {
    "new_device": ("A new device has logged in", "Somebody has logged in to your account from a new device.", NOT_YOU),
    "password_changed": ("Your password was changed", "The password of your account was changed.", NOT_YOU),
    "email_changed": (
        "Your e-mail address was changed",
        "Your account has another e-mail address now, and this one opens it no more.",
        TELL_US,
    ),
    "email_change_asked": (
        "A new e-mail address for your account",
        "A new e-mail address was asked for in your account. It counts once its mailbox has confirmed it.",
        NOT_YOU,
    ),
    "factor_added": (
        "A second factor was added",
        "A second factor was added to your account: log-ins ask for it from now on.",
        SECOND_FACTOR,
    ),
    "factor_removed": (
        "A second factor was removed",
        "A second factor was removed from your account: log-ins do not ask for it any more.",
        NOT_YOU,
    ),
    "identity_linked": (
        "A log-in by another provider was linked",
        "Your account can be opened by a log-in at another provider now.",
        WAY_IN,
    ),
    "identity_unlinked": (
        "A log-in by another provider was removed",
        "Your account cannot be opened by a log-in at another provider any more.",
        NOT_YOU,
    ),
    "recovery_code_used": (
        "A recovery code was used",
        "Somebody has logged in to your account with a recovery code in the place of the second factor.",
        NOT_YOU,
    ),
}


def post(tx: Tx, kind: str) -> None:
    """Have a notice of `kind` sent to the person of the transaction's seal, once it has committed."""
    if kind not in KINDS:
        raise ValueError(f"no such notice: {kind}")
    tx.post(Message("mail", PREFIX + kind, tx.claim.principal_id))


def build(kind: str, mail_id: str, _account_id: str) -> Mail | None:
    """The notice, None when the account is gone. What a client calls itself is not in it: a stranger writes that."""
    found = queries.find_notice(mail_id)
    if found is None:
        return None
    subject, happened, advice = KINDS[kind]
    address = f" from the network address {found.ip}" if kind == "new_device" and found.ip else ""
    to = found.old_email if kind == "email_changed" and found.old_email else found.email
    return letter(
        to,
        subject,
        happened,
        f"It was at {found.at} UTC{address}.",
        advice,
        f"Your account is at {settings().public_url}.",
    )
