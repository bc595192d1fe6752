"""A request to somebody else's server, with bounds: time in all, size, no redirect, no proxy, TLS but on loopback."""

import http.client
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from common import log, tracing

SECONDS = 3.0
MAX_BYTES = 256 * 1024
Kind = TypeVar("Kind")


class Unreachable(Exception):
    """No usable answer: no connection, too slow, too large, or not what was asked for."""


def is_loopback(url: str) -> bool:
    """Whether the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_safe(url: str) -> bool:
    """Whether the URL is https, or http on loopback; with a host, without credentials and fragment."""
    part = urlsplit(url)
    secure = part.scheme == "https" or (part.scheme == "http" and is_loopback(url))
    return secure and bool(part.hostname) and part.username is None and not part.fragment


@tracing.traced("fetch")
def fetch(
    url: str, *, form: str | None = None, document: bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and body of a GET, or of a POST with a form or a JSON document, within SECONDS and MAX_BYTES.

    Raises Unreachable.
    """
    if not is_safe(url):
        raise Unreachable("the address is not https")
    part = urlsplit(url)
    target = (part.path or "/") + (f"?{part.query}" if part.query else "")
    sent = {"Accept": "application/json", "User-Agent": "dev-context", "Connection": "close", **(headers or {})}
    body = document if form is None else form.encode()
    if body is not None:
        sent["Content-Type"] = "application/json" if form is None else "application/x-www-form-urlencoded"
    connection = _connection(part.scheme, part.hostname or "", part.port)
    watch: threading.Timer | None = None
    began = time.monotonic()
    try:
        connection.connect()
        watch = threading.Timer(max(SECONDS - (time.monotonic() - began), 0.01), _cut, [connection.sock])
        watch.daemon = True
        watch.start()
        connection.request("GET" if body is None else "POST", target, body, sent)
        response = connection.getresponse()
        answer = response.read(MAX_BYTES + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(type(error).__name__) from error
    finally:
        if watch:
            watch.cancel()
        connection.close()
    if len(answer) > MAX_BYTES:
        raise Unreachable("the answer is too large")
    if time.monotonic() - began > SECONDS:
        raise Unreachable("the answer came too slowly")
    return response.status, answer


def fetch_object(url: str, **options: Any) -> dict[str, Any]:
    """The JSON object of a 200 answer. Raises Unreachable; a redirect is one more answer that is not 200."""
    status, body = fetch(url, **options)
    if status != http.client.OK:
        raise Unreachable(f"status {status}")
    return parse_object(body)


def parse_object(body: bytes) -> dict[str, Any]:
    """A body as a JSON object. Raises Unreachable."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unreachable("the answer is not JSON") from error
    if not isinstance(found, dict):
        raise Unreachable("the answer is not an object")
    return found


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "https":
        return http.client.HTTPSConnection(host, port, timeout=SECONDS, context=_tls())
    return http.client.HTTPConnection(host, port, timeout=SECONDS)


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _cut(connected: socket.socket | None) -> None:
    """End a conversation that drips: a time limit for each read alone would let it last for ever."""
    try:
        if connected is not None:
            connected.shutdown(socket.SHUT_RDWR)
    except OSError:
        log.entry("INFO", "a slow connection had ended by itself")


class Kept(Generic[Kind]):
    """Something fetched: fresh for an hour, used for a day while it cannot be fetched anew, asked for seldom.

    One thread fetches; the others go on with what there is. `pause` is the least time between two tries in seconds.
    """

    FRESH_SECONDS, STALE_SECONDS, FIRST_PAUSE = 3600.0, 86_400.0, 2.0
    PATIENCE = 0.5  # how long others wait for the one that fetches: a server that is away must not hold all threads

    def __init__(self, load: Callable[[], Kind], pause: float = 60.0) -> None:
        self._load, self._pause = load, pause
        self._lock = threading.Lock()
        self._value: Kind | None = None
        self._loaded = self._tried = float("-inf")

    def get(self, *, anew: bool = False) -> Kind:
        """The value; `anew` asks for one that is newer than what the caller has seen. Raises Unreachable."""
        patience = self.PATIENCE if anew or self._value is None else 0.0
        if self._is_due(anew) and self._lock.acquire(timeout=patience):
            try:
                if self._is_due(anew):
                    self._try()
            finally:
                self._lock.release()
        if self._value is None or time.monotonic() - self._loaded > self.STALE_SECONDS:
            raise Unreachable("nothing was fetched yet")
        return self._value

    def _is_due(self, anew: bool) -> bool:
        now = time.monotonic()
        pause = self._pause if self._value is not None else self.FIRST_PAUSE
        return (anew or now - self._loaded > self.FRESH_SECONDS) and now - self._tried > pause

    def _try(self) -> None:
        self._tried = time.monotonic()
        try:
            self._value = self._load()
            self._loaded = time.monotonic()
        except Unreachable as error:
            log.entry("WARNING", "an outside server gave nothing usable", error=str(error))
