"""A target: a server that is started, asked, loaded and stopped. Peers' are TOML files of bench/peers/targets."""

import base64
import hashlib
import hmac
import http.client
import json
import subprocess
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import processes

Mint = Callable[[int, str], tuple[str, str]]
Answer = tuple[int, Any]


def identifier(label: str) -> str:
    """The seeded id of a label such as `tenant1`: its md5 as a UUID."""
    return str(uuid.UUID(hashlib.md5(label.encode(), usedforsecurity=False).hexdigest()))


def fill(template: Any, values: Mapping[str, Any]) -> Any:
    """`{name}` in every string of a template (a dict, list or string)."""
    if isinstance(template, dict):
        return {name: fill(value, values) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(value, values) for value in template]
    if isinstance(template, str):
        for name, value in values.items():
            template = template.replace("{" + name + "}", str(value))
    return template


def hs256(claims: Mapping[str, Any], secret: str) -> str:
    """A signed token."""

    def encoded(raw: bytes) -> bytes:
        return base64.urlsafe_b64encode(raw).rstrip(b"=")

    head = encoded(b'{"alg":"HS256","typ":"JWT"}') + b"." + encoded(json.dumps(claims).encode())
    return (head + b"." + encoded(hmac.digest(secret.encode(), head, "sha256"))).decode()


@dataclass
class Target:
    """One server. `spec` has the operations; `mint` gives tenant and token of a seeded person, by number and role."""

    name: str
    spec: dict[str, Any]
    command: str | list[str]
    folder: Path
    env: dict[str, str]
    log: Path
    mint: Mint | None = None
    postgres: int = 0  # pid of its postmaster
    valkey: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.url = urllib.parse.urlsplit(self.spec["base_url"])

    def get(self, *keys: str, default: Any = None) -> Any:
        """A value of the spec."""
        value: Any = self.spec
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                return default
            value = value[key]
        return value

    def start(self) -> None:
        """Start it; `wait` until it answers."""
        self.process = processes.spawn(self.command, self.folder, self.env, self.log)

    def stop(self) -> None:
        """Stop it, if it runs."""
        if self.process:
            processes.stop(self.process)
            self.process = None

    @property
    def roots(self) -> list[int]:
        """The root of the server's process tree."""
        return [self.process.pid] if self.process else []

    def tokens(self, count: int, role: str = "member") -> list[str]:
        """Tokens of as many tenants; none when it asks for none."""
        return [self.token(number, role) for number in range(1, count + 1)] if self.mint else []

    def token(self, number: int = 1, role: str = "member") -> str:
        """The token of one tenant's person; an empty one when it asks for none."""
        return self.mint(number, role)[1] if self.mint else ""

    def headers(self, token: str | None = None) -> list[str]:
        """The header lines of a request: those of a token only with one."""
        lines = self.get("auth", "header", default=["Authorization: Bearer {token}"])
        if not token:
            return [line for line in lines if "{token}" not in line]
        return [line.replace("{token}", token) for line in lines]

    def request(
        self, method: str, path: str, token: str | None = None, body: Any = None, more: Iterable[str] = ()
    ) -> Answer:
        """Status, and the parsed body or None."""
        connection = http.client.HTTPConnection(self.url.hostname or "", self.url.port, timeout=30)
        try:
            return self.ask(connection, method, path, token, body, more)
        finally:
            connection.close()

    def ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        token: str | None = None,
        body: Any = None,
        more: Iterable[str] = (),
    ) -> Answer:
        """The same over a connection that stays."""
        lines = [*self.headers(token), *more]
        headers = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if body is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, headers=headers, body=None if body is None else json.dumps(body))
        answer = connection.getresponse()
        raw = answer.read()
        try:
            return answer.status, json.loads(raw)
        except ValueError:
            return answer.status, None

    def items(self, parsed: Any) -> list[dict[str, Any]]:
        """The items of a page."""
        key = self.get("list", "items_key")
        found: list[dict[str, Any]] = parsed[key] if key else parsed
        return found

    def wait(self, token: str | None = None, seconds: float = 60) -> float:
        """Ask for the probe's path until it answers 200; the seconds it took. Raises SystemExit when it never does."""
        begin, path = time.perf_counter(), self.get("probe", "path") or self.spec["list"]["path"]
        while True:
            try:
                if self.request("GET", path, token)[0] == 200:
                    return time.perf_counter() - begin
            except (OSError, http.client.HTTPException):
                pass
            ended = self.process is not None and self.process.poll() is not None
            if ended or time.perf_counter() - begin > seconds:
                raise SystemExit(f"{self.name} did not come up: see {self.log}")
            time.sleep(0.002)
