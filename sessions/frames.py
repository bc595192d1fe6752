"""A replica's end of a WebSocket connection: uvicorn's, with bounds where it has none. Written against uvicorn 0.54.

What is added: frames are read a slice at a time, so that a flood of small ones neither piles up nor delays others; the
number of a message's fragments and of control frames is limited; pings are not answered into a full buffer; and a
client that takes nothing is not waited for. Source: https://www.rfc-editor.org/rfc/rfc6455
"""

import contextlib
from collections.abc import Callable
from http import HTTPStatus

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request

SLICE = 4096  # bytes that are parsed before others have their turn
FRAGMENTS = 1024  # of one message
CONTROLS, CONTROLS_SECONDS = 200, 10.0  # control frames that a client may send in so many seconds
LAST_WORDS_SECONDS = 10.0  # after the close frame
LINGER_SECONDS = 2.0  # after the close frame for what was no WebSocket


class Frames(WebSocketsSansIOProtocol):
    """One connection; the application finds it in its scope, as `extensions["connection"]`."""

    when_lost: Callable[[], None] | None = None
    _unparsed = b""  # what was read beyond a slice: reading stops meanwhile
    _next_slice = False  # whether its turn is coming
    _heard = 0.0  # when the client last sent anything
    _full_since: float | None = None  # since when the client takes less than we have for it
    _controls, _controls_since = 0, 0.0

    # What the application does with it.

    async def put(self, data: bytes) -> None:
        """Send whole messages once there is room. Raises ClientDisconnected."""
        await self.writable.wait()
        if self.disconnected or self.close_sent or self.transport.is_closing():
            raise ClientDisconnected
        self.transport.write(data)

    def end(self, code: int, reason: str) -> None:
        """Close: at once, behind what is on its way. The client has a few seconds to take it."""
        if self.disconnected or self.close_sent or self.transport.is_closing():
            return
        with contextlib.suppress(InvalidState):
            self.conn.send_close(code, reason)
        self._closed(code, LAST_WORDS_SECONDS)

    def abort(self) -> None:
        """End the connection with whatever waits to be sent."""
        self.transport.abort()

    def part(self) -> None:
        """The application is done with it: a client that does not take what is left is not waited for."""
        self.when_lost = None
        if not self.disconnected and self.close_timer is None:
            self.close_timer = self.loop.call_later(LAST_WORDS_SECONDS, self.transport.abort)

    async def send(self, message: ASGISendEvent) -> None:
        """What the application sends; an answer that refuses the handshake ends it too."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True

    async def receive(self) -> ASGIReceiveEvent:
        """The next message; reading goes on once all that was read has been taken."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._read_on()
        return message

    # What happens to it.

    def handle_connect(self, event: Request) -> None:
        """The handshake: the application gets a way to its connection."""
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            self.scope["extensions"]["connection"] = self  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has gone."""
        super().connection_lost(exc)
        self._unparsed = b""
        if self.when_lost is not None:
            self.when_lost()

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        self._heard = self.loop.time()
        self._unparsed = self._unparsed + data if self._unparsed else data
        self._parse()

    def _parse(self) -> None:
        """Parse a slice, unless the application has messages to take first."""
        self._next_slice = False
        if not self.read_paused and not self.transport.is_closing():
            part, self._unparsed = self._unparsed[:SLICE], self._unparsed[SLICE:]
            super().data_received(part)
            self._read_on()

    def _read_on(self) -> None:
        """Have the next slice parsed in its turn, or more read when there is none."""
        if self.read_paused or self.transport.is_closing():
            return
        if not self._unparsed:
            self.transport.resume_reading()
        elif not self._next_slice:
            self._next_slice = True
            self.transport.pause_reading()
            self.loop.call_soon(self._parse)

    def handle_cont(self, event: Frame) -> None:
        """A fragment; empty ones have no size that would be limited."""
        if len(self.frames) >= FRAGMENTS:
            self._refuse(CloseCode.MESSAGE_TOO_BIG, "body_too_large")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """A whole message."""
        data, self.frames = b"".join(self.frames), []
        if self.close_sent:
            return
        if self.curr_msg_data_type == "text":
            try:
                self.queue.put_nowait({"type": "websocket.receive", "text": data.decode()})
            except UnicodeDecodeError:
                self._refuse(CloseCode.INVALID_DATA, "malformed_request")
                return
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": data})
        if not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_ping(self) -> None:
        """A ping; its answer is dropped while the client does not take what it is sent."""
        if not self._too_many_controls() and self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    def handle_pong(self, event: Frame) -> None:
        """A pong, asked for or not."""
        if not self._too_many_controls():
            super().handle_pong(event)

    def _too_many_controls(self) -> bool:
        if self._heard - self._controls_since > CONTROLS_SECONDS:
            self._controls, self._controls_since = 0, self._heard
        self._controls += 1
        if self._controls > CONTROLS:
            self._refuse(CloseCode.POLICY_VIOLATION, "rate_limited")
        return self._controls > CONTROLS

    def _refuse(self, code: CloseCode, reason: str) -> None:
        if not self.close_sent:
            self.conn.fail(code, reason)
            self.handle_parser_exception()

    def handle_parser_exception(self) -> None:
        """What came is no WebSocket: say so, and let the client read it before the connection goes."""
        if self.close_sent:
            return
        said = self.conn.close_sent
        self._closed(said.code if said else CloseCode.ABNORMAL_CLOSURE, LINGER_SECONDS)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _closed(self, code: int, seconds: float) -> None:
        """Send the close frame, and wait so long for the client to do its part."""
        self.stop_keepalive()
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent, self.read_paused = True, False
        self.close_timer = self.loop.call_later(seconds, self.transport.abort)
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": ""})
        self._read_on()

    def pause_writing(self) -> None:
        """The client takes less than we have for it."""
        super().pause_writing()
        self._full_since = self.loop.time()

    def resume_writing(self) -> None:
        """It takes on."""
        super().resume_writing()
        self._full_since = None

    def keepalive_timeout(self) -> None:
        """A ping was not answered. Who sends something is there, and so may be whom we do not read just now."""
        silent = self._heard < self.ping_sent_at and not self.read_paused
        stuck = self._full_since is not None and self._full_since <= self.ping_sent_at
        if silent or stuck:
            self.transport.abort()
        else:
            self.pong_timer = self.pending_ping_payload = None
            self.schedule_ping()
