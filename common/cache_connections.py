"""Connections to Valkey as common/cache.py makes them: with our own trust, and with tokens that change.

Imported with the library, where Valkey is first asked.
"""

import ssl
from functools import cache
from typing import Any

import valkey
from valkey._parsers import _AsyncRESP3Parser
from valkey.asyncio import connection as unshared

from common import cache_token
from common.settings import settings

USER = "default"  # of Memorystore, for whoever logs in with a token


@cache
def trust() -> ssl.SSLContext:
    """Whom to believe to be our Valkey.

    With VALKEY_CA the instance's own authorities and no others: what they certify is the instance, and since its
    certificates name an address at most, no name is compared. Else the machine's authorities, and the name.
    """
    context = ssl.create_default_context(cafile=settings().valkey_ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = not settings().valkey_ca
    return context


class Encrypted(valkey.SSLConnection):
    """TLS with our own trust: the library's would add the machine's authorities to the given ones."""

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return trust().wrap_socket(sock, server_hostname=self.host)


class Renewing:
    """A connection of the pool that shows a new token before it is used again: one round trip in about an hour."""

    shown: str | None = None
    _sock: Any
    username: str | None
    password: str | None

    def connect(self) -> None:
        """Called whenever the pool hands the connection out. Raises AuthenticationError when no token is taken."""
        try:
            if self._sock is None:
                super().connect()  # type: ignore[misc]
            elif cache_token.token().latest() not in {None, self.shown}:
                self._show(cache_token.token().latest())
                self.send_command("AUTH", self.username, self.password, check_health=False)  # type: ignore[attr-defined]
                self.read_response()  # type: ignore[attr-defined]
        except valkey.AuthenticationError:
            cache_token.token().refused(self.shown)
            self.disconnect()  # type: ignore[attr-defined]
            raise

    def on_connect(self) -> None:
        """Log in: the library does, with user and password."""
        self._show(cache_token.token().current(self.socket_connect_timeout))  # type: ignore[attr-defined]
        super().on_connect()  # type: ignore[misc]

    def _show(self, text: str | None) -> None:
        if text is None:
            raise valkey.AuthenticationError("no access token yet")
        self.shown = text
        self.username, self.password = USER, text


class PlainRenewing(Renewing, valkey.Connection):
    """Over loopback alone."""


class EncryptedRenewing(Renewing, Encrypted):
    """As Memorystore is reached."""


def kind(encrypted: bool, iam: bool) -> Any:
    """The class of a pool's connections."""
    if iam:
        return EncryptedRenewing if encrypted else PlainRenewing
    return Encrypted if encrypted else valkey.Connection


class Introduced:
    """Says who it is by AUTH, which is what Memorystore documents, before HELLO changes to RESP3."""

    shown: str | None = None
    _parser: Any

    async def on_connect(self) -> None:
        """Log in, then greet as any other connection does. Raises AuthenticationError when no token is taken."""
        self.shown = cache_token.token().latest()
        if self.shown is None:
            raise valkey.AuthenticationError("no access token yet")
        self._parser.on_connect(self)
        await self.send_command("AUTH", USER, self.shown, check_health=False)  # type: ignore[attr-defined]
        try:
            await self.read_response()  # type: ignore[attr-defined]
        except valkey.AuthenticationError:
            cache_token.token().refused(self.shown)
            raise
        await super().on_connect()  # type: ignore[misc]


class PlainIntroduced(Introduced, unshared.Connection):
    """Over loopback alone."""


class EncryptedIntroduced(Introduced, unshared.SSLConnection):
    """As Memorystore is reached."""


def one(url: str, encrypted: bool, iam: bool) -> Any:
    """A connection for asyncio that is not open yet."""
    options = unshared.parse_url(url) | {"socket_timeout": None, "protocol": 3, "parser_class": _AsyncRESP3Parser}
    known = options.pop("connection_class", unshared.Connection)
    if iam:
        known = EncryptedIntroduced if encrypted else PlainIntroduced
    made = known(**options)
    if encrypted:
        made.ssl_context.context = trust()
    return made
