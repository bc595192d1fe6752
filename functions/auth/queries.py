"""Accounts, login sessions, registrations: literal SQL, one function per query."""

import json
from dataclasses import dataclass
from typing import Any

from common import errors
from common.db import Tx, database
from common.tokens import Claim

NOBODY = Claim("u")  # who is not known yet: sees nothing, may call the look-ups
SELECT_PERSON = (
    "SELECT a.email, a.display_name, identity.organizations() FROM identity.accounts a WHERE a.id = :user_id"
)


@dataclass(frozen=True)
class Credential:
    """The account behind an e-mail address.

    `organizations` are ids, those that are not suspended first: they are `live`.
    """

    account_id: str
    password_hash: str | None
    status: str
    organizations: list[str]
    live: int
    factor: bool  # a second factor is asked for


@dataclass(frozen=True)
class Person:
    """A person and her organizations: [{id, slug, name, role}]."""

    id: str
    email: str
    display_name: str
    organizations: list[dict[str, str]]

    @property
    def json(self) -> dict[str, str]:
        """As API.md shows a user."""
        return {"id": self.id, "email": self.email, "display_name": self.display_name}

    def organization(self, tenant_id: str) -> dict[str, str]:
        """One of her organizations. Raises 404."""
        for organization in self.organizations:
            if organization["id"] == tenant_id:
                return organization
        raise errors.not_found()


@dataclass(frozen=True)
class IncidentMail:
    """A mail about an incident; without an address it goes to the operator. `words`: what people are told."""

    kind: str
    email: str | None
    organization: str | None
    incident: dict[str, Any]
    words: str | None


@dataclass(frozen=True)
class PrivacyNotice:
    """A mail about a time limit; without an address it goes to the platform's operator."""

    kind: str
    email: str | None
    request: str
    request_kind: str
    scope: str
    due_on: str
    received_on: str
    reason: str | None
    organization: str | None


@dataclass(frozen=True)
class Notice:
    """Addresses of a notice, the present and the one before; its time in UTC; the client's network address."""

    email: str
    old_email: str | None
    at: str
    ip: str | None


def find_credential(place: dict[str, Any]) -> tuple[Credential | None, str | None, int]:
    """The account behind a normal e-mail address, and the seconds that the lock makes this `place` wait.

    Between them the password hash of the newest registration that waits for the address, account or not.
    """
    wait, pending, *found = database().single(
        NOBODY,
        """
        SELECT l.wait, identity.pending_password(:email), a.*, identity.asks_for_factor(a.account_id)
        FROM (SELECT identity.lock_wait(:email, CAST(:address AS inet), CAST(:device AS bytea)) AS wait) AS l
        LEFT JOIN identity.account_by_email(:email) AS a ON true
        """,
        **place,
    )[0]
    return (Credential(*found) if found[0] is not None else None), pending, wait


@dataclass(frozen=True)
class CampaignMail:
    """To whom a mail of a campaign goes, what it says, and what the person agreed to."""

    email: str
    subject: str
    text: str
    purpose: str
    account_id: str
    organization_id: str | None
    organization: str | None


