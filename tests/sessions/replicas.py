"""The replicas themselves, past the gateway."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from local.layout import Layout
from tests.conftest import Person, pid_of
from tests.sessions.clients import Sse, WebSocket

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Replica:
    """One replica: its address, what lets a request in that comes past the gateway, and its memory."""

    stack: dict[str, Any]
    name: str = "sessions-1"

    @property
    def _layout(self) -> Layout:
        return Layout.load(Path(self.stack["path"]).parent / "layout.json")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._layout.ports[self.name]}"

    def headers(self, person: Person) -> dict[str, str]:
        """What the gateway would have added."""
        key = self._layout.path("secrets", "edge-key", "latest").read_text().split()[0]
        return {**person, "X-Edge-Key": key, "X-Client-Ip": "127.0.0.1"}

    def sse(self, path: str, person: Person, **options: Any) -> Sse:
        return Sse(f"{self.url}{path}", self.headers(person), **options)

    def socket(self, path: str, person: Person, **options: Any) -> WebSocket:
        return WebSocket(f"{self.url}{path}", self.headers(person), **options)

    @property
    def pid(self) -> int:
        return pid_of(self.stack, self.name)

    def replaced(self, old: int) -> bool:
        """Whether another process has taken over from `old`, and takes streams."""
        pid = json.loads(Path(self.stack["path"]).read_text())["pids"].get(self.name, old)
        try:
            return pid != old and requests.get(f"{self.url}/health/serving", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    @property
    def resident(self) -> int:
        """Bytes of memory in use."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE
