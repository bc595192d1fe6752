"""Codes that are sent by text message or mail: literal SQL, one function per query."""

from dataclasses import dataclass

from common.db import Tx, database
from functions.auth.queries import NOBODY


@dataclass(frozen=True)
class SentCode:
    """The newest code for a factor and a use; `alive` while it may be tried."""

    id: str
    kid: str
    alive: bool


def sending_pause(tx: Tx, factor_id: str, bound_to: str, *, pause: int, hourly: int) -> int:
    """Seconds until another code may be sent, 0 when one may: codes that were used do not count.

    One in `pause` seconds for the same use, `hourly` in an hour for the factor.
    """
    return int(
        tx.value(
            """
            SELECT greatest(0,
                coalesce(max(:pause - age) FILTER (WHERE bound_to = :bound_to), 0),
                CASE WHEN count(*) >= :hourly THEN max(3600 - age) FILTER (WHERE place = :hourly) ELSE 0 END
            )::integer
            FROM (SELECT c.bound_to, ceil(extract(epoch FROM clock_timestamp() - c.created_at)) AS age,
                         row_number() OVER (ORDER BY c.created_at DESC) AS place
                  FROM identity.mfa_codes c
                  WHERE c.factor_id = :factor AND c.account_id = :user_id AND c.used_at IS NULL
                      AND c.created_at > clock_timestamp() - interval '1 hour') AS recent
            """,
            factor=factor_id,
            bound_to=bound_to,
            pause=pause,
            hourly=hourly,
        )
    )


def text_pause(tx: Tx, *, daily: int) -> int:
    """Seconds until the person may be texted again, 0 when she may: `daily` in a day, used or not."""
    return int(tx.value("SELECT identity.text_pause(:daily)", daily=daily))


def insert_code(tx: Tx, code: dict[str, str], lifetime: int) -> None:
    """A code (id, factor_id, bound_to, kid) that is being sent."""
    tx.rows(
        """
        INSERT INTO identity.mfa_codes (id, account_id, factor_id, bound_to, kid, expires_at)
        VALUES (:id, :user_id, :factor_id, :bound_to, :kid, clock_timestamp() + make_interval(secs => :lifetime))
        """,
        **code,
        lifetime=lifetime,
    )


def newest_code(tx: Tx, factor_id: str, bound_to: str, *, tries: int) -> SentCode | None:
    """The code that was sent last, for this factor and use."""
    found = tx.row(
        """
        SELECT c.id::text, c.kid, c.used_at IS NULL AND c.expires_at > clock_timestamp() AND c.attempts < :tries
        FROM identity.mfa_codes c
        WHERE c.factor_id = :factor AND c.account_id = :user_id AND c.bound_to = :bound_to
        ORDER BY c.created_at DESC LIMIT 1
        """,
        factor=factor_id,
        bound_to=bound_to,
        tries=tries,
    )
    return SentCode(*found) if found else None


def mark_code(tx: Tx, code_id: str, factor_id: str, *, right: bool) -> None:
    """A code was tried: it is spent, or has one try less; the factor's failures in a row end, or grow."""
    tx.flight(
        (
            """
            UPDATE identity.mfa_codes
            SET attempts = attempts + 1, used_at = CASE WHEN :right THEN clock_timestamp() END
            WHERE id = :code AND account_id = :user_id
            """,
            {"code": code_id, "right": right},
        ),
        (
            """
            UPDATE identity.mfa_factors SET failures = 0
            WHERE id = :factor AND account_id = :user_id AND :right
            """,
            {"factor": factor_id, "right": right},
        ),
    )


def find_message(message_id: str) -> tuple[str, str, str, bool] | None:
    """Address, key and account of a code that is being sent, and whether the address is a phone number, sealed.

    None when the code is of no use any more.
    """
    found = database().single(NOBODY, "SELECT * FROM identity.mfa_message(:message)", message=message_id)
    return tuple(found[0]) if found else None
