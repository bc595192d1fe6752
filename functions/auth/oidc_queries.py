"""Attempts to log in at a provider, and identities there: literal SQL, one function per query."""

import json
from dataclasses import dataclass
from typing import Any

from common import errors
from common.db import Tx, database
from common.tokens import Claim
from functions.auth.queries import NOBODY

LIST_LIMIT = 1000


@dataclass(frozen=True)
class Attempt:
    """A browser that came back; `started` in Unix seconds. The last three are of the login session that asked."""

    provider: str
    purpose: str
    cookies: bool
    return_to: str | None
    started: int
    account_id: str | None
    tenant_id: str | None
    login_session_id: str | None

    @property
    def claim(self) -> Claim:
        """What a transaction for the person who asked is sealed for. Raises 401 when the log-in has ended."""
        if not (self.account_id and self.tenant_id and self.login_session_id):
            raise errors.unauthenticated("The login session has ended.")
        return Claim("u", str(self.tenant_id), str(self.account_id), str(self.login_session_id))


def insert_attempt(tx: Tx, attempt: dict[str, Any], *, lifetime: int) -> None:
    """An attempt: state_hash, browser_hash, provider, purpose, login_session_id, cookies, return_to."""
    tx.rows(
        """
        INSERT INTO identity.oidc_attempts
            (state_hash, browser_hash, provider, purpose, login_session_id, cookies, return_to, expires_at)
        VALUES (:state_hash, :browser_hash, :provider, :purpose, CAST(:login_session_id AS uuid), :cookies,
                CAST(:return_to AS text), now() + make_interval(secs => :lifetime))
        """,
        **attempt,
        lifetime=lifetime,
    )


def take_attempt(state: bytes, browser: bytes) -> Attempt | None:
    """The attempt of this state and browser, which is over with that."""
    found = database().single(
        NOBODY, "SELECT * FROM identity.take_oidc_attempt(:state, :browser)", state=state, browser=browser
    )
    return Attempt(*found[0]) if found else None


def federated_log_in(
    tx: Tx, *, issuer: str, subject: str, email: str | None, name: str, organization: str
) -> tuple[str, str, str, list[str]]:
    """Outcome, account id, identity id and organizations: see identity.federated_log_in."""
    outcome, account_id, identity_id, organizations = tx.rows(
        """
        SELECT * FROM identity.federated_log_in(:issuer, :subject, CAST(:email AS text), :name, :organization)
        """,
        issuer=issuer,
        subject=subject,
        email=email,
        name=name,
        organization=organization,
    )[0]
    return outcome, str(account_id), str(identity_id), organizations


def insert_identity(tx: Tx, issuer: str, subject: str) -> str | None:
    """The id of the new link to the caller's account, None when the identity is linked already."""
    found = tx.value(
        """
        INSERT INTO identity.federated_identities (account_id, issuer, subject)
        VALUES (:user_id, :issuer, :subject)
        ON CONFLICT ON CONSTRAINT federated_identities_linked DO NOTHING
        RETURNING id
        """,
        issuer=issuer,
        subject=subject,
    )
    return str(found) if found else None


def link_identity(tx: Tx, issuer: str, subject: str) -> str:
    """The id of the new link to the caller's account. Raises a violation of federated_identities_linked."""
    return str(
        tx.value(
            """
            INSERT INTO identity.federated_identities (account_id, issuer, subject)
            VALUES (:user_id, :issuer, :subject) RETURNING id
            """,
            issuer=issuer,
            subject=subject,
        )
    )


def find_identity(tx: Tx, issuer: str, subject: str) -> str | None:
    """The id of the caller's own link to an identity."""
    found = tx.value(
        """
        SELECT f.id FROM identity.federated_identities f
        WHERE f.account_id = :user_id AND f.issuer = :issuer AND f.subject = :subject
        """,
        issuer=issuer,
        subject=subject,
    )
    return str(found) if found else None


def has_factor(tx: Tx) -> bool:
    """Whether the caller has a second factor, which a step-up takes then."""
    return bool(
        tx.value(
            """
            SELECT EXISTS (SELECT FROM identity.mfa_factors f
                           WHERE f.account_id = :user_id AND f.confirmed_at IS NOT NULL)
            """
        )
    )


def list_identities(tx: Tx) -> list[dict[str, Any]]:
    """The caller's identities at providers, newest first: {id, issuer, subject, created_at}."""
    found: list[dict[str, Any]] = json.loads(
        tx.value(
            """
        SELECT coalesce(jsonb_agg(jsonb_build_object(
                   'id', f.id, 'issuer', f.issuer, 'subject', f.subject,
                   'created_at', to_char(f.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
                   ORDER BY f.created_at DESC, f.id DESC), '[]')::text
        FROM (SELECT * FROM identity.federated_identities i WHERE i.account_id = :user_id
              ORDER BY i.created_at DESC, i.id DESC LIMIT :most) AS f
        """,
            most=LIST_LIMIT,
        )
    )
    return found


def delete_identity(tx: Tx, identity_id: str) -> None:
    """The identity belongs to nobody here any more. Raises 404."""
    gone = tx.row(
        "DELETE FROM identity.federated_identities WHERE id = :id AND account_id = :user_id RETURNING id",
        id=identity_id,
    )
    if gone is None:
        raise errors.not_found()
