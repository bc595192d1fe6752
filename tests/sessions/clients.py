"""Clients of streams on plain sockets: blocking, with control over every byte and over how much the kernel takes in.

`Sse` reads server-sent events (HTML Standard, section 9.2), `WebSocket` speaks RFC 6455 without extensions.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

SECONDS = 20.0
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
SWITCHING = 101


class Over(Exception):
    """The other side has ended the stream: its close code and reason, or None and "" without a close frame."""

    def __init__(self, code: int | None = None, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code, self.reason = code, reason


def connect(url: str, receive_buffer: int | None, seconds: float = SECONDS) -> tuple[socket.socket, str]:
    """A socket to the host of a URL and the URL's path; `receive_buffer` bytes are what the kernel takes in unread."""
    part = urlsplit(url)
    raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    raw.settimeout(seconds)
    if receive_buffer is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    try:
        raw.connect((part.hostname or "", part.port or 80))
    except OSError:
        raw.close()
        raise
    return raw, part.path + (f"?{part.query}" if part.query else "")


@dataclass
class Event:
    """A dispatched server-sent event."""

    name: str = "message"
    data: str = ""
    id: str | None = None

    @property
    def json(self) -> Any:
        return json.loads(self.data)


@dataclass
class Sse:
    """A stream of server-sent events, or the answer that refused it: status, headers, body."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    receive_buffer: int | None = None
    last_id: str | None = None
    comments: int = 0
    retry: int | None = None

    def __post_init__(self) -> None:
        raw, path = connect(self.url, self.receive_buffer)
        self._connection = HTTPConnection(urlsplit(self.url).netloc)
        self._connection.sock = raw
        try:
            self._connection.request("GET", path, headers={"Accept": "text/event-stream", **self.headers})
            self._response: HTTPResponse = self._connection.getresponse()
        except (OSError, HTTPException):
            self._connection.close()
            raise
        self.status = self._response.status
        self.answer_headers = self._response.headers
        self.body = b""
        if not self.streams:
            self.body = self._response.read()
            self.close()

    @property
    def streams(self) -> bool:
        return self.status == 200

    @property
    def problem(self) -> Any:
        return json.loads(self.body)

    def line(self, seconds: float = SECONDS) -> str:
        """The next line without its end. Raises Over at the end of the stream."""
        if self._connection.sock is not None:
            self._connection.sock.settimeout(seconds)
        try:
            line = self._response.readline()
        except (ConnectionError, HTTPException) as error:
            raise Over from error
        if not line:
            raise Over
        return line.decode().rstrip("\r\n")

    def next(self, seconds: float = SECONDS) -> Event:
        """The next event that has data; comments are counted. Raises Over at the end of the stream."""
        deadline = time.monotonic() + seconds
        while True:
            fields: dict[str, str] = {}
            while line := self.line(max(deadline - time.monotonic(), 0.01)):
                name, _, value = line.partition(":")
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
                self.comments += name == ""
            if "retry" in fields:
                self.retry = int(fields["retry"])
            if "data" in fields:
                self.last_id = fields.get("id", self.last_id)
                return Event(fields.get("event", "message"), fields["data"], fields.get("id"))

    def take(self, count: int, seconds: float = SECONDS) -> list[Any]:
        """The data of the next events, which are no `end`."""
        found = []
        for _ in range(count):
            event = self.next(seconds)
            assert event.name == "message", event
            assert event.id == str(event.json["seq"])
            found.append(event.json)
        return found

    def rest(self, seconds: float = SECONDS) -> list[Event]:
        """Every event until the stream is over."""
        found = []
        while True:
            try:
                found.append(self.next(seconds))
            except Over:
                return found

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> "Sse":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class WebSocket:
    """A WebSocket, or the answer that refused it: status, headers, body."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        subprotocols: Sequence[str] = (),
        receive_buffer: int | None = None,
    ) -> None:
        self._raw, path = connect(url, receive_buffer)
        self._unread = b""
        self.pongs: list[bytes] = []
        key = base64.b64encode(os.urandom(16))
        lines = {
            "Host": urlsplit(url).netloc,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key.decode(),
            **({"Sec-WebSocket-Protocol": ", ".join(subprotocols)} if subprotocols else {}),
            **(headers or {}),
        }
        head = f"GET {path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        expected = base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest()).decode()
        try:
            self._raw.sendall(head.encode() + b"\r\n")
            self._answered(expected)
        except (OSError, Over):
            self._raw.close()
            raise

    def _answered(self, expected: str) -> None:
        while (end := self._unread.find(b"\r\n\r\n")) < 0:
            self._more()
        first, *lines = self._unread[:end].decode("latin-1").split("\r\n")
        self._unread = self._unread[end + 4 :]
        self.status = int(first.split()[1])
        self.answer_headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
        }
        self.subprotocol = self.answer_headers.get("sec-websocket-protocol")
        self.body = b""
        if self.status == SWITCHING:
            assert self.answer_headers["sec-websocket-accept"] == expected
            return
        self.body = self._exactly(int(self.answer_headers.get("content-length", "0")))
        self.close()

    @property
    def problem(self) -> Any:
        return json.loads(self.body)

    def _more(self) -> None:
        try:
            data = self._raw.recv(65_536)
        except ConnectionError as error:
            raise Over from error
        if not data:
            raise Over
        self._unread += data

    def _exactly(self, count: int) -> bytes:
        while len(self._unread) < count:
            self._more()
        found, self._unread = self._unread[:count], self._unread[count:]
        return found

    def frame(self, opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0) -> bytes:
        """The bytes of a frame, legal or not."""
        first = (0x80 if fin else 0) | rsv << 4 | opcode
        mark, size = 0x80 if masked else 0, len(payload)
        if size < 126:
            head = struct.pack("!BB", first, mark | size)
        elif size < 65_536:
            head = struct.pack("!BBH", first, mark | 126, size)
        else:
            head = struct.pack("!BBQ", first, mark | 127, size)
        if not masked:
            return head + payload
        mask = os.urandom(4)
        number = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
        return head + mask + number.to_bytes(size, "big")

    def timeout(self, seconds: float) -> None:
        """How long sending may take from now on."""
        self._raw.settimeout(seconds)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._raw.sendall(data)

    def send(self, message: Any) -> None:
        """Send JSON, or a str as it is, as one text message."""
        text = message if isinstance(message, str) else json.dumps(message)
        self.raw(self.frame(TEXT, text.encode()))

    def message(self, seconds: float = SECONDS) -> str:
        """The next text message; pings are answered. Raises Over when the other side closes."""
        self._raw.settimeout(seconds)
        parts = b""
        while True:
            first, second = self._exactly(2)
            assert not first & 0x70, "a reserved bit is set"
            assert not second & 0x80, "a server does not mask"
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(self._exactly(2 if size == 126 else 8), "big")
            opcode, payload = first & 0x0F, self._exactly(size)
            if opcode == CLOSE:
                raise self._closed(payload)
            if opcode == PING:
                self.raw(self.frame(PONG, payload))
            elif opcode == PONG:
                self.pongs.append(payload)
            elif opcode in (TEXT, CONTINUED):
                parts += payload
                if first & 0x80:
                    return parts.decode()

    def _closed(self, payload: bytes) -> Over:
        if not payload:
            return Over()
        with suppress(OSError):  # it did not wait for our side of the closing
            self.raw(self.frame(CLOSE, payload[:2]))
        return Over(int.from_bytes(payload[:2], "big"), payload[2:].decode())

    def next(self, seconds: float = SECONDS) -> Any:
        """The next message's JSON."""
        return json.loads(self.message(seconds))

    def take(self, count: int, seconds: float = SECONDS) -> list[Any]:
        """The next messages' JSON."""
        return [self.next(seconds) for _ in range(count)]

    def over(self, seconds: float = SECONDS) -> Over:
        """How the other side ends it, whatever comes before."""
        try:
            while True:
                self.message(seconds)
        except Over as over:
            return over

    def shut(self, code: int = 1000) -> Over:
        """Close in good order: the other side's answer."""
        self.raw(self.frame(CLOSE, struct.pack("!H", code)))
        return self.over()

    def close(self) -> None:
        """Drop the connection."""
        self._raw.close()

    def __enter__(self) -> "WebSocket":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
