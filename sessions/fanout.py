"""The way of events to the streams of the other replicas: Valkey's pub/sub, one channel per session.

Nothing here blocks an append or fails it, and nothing that arrives is trusted beyond its meaning: the hub ignores what
it knows and reads from the database what it misses. A message is `E<first seq>`, a line end and the events' JSON, one a
line, or `C<code>` when the session is over.
"""

from collections.abc import Sequence

from common import log
from sessions.hub import Hub
from sessions.link import Link, Push
from sessions.outcomes import Place

CHANNEL = b"sessions:"
AT_ONCE = 500  # channels of one SUBSCRIBE
EVENTS, OVER = b"E", b"C"
DIGITS = 18  # of a seq
CODES = {code.encode(): code for code in ("session_closed", "not_found")}
HEARD = 3  # kind, channel, and what was told


class Fanout:
    """One replica's ear and voice. Its calls belong on the event loop's thread."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._followed: dict[bytes, Place] = {}
        self._link = Link("fan-out", self._greet, self._hear)

    @property
    def up(self) -> bool:
        """Whether what other replicas tell arrives here; while it does not, the database must be asked often."""
        return self._link.up

    async def run(self) -> None:
        """Keep the connection, for ever."""
        await self._link.run()

    def follow(self, place: Place) -> None:
        """Streams of this session are open here from now on; hub.followed(place) is called once it is so."""
        channel = channel_of(place)
        self._followed[channel] = place
        self._link.send("SUBSCRIBE", channel)

    def leave(self, place: Place) -> None:
        """No stream of this session is open here any more."""
        channel = channel_of(place)
        if self._followed.pop(channel, None) is not None:
            self._link.send("UNSUBSCRIBE", channel)

    def tell(self, place: Place, first_seq: int, events: Sequence[bytes]) -> None:
        """Events that were appended here."""
        self._link.send("PUBLISH", channel_of(place), b"\n".join((EVENTS + b"%d" % first_seq, *events)))

    def tell_end(self, place: Place, code: str) -> None:
        """A session that was closed or deleted here."""
        self._link.send("PUBLISH", channel_of(place), OVER + code.encode())

    def _greet(self) -> None:
        """A new connection: follow everything again."""
        channels = list(self._followed)
        for start in range(0, len(channels), AT_ONCE):
            self._link.send("SUBSCRIBE", *channels[start : start + AT_ONCE])

    def _hear(self, push: Push) -> None:
        if len(push) != HEARD:
            return
        kind, channel, told = push
        place = self._followed.get(channel)
        if place is None:
            return  # left in the meantime
        if kind == b"message":
            self._receive(place, told)
        elif kind == b"subscribe" and self._link.up:  # else the watcher is about to look into the database anyway
            self._hub.followed(place)

    def _receive(self, place: Place, message: bytes) -> None:
        head, _, rest = message.partition(b"\n")
        kind, value = head[:1], head[1:]
        if kind == EVENTS and value.isdigit() and len(value) <= DIGITS and rest:
            self._hub.offer(place, int(value), rest.split(b"\n"))
        elif kind == OVER and value in CODES:
            self._hub.end(place, CODES[value])
        else:
            log.entry("WARNING", "a message from another replica is not understood")


def channel_of(place: Place) -> bytes:
    """The channel of a session."""
    return b"%b%b:%b" % (CHANNEL, place.tenant_id.encode(), place.session_id.encode())
