"""The access token with which a service account logs in to Memorystore for Valkey, fetched before it is needed.

Fetching never happens in the way of a request: a thread does it, and whoever waits does so for a bounded time.
Memorystore asks for a valid token at AUTH alone; the connection then lives on, whatever becomes of the token. We show
each new one all the same (common/cache.py), so that nothing here rests on that.
Source: https://docs.cloud.google.com/memorystore/docs/valkey/about-iam-auth
"""

import threading
import time
from functools import cache
from typing import Any

from common import log

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
PAUSE_SECONDS = 2.0  # before the next attempt, after one that brought nothing new


class Token:
    """The service account's present access token. `latest` never waits; `current` waits for the first one."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._credentials: Any = None
        self._text: str | None = None
        self._refused: str | None = None
        self._fetching = False
        self._try_at = 0.0

    def latest(self) -> str | None:
        """The newest token, None when there is none. Near its end another one is fetched behind the caller's back."""
        with self._lock:
            if self._usable is None or not self._credentials.valid:
                self._fetch()
            return self._usable

    def current(self, patience: float) -> str | None:
        """The newest token; waits so many seconds for it when there is none."""
        self.latest()
        with self._lock:
            self._lock.wait_for(lambda: self._usable is not None, patience)
            return self._usable

    def refused(self, text: str | None) -> None:
        """Valkey did not take this one: it is not shown again, and another one is fetched."""
        with self._lock:
            if text is not None and text == self._text:
                self._refused = text

    @property
    def _usable(self) -> str | None:
        return self._text if self._text != self._refused else None

    def _fetch(self) -> None:
        """Begin to fetch, unless that is going on or has just failed."""
        if not self._fetching and time.monotonic() >= self._try_at:
            self._fetching = True
            threading.Thread(target=self._fetched, name="cache-token", daemon=True).start()

    def _fetched(self) -> None:
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415 - slow to import, only with IAM
        from google.auth.transport.requests import Request  # noqa: PLC0415

        credentials = None
        try:
            credentials = self._credentials or _credentials()
            credentials.refresh(Request())
        except (GoogleAuthError, OSError) as error:
            log.entry("ERROR", "no access token for the cache", error=type(error).__name__)
        finally:
            self._arrived(credentials)

    def _arrived(self, credentials: Any) -> None:
        with self._lock:
            # The metadata server keeps giving the same token until it nears its end: a refused one is no news.
            text = credentials.token if credentials is not None else None
            new = text is not None and text != self._text
            self._try_at = 0.0 if new else time.monotonic() + PAUSE_SECONDS
            if text is not None:
                self._credentials, self._text = credentials, text
            self._fetching = False
            self._lock.notify_all()


def _credentials() -> Any:
    import google.auth  # noqa: PLC0415

    return google.auth.default(scopes=[SCOPE])[0]


@cache
def token() -> Token:
    """The process's token."""
    return Token()
