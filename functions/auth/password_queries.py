"""New passwords: literal SQL, one function per query."""

from dataclasses import dataclass

from common.db import Tx, database
from functions.auth.queries import NOBODY, SELECT_PERSON, Person, person_of


@dataclass(frozen=True)
class Reset:
    """What stands behind a mailed token; `words` are what the new password must not contain."""

    id: str
    account_id: str
    words: list[str]


def ask_password_reset(tx: Tx, email: str, reset_id: str, token: bytes, lifetime: int) -> None:
    """Keep a reset that lasts `lifetime` seconds; for an unknown address one about nobody."""
    tx.rows(
        "SELECT identity.ask_password_reset(:email, :reset, :token, make_interval(secs => :lifetime))",
        email=email,
        reset=reset_id,
        token=token,
        lifetime=lifetime,
    )


def find_mail_reset(mail_id: str) -> tuple[str, bytes] | None:
    """The address and the token's hash, None when the reset is about nobody or over."""
    found = database().single(NOBODY, "SELECT * FROM identity.mail_password_reset(:mail)", mail=mail_id)
    return (found[0][0], found[0][1]) if found else None


def note_reset_mail(mail_id: str, request_id: str) -> None:
    """Record, in the organizations of the person, that the link to a new password has gone out."""
    database().single(NOBODY, "SELECT identity.note_reset_mail(:mail, :request)", mail=mail_id, request=request_id)


def find_password_reset(token: bytes) -> Reset | None:
    """The reset behind a token's hash, while it is good."""
    found = database().single(NOBODY, "SELECT * FROM identity.password_reset(:token)", token=token)
    if not found:
        return None
    reset_id, account_id, email, display_name, organizations = found[0]
    return Reset(str(reset_id), str(account_id), [email, display_name, *organizations])


def reset_password(tx: Tx, token: bytes, password_hash: str) -> list[str] | None:
    """The token's one use, sealed for its person: her live organizations, None when another use was faster."""
    found = tx.row("SELECT * FROM identity.reset_password(:token, :hash)", token=token, hash=password_hash)
    return list(found[0]) if found else None


def select_own_password(tx: Tx) -> tuple[Person, str | None]:
    """The caller and her password hash."""
    person, found = tx.flight(
        (SELECT_PERSON, {}), ("SELECT a.password_hash FROM identity.accounts a WHERE a.id = :user_id", {})
    )
    return person_of(tx, person), found[0][0]


def change_password(tx: Tx, old: str, new: str, *, session_id: str, device: bytes | None) -> bool:
    """The new password; other log-ins, other devices and mailed resets end. False when it changed meanwhile.

    A log-in that waits for its second factor ends too: its first proof was the old password. So does a new address that
    waits for its mailbox: who reads of one that she did not ask for is told to set a new password.
    """
    changed, *_ = tx.flight(
        (
            """
            UPDATE identity.accounts SET password_hash = :new, updated_at = now(), version = version + 1
            WHERE id = :user_id AND password_hash = :old
            RETURNING id
            """,
            {"old": old, "new": new},
        ),
        (
            """
            UPDATE identity.login_sessions SET revoked_at = clock_timestamp()
            WHERE account_id = :user_id AND id <> :session AND revoked_at IS NULL
            """,
            {"session": session_id},
        ),
        ("DELETE FROM identity.mfa_challenges WHERE account_id = :user_id", {}),
        ("DELETE FROM identity.password_resets WHERE account_id = :user_id", {}),
        (
            """
            UPDATE identity.email_changes SET expires_at = clock_timestamp()
            WHERE account_id = :user_id AND confirmed_at IS NULL
            """,
            {},
        ),
        (
            "DELETE FROM identity.devices WHERE account_id = :user_id AND token_hash IS DISTINCT FROM :device",
            {"device": device},
        ),
    )
    return bool(changed)
