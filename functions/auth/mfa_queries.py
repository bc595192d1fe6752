"""Second factors, the log-ins that wait for them, codes: literal SQL, one function per query."""

from collections.abc import Mapping
from dataclasses import dataclass

from common import phones
from common.db import Tx, database
from functions.auth.queries import NOBODY

MOST_FACTORS = 10


@dataclass(frozen=True)
class Factor:
    """A second factor of the transaction's person; `address` is the e-mail address or the phone number, sealed.

    `wait`: seconds until it may be tried again after too many failures, 0 when it may.
    """

    id: str
    type: str
    secret: str | None
    address: str
    last_step: int | None
    confirmed: bool
    older: bool
    wait: int
    account_id: str

    @property
    def hint(self) -> str:
        """Enough to recognize it by, too little to use it. Raises kms.Unavailable."""
        if self.type == "sms":
            number = phones.read(self.address, self.account_id)
            return f"{number[:3]}…{number[-2:]}" if number else "A phone"
        if self.type == "email":
            name, _, domain = self.address.rpartition("@")
            return f"{name[:1]}…@{domain}"
        return "Authenticator app"


@dataclass(frozen=True)
class Challenge:
    """A log-in that waits for its second factor; see identity.mfa_challenge."""

    id: str
    account_id: str
    tenant_id: str
    method: str
    amr: list[str]
    attempts: int
    email: str
    organizations: list[str]


@dataclass(frozen=True)
class Proofs:
    """What step-up may ask of the caller."""

    email: str
    password_hash: str | None
    has_factor: bool


def list_factors(tx: Tx) -> list[tuple[Factor, str, str | None]]:
    """All factors, newest first, each with the times it was made and confirmed (RFC 3339)."""
    rows = tx.rows(
        """
        SELECT f.id::text, f.type, NULL, coalesce(f.phone, a.email), NULL, f.confirmed_at IS NOT NULL, true, 0,
               f.account_id::text, to_char(f.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
               to_char(f.confirmed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        FROM identity.mfa_factors f JOIN identity.accounts a ON a.id = f.account_id
        WHERE f.account_id = :user_id ORDER BY f.created_at DESC, f.id
        """
    )
    return [(Factor(*row[:9]), row[9], row[10]) for row in rows]


def insert_factor(tx: Tx, factor: dict[str, str | None]) -> bool:
    """A factor (id, type, sealed secret and phone) that waits for its first code; False when the person has enough.

    Of those that never were confirmed only the newest of a type stays.
    """
    tx.rows("SELECT FROM identity.accounts a WHERE a.id = :user_id FOR UPDATE")
    _, added = tx.flight(
        (
            """
            DELETE FROM identity.mfa_factors
            WHERE account_id = :user_id AND confirmed_at IS NULL AND type = :type
            """,
            {"type": factor["type"]},
        ),
        (
            """
            INSERT INTO identity.mfa_factors (id, account_id, type, secret, phone)
            SELECT CAST(:id AS uuid), CAST(:user_id AS uuid), CAST(:type AS text), CAST(:secret AS text),
                   CAST(:phone AS text)
            WHERE (SELECT count(*) < :most AND NOT coalesce(bool_or(f.type = 'email' AND f.type = :type), false)
                   FROM identity.mfa_factors f WHERE f.account_id = :user_id)
            RETURNING id
            """,
            {**factor, "most": MOST_FACTORS},
        ),
    )
    return bool(added)


def lock_factor(tx: Tx, factor_id: str, session_id: str | None = None) -> Factor | None:
    """One of the person's factors, locked to the end of the transaction, so that tries take their turn.

    After ten failures in a row it rests: a minute, then twice as long after each, an hour at most. `older`: whether
    it was confirmed before the log-in of `session_id`.
    """
    found = tx.row(
        """
        SELECT f.id::text, f.type, f.secret, coalesce(f.phone, a.email), f.last_step, f.confirmed_at IS NOT NULL,
               coalesce(f.confirmed_at < s.proved_at, false),
               CASE WHEN f.failures < 10 THEN 0
                    ELSE greatest(0, ceil(extract(epoch FROM f.failed_at - clock_timestamp())
                                          + least(3600, 60 * 2 ^ least(f.failures - 10, 6))))::integer
               END,
               f.account_id::text
        FROM identity.mfa_factors f
        JOIN identity.accounts a ON a.id = f.account_id
        LEFT JOIN identity.login_sessions s ON s.id = :session AND s.account_id = :user_id
        WHERE f.id = :factor AND f.account_id = :user_id
        FOR UPDATE OF f
        """,
        factor=factor_id,
        session=session_id,
    )
    return Factor(*found) if found else None


def accept_step(tx: Tx, factor_id: str, step: int, secret: str) -> bool:
    """A time step is spent, unless it or a later one was before; the secret as it is sealed now."""
    return bool(
        tx.rows(
            """
            UPDATE identity.mfa_factors SET last_step = :step, secret = :secret, failures = 0
            WHERE id = :factor AND account_id = :user_id AND (last_step IS NULL OR last_step < :step)
            RETURNING id
            """,
            factor=factor_id,
            step=step,
            secret=secret,
        )
    )


