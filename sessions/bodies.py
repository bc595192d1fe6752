"""Bodies of requests while they arrive and until they are answered: together no more than a replica can hold.

Nobody is known yet while a body arrives: whoever sends one slowly costs memory and passes every limit by. When all
bodies together are too much, the one that has been arriving for longest is given up: an honest one takes milliseconds.
"""

import asyncio

from starlette.types import Receive

from common import errors
from common.reading import MAX_BODY

SECONDS = 30  # for one to arrive
MOST_BYTES = 64 * 1024 * 1024  # of all together
CLOSE = {"Connection": "close"}


class Arriving:
    """A body on its way."""

    __slots__ = ("given_up", "limit", "parts")

    def __init__(self, limit: asyncio.Timeout) -> None:
        self.limit = limit
        self.parts = bytearray()
        self.given_up = False


class Bodies:
    """The bodies that one replica holds. Its calls belong on the event loop's thread."""

    def __init__(self) -> None:
        self.held = 0
        self._arriving: dict[Arriving, None] = {}  # the oldest first

    async def take(self, receive: Receive) -> bytes | None:
        """A body, cut one byte behind what is refused anyway, to be given back; None when the client has left.

        Raises Problem: 400 when it takes too long, 503 when it was given up.
        """
        limit = asyncio.timeout(SECONDS)
        one = Arriving(limit)
        self._arriving[one] = None
        body: bytes | None = None
        try:
            async with limit:
                if await self._whole(one, receive):
                    body = bytes(one.parts[: MAX_BODY + 2])
            if one.given_up:
                raise TimeoutError
        except TimeoutError:
            raise _late(one) from None
        finally:
            self._arriving.pop(one, None)
            self.held += len(body or b"") - len(one.parts)
        return body

    def give_back(self, body: bytes) -> None:
        """The request has been answered."""
        self.held -= len(body)

    async def _whole(self, one: Arriving, receive: Receive) -> bool:
        """Take in what arrives; False when the client has left."""
        while len(one.parts) <= MAX_BODY + 1:
            message = await receive()
            if message["type"] == "http.disconnect":
                return False
            part = message.get("body", b"")
            one.parts += part
            self.held += len(part)
            while self.held > MOST_BYTES and self._arriving:
                self._give_up(next(iter(self._arriving)))
            if one.given_up or not message.get("more_body", False):
                break
        return not one.given_up

    def _give_up(self, one: Arriving) -> None:
        del self._arriving[one]
        self.held -= len(one.parts)
        one.parts.clear()
        one.given_up = True
        one.limit.reschedule(0)  # its task hears of it at the next await


def _late(one: Arriving) -> errors.Problem:
    if one.given_up:
        return errors.Problem("unavailable", headers=CLOSE | {"Retry-After": "1"})
    return errors.Problem("malformed_request", "The body took too long to arrive.", headers=CLOSE)
