"""Log-ins that were revoked while their access tokens live, in Valkey: refused before a database connection is taken.

The database is the truth: it refuses them too, and an entry that is missing costs nothing but the question there. An
entry lives as long as the youngest access token that it may concern. Whoever learns of a revocation writes it: the
session API's watcher, from the database's feed. Every service asks with its rate limits (common/limits.py), in one
round trip.
"""

from collections.abc import Iterable

from common import cache, errors, tokens, tracing
from common.settings import settings

SECONDS = 0.25  # for an answer


def key(login_session_id: str) -> str:
    """Where the entry of a log-in stands."""
    return f"DENIED:{login_session_id}"


def refusal() -> errors.Problem:
    """The answer to a log-in that is listed, as the database gives it."""
    return errors.unauthenticated("The login session has ended or the membership is gone.")


def add(login_session_ids: Iterable[str]) -> bool:
    """List log-ins that the database has ended for good, in one round trip. False when Valkey cannot be asked.

    Blocks for a quarter of a second at most. Writing one again changes nothing but its time.
    """
    wanted = list(login_session_ids)
    if not wanted or not settings().valkey_url:
        return bool(settings().valkey_url)
    seconds = settings().access_token_seconds + 2 * tokens.LEEWAY_SECONDS
    try:
        with tracing.span("valkey"), cache.client(SECONDS).pipeline(transaction=False) as pipeline:
            for each in wanted:
                pipeline.set(key(each), b"", ex=seconds)
            pipeline.execute()
    except cache.failures():
        return False
    return True