def count_failure(tx: Tx, factor_id: str) -> None:
    """One more wrong code in a row."""
    tx.rows(
        """
        UPDATE identity.mfa_factors SET failures = failures + 1, failed_at = clock_timestamp()
        WHERE id = :factor AND account_id = :user_id
        """,
        factor=factor_id,
    )


def confirm_factor(tx: Tx, factor_id: str) -> int:
    """The factor counts from now on; how many recovery codes are unused."""
    return int(
        tx.flight(
            (
                """
                UPDATE identity.mfa_factors SET confirmed_at = clock_timestamp(), expires_at = NULL
                WHERE id = :factor AND account_id = :user_id
                """,
                {"factor": factor_id},
            ),
            (COUNT_RECOVERY_CODES, {}),
        )[1][0][0]
    )


def delete_factor(tx: Tx, factor_id: str) -> str | None:
    """The type of the factor that is gone; with the last confirmed one go the recovery codes. None: there is none."""
    deleted, _ = tx.flight(
        (
            "DELETE FROM identity.mfa_factors WHERE id = :factor AND account_id = :user_id RETURNING type",
            {"factor": factor_id},
        ),
        (
            """
            DELETE FROM identity.mfa_recovery_codes
            WHERE account_id = :user_id AND NOT EXISTS (
                SELECT FROM identity.mfa_factors f WHERE f.account_id = :user_id AND f.confirmed_at IS NOT NULL)
            """,
            {},
        ),
    )
    return str(deleted[0][0]) if deleted else None


COUNT_RECOVERY_CODES = """
    SELECT count(*) FROM identity.mfa_recovery_codes r WHERE r.account_id = :user_id AND r.used_at IS NULL
"""


def count_recovery_codes(tx: Tx) -> int:
    """How many recovery codes are unused."""
    return int(tx.value(COUNT_RECOVERY_CODES))


def replace_recovery_codes(tx: Tx, hashes: list[bytes]) -> None:
    """These and no others."""
    tx.flight(
        ("DELETE FROM identity.mfa_recovery_codes WHERE account_id = :user_id", {}),
        (
            """
            INSERT INTO identity.mfa_recovery_codes (account_id, code_hash)
            SELECT CAST(:user_id AS uuid), given FROM unnest(CAST(:hashes AS bytea[])) AS given
            """,
            {"hashes": hashes},
        ),
    )


def use_recovery_code(tx: Tx, code_hash: bytes) -> bool:
    """Whether it was an unused one; it is spent now."""
    return bool(
        tx.rows(
            """
            UPDATE identity.mfa_recovery_codes SET used_at = clock_timestamp()
            WHERE account_id = :user_id AND code_hash = :hash AND used_at IS NULL RETURNING account_id
            """,
            hash=code_hash,
        )
    )


def insert_challenge(tx: Tx, challenge: Mapping[str, object], lifetime: int) -> None:
    """A log-in (id, token_hash, method, amr) that waits for its second factor; those that waited too long go."""
    tx.flight(
        ("DELETE FROM identity.mfa_challenges WHERE account_id = :user_id AND expires_at < clock_timestamp()", {}),
        (
            """
            INSERT INTO identity.mfa_challenges (id, account_id, tenant_id, token_hash, method, amr, expires_at)
            VALUES (:id, :user_id, :tenant_id, :token_hash, :method, :amr, now() + make_interval(secs => :lifetime))
            """,
            {**challenge, "lifetime": lifetime},
        ),
    )


def find_challenge(token_hash: bytes) -> Challenge | None:
    """The log-in behind an mfa_token."""
    found = database().single(NOBODY, "SELECT * FROM identity.mfa_challenge(:token, false)", token=token_hash)
    return Challenge(*found[0]) if found else None


def lock_challenge(tx: Tx, token_hash: bytes) -> Challenge | None:
    """The same, locked until the transaction ends."""
    found = tx.row("SELECT * FROM identity.mfa_challenge(:token, true)", token=token_hash)
    return Challenge(*found) if found else None


def count_attempt(tx: Tx, challenge_id: str) -> None:
    """One more failed try at a log-in that waits."""
    tx.rows(
        "UPDATE identity.mfa_challenges SET attempts = attempts + 1 WHERE id = :id AND account_id = :user_id",
        id=challenge_id,
    )


def delete_challenge(tx: Tx, challenge_id: str) -> None:
    """The log-in waits no more: its token is worth nothing now."""
    tx.rows("DELETE FROM identity.mfa_challenges WHERE id = :id AND account_id = :user_id", id=challenge_id)


def select_proofs(tx: Tx) -> Proofs:
    """The caller's address and password hash, and whether there is a confirmed factor."""
    return Proofs(
        *tx.rows(
            """
            SELECT a.email, a.password_hash,
                   EXISTS (SELECT FROM identity.mfa_factors f WHERE f.account_id = a.id AND f.confirmed_at IS NOT NULL)
            FROM identity.accounts a WHERE a.id = :user_id
            """
        )[0]
    )
