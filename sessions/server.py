"""What a replica runs: uvicorn with one application, and an end that sends its streams to the others."""

import asyncio
import resource
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from common import cache, issuers, limits, log, reporting, telemetry
from common.connecting import PrivilegedLogin
from common.db import database
from common.settings import settings
from sessions.app import Application, Served
from sessions.frames import Frames

KEEP_ALIVE_SECONDS = 620  # longer than the load balancer keeps its connections to us (600 s)
GRACE_SECONDS = 10
LAST_WORDS_SECONDS = 10
BACKLOG = 4096


class Connection(HttpToolsProtocol):
    """uvicorn's connection, known to the application: a stream hears of its loss, and may break it off."""

    when_lost: Callable[[], None] | None = None
    lost = False
    _forgetting: asyncio.TimerHandle | None = None

    def on_message_begin(self) -> None:
        """A request begins: give it a way to its connection. Who goes on takes what was left."""
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
        super().on_message_begin()
        self.scope["extensions"] = {"connection": self}  # type: ignore[dict-item]

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has gone."""
        super().connection_lost(exc)
        self.lost = True
        if self.when_lost is not None:
            self.when_lost()

    def abort(self) -> None:
        """End the connection with whatever waits to be sent."""
        self.transport.abort()

    def part(self) -> None:
        """The stream has ended: a client that does not take what is left of it is not waited for."""
        self.when_lost = None
        if not self.transport.is_closing():
            self._forgetting = self.loop.call_later(LAST_WORDS_SECONDS, self._forget)

    def _forget(self) -> None:
        if self.transport.get_write_buffer_size() > 0:
            self.transport.abort()


class Server(uvicorn.Server):
    """Ends its streams with a hint to come back before it closes anything."""

    def __init__(self, config: uvicorn.Config, replica: Application) -> None:
        super().__init__(config)
        self.replica = replica

    async def shutdown(self, sockets: Any = None) -> None:
        """Drain, then stop as uvicorn does."""
        log.entry("NOTICE", "draining", streams=sum(1 for _ in self.replica.hub.readers()))
        await self.replica.hub.drain(settings().drain_seconds)
        await super().shutdown(sockets)
        for end in (telemetry.end, reporting.end):  # uvicorn ends the process by the signal itself
            await asyncio.to_thread(end)


def config(app: Served) -> uvicorn.Config:
    """How uvicorn serves: no logs but ours, no buffering of WebSocket messages beyond what one event may have."""
    return uvicorn.Config(
        app,
        host=settings().host,
        port=settings().port,
        loop="uvloop",
        http=Connection,
        ws=Frames,
        ws_max_size=128 * 1024,
        ws_per_message_deflate=False,
        ws_ping_interval=20,
        ws_ping_timeout=20,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def main() -> None:
    """Serve until SIGTERM. What would stop a function's process at its start stops this one too."""
    try:
        issuers.check()
        limits.policies()
        cache.check()
        database().open_first()
    except (OSError, ValueError, PrivilegedLogin) as error:
        raise SystemExit(f"the session API cannot start: {error}") from error
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a stream is a file; many shells allow 1,024
    telemetry.start()
    reporting.start()
    app = Served()
    Server(config(app), app.replica).run()


if __name__ == "__main__":
    main()