def select_choices(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a registration says ({purpose, granted}), each with the `version` of its text, None for no such purpose."""
    found = database().single(
        NOBODY, "SELECT identity.consent_choices(CAST(:choices AS jsonb))", choices=json.dumps(choices)
    )
    versioned: list[dict[str, Any]] = json.loads(found[0][0])
    return versioned


def find_campaign_mail(mail_id: str) -> CampaignMail | None:
    """The mail; None when it is not to be sent, which is counted."""
    found = database().single(NOBODY, "SELECT * FROM platform.campaign_mail(:mail)", mail=mail_id)
    return CampaignMail(*found[0]) if found else None


def insert_registration(tx: Tx, registration: dict[str, Any], *, lifetime: int) -> None:
    """A pending registration; its id, hashes and typed fields are given."""
    tx.rows(
        """
        INSERT INTO identity.registrations (id, email, display_name, organization_name, password_hash, consents,
                                            browser_hash, token_hash, expires_at)
        VALUES (:id, :email, :display_name, :organization_name, :password_hash, CAST(:consents AS jsonb),
                :browser_hash, :token_hash, now() + make_interval(secs => :lifetime))
        """,
        **{**registration, "consents": json.dumps(registration["consents"])},
        lifetime=lifetime,
    )


def find_pending_registration(tx: Tx, email: str) -> str | None:
    """The newest registration that waits for this address."""
    found = tx.value("SELECT identity.pending_registration(:email)", email=email)
    return str(found) if found else None


def find_registration_hash(token: bytes) -> tuple[str, str | None]:
    """Outcome (`unknown`, `password_required`) and the password hash behind a mailed token; changes nothing."""
    found = database().single(
        NOBODY,
        """
        SELECT a.outcome, a.password_hash
        FROM identity.activate_registration(:token, NULL, false, NULL, NULL, NULL) AS a
        """,
        token=token,
    )
    return found[0][0], found[0][1]


def activate_registration(
    tx: Tx, token: bytes, browser: bytes | None, *, proved: bool, signal: str | None, personal: dict[str, str | None]
) -> tuple[str, str, str, list[dict[str, Any]]]:
    """Outcome (`activated`, `unknown`, `password_required`), account id, organization id, and the consents it brought.

    A consent is {id, purpose, version, granted}.
    """
    outcome, account_id, tenant_id, _, consents = tx.rows(
        """
        SELECT * FROM identity.activate_registration(:token, :browser, :proved, :signal, CAST(:ip AS inet), :user_agent)
        """,
        token=token,
        browser=browser,
        proved=proved,
        signal=signal,
        **personal,
    )[0]
    return outcome, account_id, tenant_id, json.loads(consents or "[]")


def update_password_hash(tx: Tx, old: str, new: str) -> None:
    """The same password under grown parameters, unless it was changed meanwhile."""
    tx.rows(
        "UPDATE identity.accounts SET password_hash = :new WHERE id = :user_id AND password_hash = :old",
        old=old,
        new=new,
    )


def select_person(tx: Tx) -> Person:
    """The caller."""
    return person_of(tx, tx.rows(SELECT_PERSON))


def update_display_name(tx: Tx, display_name: str) -> Person:
    """The caller under a new name."""
    _, person = tx.flight(
        (
            """
            UPDATE identity.accounts SET display_name = :display_name, updated_at = now(), version = version + 1
            WHERE id = :user_id
            """,
            {"display_name": display_name},
        ),
        (SELECT_PERSON, {}),
    )
    return person_of(tx, person)


def select_password_hash(tx: Tx) -> str | None:
    """The caller's own password hash."""
    found: str | None = tx.value("SELECT a.password_hash FROM identity.accounts a WHERE a.id = :user_id")
    return found


def reset_by_mail_pending(tx: Tx) -> bool:
    """Whether the password was reset by mail and no log-in has followed: a mail code proves nothing more for it."""
    return bool(tx.value("SELECT a.reset_by_mail_at IS NOT NULL FROM identity.accounts a WHERE a.id = :user_id"))


def same_password_ahead(tx: Tx, proved: str) -> None:
    """Refuse to go on if the password was changed since its hash was `proved`; asked along with the next statement.

    The account stays locked: a change that comes later finds, and ends, what this log-in opens.
    """

    def heed(rows: list[list[Any]]) -> None:
        if not rows or not rows[0][0]:
            raise errors.Problem("unavailable", "Log in again.", headers={"Retry-After": "1"})

    tx.ahead(
        heed,
        "SELECT a.password_hash = :proved FROM identity.accounts a WHERE a.id = :user_id FOR NO KEY UPDATE",
        proved=proved,
    )


def no_factor_ahead(tx: Tx) -> None:
    """Refuse to go on if a second factor came since it was looked up; asked along with the next statement."""

    def heed(rows: list[list[Any]]) -> None:
        if rows[0][0]:
            raise errors.Problem("unavailable", "Log in again.", headers={"Retry-After": "1"})

    tx.ahead(heed, "SELECT identity.asks_for_factor(:user_id)")


def forget_reset_ahead(tx: Tx) -> None:
    """A log-in has followed the reset by mail; said along with the next statement."""
    tx.ahead(
        lambda _rows: None,
        """
        UPDATE identity.accounts SET reset_by_mail_at = NULL
        WHERE id = :user_id AND reset_by_mail_at IS NOT NULL
        """,
    )


def find_notice(mail_id: str) -> Notice | None:
    """Whom a notice goes to, and what it is about; None when the account is gone."""
    found = database().single(NOBODY, "SELECT * FROM identity.mail_notice(:mail)", mail=mail_id)
    return Notice(*found[0]) if found else None


def find_privacy_notice(mail_id: str) -> PrivacyNotice | None:
    """Whom the mail goes to and what it says; None when there is nothing to say any more."""
    found = database().single(NOBODY, "SELECT * FROM platform.privacy_notice(:mail)", mail=mail_id)
    return PrivacyNotice(*found[0]) if found else None


def find_incident_mail(mail_id: str) -> IncidentMail | None:
    """Whom the mail about an incident goes to and what it says; None when there is nothing to say any more."""
    found = database().single(NOBODY, "SELECT * FROM platform.incident_mail(:mail)", mail=mail_id)
    if not found:
        return None
    kind, email, organization, incident, words = found[0]
    return IncidentMail(kind, email, organization, json.loads(incident), words)


def claim_mail(mail_id: str) -> tuple[str, str, str]:
    """State (`claimed`, `busy`, `done`, `unknown`), purpose and reference of an outbox mail."""
    state, purpose, reference = database().single(NOBODY, "SELECT * FROM platform.mail_claim(:mail)", mail=mail_id)[0]
    return state, purpose, reference


def find_mail_registration(mail_id: str) -> tuple[str, bytes, bool] | None:
    """The address, the token's hash, and whether there is an account with the address; None when it is gone."""
    found = database().single(NOBODY, "SELECT * FROM identity.mail_registration(:mail)", mail=mail_id)
    return (found[0][0], found[0][1], found[0][2]) if found else None


def release_mail(mail_id: str) -> None:
    """The sending failed: the next try may begin at once."""
    database().single(NOBODY, "SELECT platform.mail_release(:mail)", mail=mail_id)


def mark_delivered(mail_id: str) -> None:
    """The mail is out, or will never be."""
    database().single(NOBODY, "SELECT platform.mail_delivered(:mail)", mail=mail_id)


def person_of(tx: Tx, rows: list[list[Any]]) -> Person:
    email, display_name, organizations = rows[0]
    return Person(tx.claim.principal_id, email, display_name, json.loads(organizations))
