"""Round trips to PostgreSQL, counted on the wire: whatever a client sends before it hears again is one flight."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CHUNK = 1 << 16


@dataclass
class Flights:
    """How often a client spoke after the server had."""

    count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> None:
        """Count from nothing."""
        with self._lock:
            self.count = 0

    def add(self) -> None:
        """One more."""
        with self._lock:
            self.count += 1


class Wire:
    """One connection, handed on both ways."""

    def __init__(self, client: socket.socket, server: socket.socket, flights: Flights) -> None:
        self._ends, self._flights, self._answered = (client, server), flights, True
        for number in (0, 1):
            threading.Thread(target=self._hand_on, args=(number,), daemon=True).start()

    def _hand_on(self, number: int) -> None:
        source, sink = self._ends[number], self._ends[1 - number]
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if number:
                    self._answered = True
                elif self._answered:
                    self._answered = False
                    self._flights.add()
                sink.sendall(data)
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()


@contextmanager
def counted(server: int) -> Iterator[tuple[int, Flights]]:
    """A port that leads to the server's, and what is counted there."""
    flights = Flights()
    with socket.create_server(("127.0.0.1", 0), backlog=64) as door:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = door.accept()
                    Wire(client, socket.create_connection(("127.0.0.1", server)), flights)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield door.getsockname()[1], flights
        finally:
            with suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
