"""Invitations as the invited person meets them: literal SQL, one function per query. The secret is the only key."""

from dataclasses import dataclass

from common.db import Tx, database
from common.tokens import Claim
from functions.auth.queries import NOBODY


@dataclass(frozen=True)
class Invited:
    """Whom a mailed secret invites. Without `account_id` there is no account with the address.

    `live` is how many of her organizations she can log in to.
    """

    email: str
    organization: str
    account_id: str | None
    password_hash: str | None
    live: int


@dataclass(frozen=True)
class Acceptance:
    """`outcome`: joined, member, suspended, login_required or unknown; ids where it is joined or member."""

    outcome: str
    account_id: str
    tenant_id: str
    invitation_id: str


def find_invitation(mailed: bytes) -> Invited | None:
    """Whom the secret of that hash invites, None when nobody any more."""
    found = database().single(NOBODY, "SELECT * FROM identity.find_invitation(:mailed)", mailed=mailed)
    return Invited(*found[0]) if found else None


def accept_invitation(tx: Tx, mailed: bytes, name: str | None = None, password_hash: str | None = None) -> Acceptance:
    """The transaction's person joins or, sealed for nobody, a new account with this name and password."""
    found = tx.rows(
        "SELECT * FROM identity.accept_invitation(:mailed, :name, :hash)",
        mailed=mailed,
        name=name,
        hash=password_hash,
    )
    return Acceptance(*found[0])


def is_session(claim: Claim) -> bool:
    """Whether the claim stands on a login session that lives, in an organization that does. Raises Problem 401, 403."""
    found = database().single(
        claim,
        "SELECT EXISTS (SELECT FROM identity.login_sessions WHERE id = :session AND account_id = :user_id)",
        session=claim.login_session_id,
    )
    return bool(found[0][0])


def find_mail_invitation(mail_id: str) -> tuple[str, int, str, int] | None:
    """Address, generation of the link, the organization's name and the seconds left; None when it is over."""
    found = database().single(NOBODY, "SELECT * FROM identity.mail_invitation(:mail)", mail=mail_id)
    return (found[0][0], found[0][1], found[0][2], found[0][3]) if found else None


def arm_invitation(mail_id: str, generation: int, token: bytes) -> bool:
    """The link of this generation works from here on; False when a newer one has been asked for."""
    found = database().single(
        NOBODY,
        "SELECT identity.arm_invitation(:mail, :generation, :token)",
        mail=mail_id,
        generation=generation,
        token=token,
    )
    return bool(found[0][0])
