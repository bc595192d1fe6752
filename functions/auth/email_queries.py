"""New e-mail addresses: literal SQL, one function per query."""

from dataclasses import dataclass
from typing import Any

from common.db import Tx, database
from functions.auth.queries import NOBODY


@dataclass(frozen=True)
class Wish:
    """A new address that waits for its mailbox. `session_id` and `tenant_id`: of the log-in that asked, while it lasts.

    `email` is the present address; `organizations` are those that are not suspended, the oldest membership first.
    """

    id: str
    account_id: str
    session_id: str | None
    tenant_id: str | None
    browser_hash: bytes
    email: str
    password_hash: str | None
    organizations: list[str]


def ask_email_change(tx: Tx, wish: dict[str, Any]) -> bool:
    """Keep the wish (change, session, email, browser, token, lifetime in seconds); False beyond five an hour."""
    return bool(
        tx.value(
            "SELECT identity.ask_email_change(:change, :session, :email, :browser, :token,"
            " make_interval(secs => :lifetime))",
            **wish,
        )
    )


def find_email_change(token: bytes) -> Wish | None:
    """The wish behind a mailed token's hash, while it is good."""
    found = database().single(NOBODY, "SELECT * FROM identity.email_change(:token)", token=token)
    if not found:
        return None
    change_id, account_id, session_id, tenant_id, *rest = found[0]
    return Wish(str(change_id), str(account_id), _text(session_id), _text(tenant_id), *rest)


def confirm_email_change(tx: Tx, change_id: str) -> bool:
    """The new address stands; False when another use of the token was faster."""
    return bool(tx.value("SELECT identity.confirm_email_change(:change)", change=change_id))


def find_mail_wish(mail_id: str) -> tuple[str, str, bytes, bool] | None:
    """Id, new address, the token's hash, and whether the address has another account; None when it is over."""
    found = database().single(NOBODY, "SELECT * FROM identity.mail_email_change(:mail)", mail=mail_id)
    return (str(found[0][0]), found[0][1], found[0][2], found[0][3]) if found else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
