"""The lock against guessing: five failures in a quarter of an hour, and the next tries wait; docs/decisions/0009."""

from typing import Any

from common import errors
from common.db import Tx, database
from common.http import Call
from common.tokens import Claim
from functions.auth import devices

NOBODY = Claim("u")
WAIT = "SELECT identity.lock_wait(:email, CAST(:address AS inet), CAST(:device AS bytea))"
FAILED = "SELECT identity.lock_failed(:email, CAST(:address AS inet), CAST(:device AS bytea))"
CLEAR = "SELECT identity.lock_clear(:email, CAST(:address AS inet), CAST(:device AS bytea))"


def guard(call: Call, email: str, tx: Tx | None = None) -> None:
    """Raise 429 `account_locked` with Retry-After while this caller may not try for this address.

    `email`: a normal address, of an account or of nobody. Works in `tx` or the request's own transaction, if any.
    """
    known, within = place(call, email), tx or call._tx
    _refuse_for(within.value(WAIT, **known) if within else database().single(NOBODY, WAIT, **known)[0][0])


def failed(call: Call, email: str, tx: Tx | None = None) -> None:
    """Count a failed proof of identity. Raises 429 when the lock fell meanwhile: then nothing is told about the proof.

    In a transaction the count stands only if that commits: raise a Problem with `commits=True`.
    """
    _refuse_for(count(call, email, tx))


def count(call: Call, email: str, tx: Tx | None = None) -> int:
    """Count a failed proof of identity; 0, or the seconds to wait when it came too late to be told."""
    known, within = place(call, email), tx or call._tx
    return int(within.value(FAILED, **known) if within else database().single(NOBODY, FAILED, **known)[0][0])


def succeeded(call: Call, email: str, tx: Tx | None = None) -> None:
    """Forget this caller's failures for this address, after a complete proof of identity."""
    known, within = place(call, email), tx or call._tx
    if within:
        within.value(CLEAR, **known)
    else:
        database().single(NOBODY, CLEAR, **known)


def place(call: Call, email: str) -> dict[str, Any]:
    """The parameters of a look into the lock."""
    return {"email": email, "address": call.ip, "device": devices.shown(call)}


def guard_ahead(call: Call, tx: Tx, email: str) -> None:
    """As `guard`, along with the next statement: a right proof that came too late is not told either."""
    tx.ahead(lambda rows: _refuse_for(rows[0][0]), WAIT, **place(call, email))


def clear_ahead(call: Call, tx: Tx) -> None:
    """As `succeeded`, for the sealed person, along with the transaction's next statement."""
    known = place(call, "")
    del known["email"]
    tx.ahead(
        lambda _rows: None,
        """
        SELECT identity.lock_clear(a.email, CAST(:address AS inet), CAST(:device AS bytea))
        FROM identity.accounts a WHERE a.id = :user_id
        """,
        **known,
    )


def locked(seconds: int) -> errors.Problem:
    """429 with the time to wait."""
    return errors.Problem(
        "account_locked",
        "Too many failed log-ins for this address. Wait, or set a new password by mail.",
        headers={"Retry-After": str(seconds)},
    )


def _refuse_for(seconds: int) -> None:
    if seconds > 0:
        raise locked(seconds)
