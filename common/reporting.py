"""The way out of errors: to Sentry, whose DSN is the secret `sentry-dsn`, from a thread of its own.

Requests never wait for it. The DSN says `none` where there is no Sentry: then nothing is made, kept or imported. What
may be told, common/reports.py says; sentry-sdk is imported here with the first thing that there is to tell, without
any of its integrations, which would look at requests, variables and logs.
Source: https://docs.sentry.io/platforms/python/configuration/options/
"""

import atexit
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any

from common import log, reports, secrets, tracing
from common.settings import settings
from common.tokens import Claim

if TYPE_CHECKING:
    from sentry_sdk import Client

ID = "sentry-dsn"  # of the secret
NONE = "none"
DSN = re.compile(r"https?://[0-9a-f]{1,64}@[a-z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+)*/[0-9]{1,20}")
WAITING = 100  # events that wait to be sent; beyond that the oldest are lost
PER_SECOND = 10  # errors that a process tells: a fault in every request is told well enough; traces have a limit too
FLUSH_SECONDS = 2.0
LAST = -5  # after what else ends with a process of `multiprocessing`
LOST = "an event for Sentry is lost"
SERIOUS = ("ERROR", "CRITICAL")


class Reporter:
    """One process's thread, and what waits for it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.waiting: deque[Callable[[], reports.Json]] = deque(maxlen=WAITING)
        self.client: Client | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._second, self._left = 0, 0
        self._thread = threading.Thread(target=self._run, name="reporting", daemon=True)

    def start(self) -> None:
        """Begin, and arrange for a good end: Granian's workers are of `multiprocessing`, which knows no `atexit`."""
        tracing.tell(self.request)
        log.tell(self.line)
        self._thread.start()
        atexit.register(self.end)
        Finalize(None, self.end, exitpriority=LAST)

    def put(self, made: Callable[[], reports.Json]) -> None:
        """Have an event made, in the thread, and sent."""
        self.waiting.append(made)
        self._wake.set()

    def request(self, root: tracing.Span, parts: list[tracing.Span]) -> None:
        """A request whose trace is kept was answered."""
        self.put(lambda: reports.transaction(root, parts))

    def line(self, severity: str, message: str) -> None:
        """An entry of the log was written. An unexpected error is told by itself, with its places."""
        if severity in SERIOUS and message != log.UNEXPECTED:
            self.put_now(lambda: reports.line(severity, message))

    def put_now(self, made: Callable[[], reports.Json]) -> None:
        """Have an event sent that is made here: it tells this thread's ids, or the frames of an error. Never raises.

        A race of threads costs one more than PER_SECOND.
        """
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._left = second, PER_SECOND
        self._left -= 1
        if self._left < 0:
            return
        try:
            event = made()
        except Exception as error:  # noqa: BLE001 - the answer to a request does not depend on it
            log.entry("WARNING", LOST, error=type(error).__name__)
        else:
            self.put(lambda: event)

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait()
            self._wake.clear()
            self.send()

    def send(self) -> None:
        """Hand what waits to sentry-sdk, which sends it from a thread of its own. Never raises."""
        with self._lock:
            while self.waiting:
                try:
                    event: Any = self.waiting.popleft()()
                    if self.client is None:
                        self.client = client(self.dsn)
                    self.client.capture_event(event)
                except Exception as error:  # noqa: BLE001 - whatever fails here, requests go on
                    log.entry("WARNING", LOST, error=type(error).__name__)

    def end(self) -> None:
        """Send what is left, and wait for it a little."""
        if not self._ended:
            self._ended = True
            self.send()
            if self.client is not None:
                self.client.close(timeout=FLUSH_SECONDS)
            self._wake.set()


def client(dsn: str) -> "Client":
    """sentry-sdk without anything that looks around by itself, or goes elsewhere than the DSN says."""
    from sentry_sdk import Client  # noqa: PLC0415 - 150 ms, only where there is something to tell
    from sentry_sdk.transport import HttpTransport  # noqa: PLC0415

    class Direct(HttpTransport):
        """Follows no redirect: into another region, or out of TLS."""

        def _request(self, method: str, endpoint_type: Any, body: Any, headers: Any) -> Any:
            url = self._auth.get_api_url(endpoint_type)
            return self._pool.request(method, url, body=body, headers=headers, redirect=False)

    for name in ("sentry_sdk", "sentry_sdk.errors", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a Sentry that is away is no news for the log
    return Client(
        dsn=dsn,
        transport=Direct,
        default_integrations=False,
        auto_enabling_integrations=False,
        send_default_pii=False,
        include_local_variables=False,
        include_source_context=False,
        max_request_body_size="never",
        max_breadcrumbs=0,
        traces_sample_rate=settings().trace_sample_ratio,  # for what asks; the id of a trace has decided already
        send_client_reports=False,
        auto_session_tracking=False,
        enable_backpressure_handling=False,
        server_name="",
        spotlight=False,
        before_send=_checked,
        before_send_transaction=_checked,
    )


def _checked(event: Any, _hint: Any) -> Any:
    """Whatever sentry-sdk has added."""
    return reports.allowed(event)


@cache
def _reporter() -> Reporter | None:
    try:
        found = secrets.mounted(settings().secrets_dir, ID).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    if found in ("", NONE):
        return None
    if not DSN.fullmatch(found):
        log.entry("WARNING", "the DSN of Sentry is none, nothing is told there")
        return None
    return Reporter(found)


def start() -> None:
    """Tell Sentry from now on, where there is a DSN. Belongs into the process that serves, not into its parent."""
    found = _reporter()
    if found is not None:
        found.start()


def end() -> None:
    """Send what is left: for a process that ends without saying so to Python."""
    found = _reporter()
    if found is not None:
        found.end()


def failure(error: BaseException, route: str = "none", claim: Claim | None = None) -> None:
    """An unexpected error met somebody: told at once, and written into the log in any case."""
    log.failure(error)
    found = _reporter()
    if found is not None:
        found.put_now(lambda: reports.failure(error, route, claim))
