"""The lock against guessing: five failures in a quarter of an hour, and the next tries wait; see docs/decisions/0009."""

from common.http import Call


def guard(call: Call, email: str) -> None:
    """Raise 429 `account_locked` with Retry-After while this caller may not try for this address.

    `email`: a normal address, of an account or of nobody. Works in the request's transaction where there is one.
    """


def failed(call: Call, email: str) -> None:
    """Count a failed proof of identity. Raises 429 when the lock fell meanwhile: then nothing is told about the proof.

    In the request's own transaction the count stands only if it commits: raise a Problem with `commits=True`.
    """


def succeeded(call: Call, email: str) -> None:
    """Forget this caller's failures for this address, after a complete log-in."""
