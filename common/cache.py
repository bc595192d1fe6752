"""The one way to Valkey: a pooled client for threads, and single connections for asyncio.

By VALKEY_URL; over TLS, with the authorities of VALKEY_CA; with VALKEY_IAM as the service account itself, whose access
token is the password. The library is imported when Valkey is first asked: a cold start does not pay for it.
Sources: https://docs.cloud.google.com/memorystore/docs/valkey/about-iam-auth,
https://docs.cloud.google.com/memorystore/docs/valkey/about-in-transit-encryption
"""

import asyncio
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from common import cache_token
from common.settings import settings

LOOPBACK = ("127.0.0.1", "::1", "localhost")
PATIENCE_SECONDS = 10.0  # of a connection for asyncio, for the first token


def check() -> None:
    """Raise ValueError when the service account's token would cross a network unencrypted."""
    url = urlsplit(settings().valkey_url)
    if settings().valkey_iam and url.scheme != "rediss" and url.hostname not in LOOPBACK:
        raise ValueError("VALKEY_IAM needs a VALKEY_URL that begins with rediss://")


@cache
def failures() -> tuple[type[Exception], ...]:
    """What is raised when Valkey cannot be asked."""
    import valkey  # noqa: PLC0415 - 35 ms

    return (valkey.ValkeyError, OSError)


@cache
def client(seconds: float) -> Any:
    """The process's valkey.Valkey for threads, which waits so long for each answer. Connects when it is used."""
    import valkey  # noqa: PLC0415

    from common import cache_connections  # noqa: PLC0415

    check()
    kind = cache_connections.kind(_encrypted(), settings().valkey_iam)
    options = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    return valkey.Valkey.from_url(settings().valkey_url, connection_class=kind, **options)


async def connection() -> Any:
    """A valkey.asyncio.Connection of RESP3 that is not open yet; its calls have no time limits of their own."""
    from common import cache_connections  # noqa: PLC0415

    check()
    if settings().valkey_iam:
        await asyncio.to_thread(cache_token.token().current, PATIENCE_SECONDS)
    return cache_connections.one(settings().valkey_url, _encrypted(), settings().valkey_iam)


def _encrypted() -> bool:
    return urlsplit(settings().valkey_url).scheme == "rediss"


def new_token(connection: Any) -> str | None:
    """A token that this open connection for asyncio should show by AUTH, when there is one that it has not shown."""
    if not settings().valkey_iam:
        return None
    latest = cache_token.token().latest()
    return None if latest == connection.shown else latest
