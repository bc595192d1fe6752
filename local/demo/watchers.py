"""Two ways to watch a session: server-sent events by `requests`, and a WebSocket by aiohttp; each comes back by itself.

Sources: https://html.spec.whatwg.org/multipage/server-sent-events.html, https://www.rfc-editor.org/rfc/rfc6455
"""

import asyncio
import json
import threading
import time
from abc import ABC, abstractmethod
from typing import Any

import aiohttp
import requests

from local.demo.client import ANSWER_SECONDS, POLL_SECONDS
from local.demo.people import Person

UPGRADED = 101


class Watcher(ABC):
    """Watches in a thread of its own until somebody ends it for good; goes on behind the last event that it has."""

    FOR_GOOD = frozenset({"session_closed", "not_found", "invalid_token", "permission_denied"})

    def __init__(self, person: Person, path: str) -> None:
        self.person, self.path = person, path
        self.seen: list[dict[str, Any]] = []
        self.opened = 0
        self.is_open = False
        self.end = ""  # why it is over, and since when
        self.ended_at = 0.0
        threading.Thread(target=self._run, daemon=True).start()

    @property
    def last(self) -> int:
        """The number of the last event."""
        return int(self.seen[-1]["seq"]) if self.seen else 0

    @abstractmethod
    def watch(self) -> str:
        """One connection, from its opening to its end: why it ended, "" when it broke off."""

    def has_opened(self) -> None:
        """The service has agreed."""
        self.opened += 1
        self.is_open = True

    def _run(self) -> None:
        while self.end not in self.FOR_GOOD:
            try:
                self.end = self.watch()
            except (requests.RequestException, aiohttp.ClientError, OSError):
                self.end = ""
            self.ended_at = time.monotonic()
            self.is_open = False
            time.sleep(POLL_SECONDS)


class Stream(Watcher):
    """By server-sent events, with the bearer token."""

    def watch(self) -> str:
        """Read until the last words or the end."""
        headers = {"Authorization": f"Bearer {self.person.api.token}", "Last-Event-ID": str(self.last)}
        url = f"{self.person.api.base}{self.path}/stream"
        with requests.Session() as session:
            session.trust_env = False
            with session.get(url, headers=headers, stream=True, timeout=ANSWER_SECONDS) as answer:
                if not answer.ok:
                    return str(answer.json()["code"])
                self.has_opened()
                name = ""
                for line in answer.iter_lines(chunk_size=1):
                    field, _, value = line.decode().partition(": ")
                    if field == "data" and name == "end":
                        return str(json.loads(value)["code"])
                    if field == "data":
                        self.seen.append(json.loads(value))
                    name = value if field == "event" else name if line else ""
        return ""


class Socket(Watcher):
    """By WebSocket, which can speak too."""

    def __init__(self, person: Person, path: str) -> None:
        self.close_code: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        super().__init__(person, path)

    def watch(self) -> str:
        """Read until it is closed."""
        return asyncio.run(self._watch())

    def say(self, event: dict[str, Any]) -> None:
        """Send an event to be appended."""
        if self._loop is None or self._socket is None:
            raise RuntimeError("the socket is not open")
        asyncio.run_coroutine_threadsafe(self._socket.send_json(event), self._loop).result(ANSWER_SECONDS)

    async def _watch(self) -> str:
        headers = {"Authorization": f"Bearer {self.person.api.token}"}
        url = f"{self.person.api.base}{self.path}/ws?after={self.last}"
        async with aiohttp.ClientSession() as session:
            try:
                self._socket = await session.ws_connect(url, headers=headers)
            except aiohttp.WSServerHandshakeError as error:
                return "invalid_token" if error.status in {401, 403} else ""
            self._loop = asyncio.get_running_loop()
            self.has_opened()
            while (message := await self._socket.receive()).type is aiohttp.WSMsgType.TEXT:
                self.seen.append(json.loads(message.data))
            if message.type is not aiohttp.WSMsgType.CLOSE:
                return ""
            self.close_code = message.data
            return str(message.extra)
