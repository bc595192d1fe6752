"""The TLS door in front of PostgreSQL: one thread, one epoll, a few microseconds of its own per message.

Each connection goes through three states: TLS handshake with a client certificate, the startup message, whose user
must be the certificate's account, and then bytes in both directions until either side ends.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from local.cloudsql_startup import CANCEL, First, Refusal, check_user, parse

PIECE = 1 << 16
ENTRY_SECONDS = 10.0
WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Link:
    """One client, and its connection to PostgreSQL once it may have one."""

    def __init__(self, client: ssl.SSLSocket) -> None:
        self.client = client
        self.server: socket.socket | None = None
        self.since = time.monotonic()
        self.shaken = False
        self.slow = False  # the handshake waits for room to write
        self.first = bytearray()  # of the startup message
        self.to_client = b""
        self.to_server = b""
        self.ending = False  # nothing more comes from one side; what is held still goes out
        self.masks: dict[int, int] = {}


class Door:
    """Listens on (address, 3307) and splices to PostgreSQL's socket, which `upstream` names."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, upstream: Callable[[], Path]) -> None:
        self.listener = socket.create_server(address, backlog=256)
        self.listener.setblocking(False)
        self.context = context
        self.upstream = upstream
        self.epoll = select.epoll()
        self.epoll.register(self.listener, READ)
        self.links: dict[int, Link] = {}
        self.entering: set[Link] = set()

    def serve(self) -> None:
        """Run for ever."""
        while True:
            for number, event in self.epoll.poll(1 if self.entering else -1):
                if number == self.listener.fileno():
                    self._accept()
                elif link := self.links.get(number):
                    self._turn(link, number, event)
            late = time.monotonic() - ENTRY_SECONDS
            for link in [link for link in self.entering if link.since < late]:
                self._close(link)

    def _accept(self) -> None:
        try:
            raw, _ = self.listener.accept()
        except OSError:
            return
        raw.setblocking(False)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            client = self.context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
        except OSError:  # it has gone already
            raw.close()
            return
        link = Link(client)
        self.entering.add(link)
        self._watch(link, client, READ)

    def _turn(self, link: Link, number: int, event: int) -> None:
        """Do what one event allows. Whatever fails on either socket ends the link."""
        try:
            if link.server is None:
                self._enter(link)
            else:
                self._splice(link, link.server, number, event)
        except OSError:
            self._close(link)
            return
        if link.ending and not link.to_client and not link.to_server:
            self._close(link)
        elif link.client.fileno() >= 0:
            self._interests(link)

    def _splice(self, link: Link, server: socket.socket, number: int, event: int) -> None:
        """A side that can be read, or the other that can be written, sets one direction in motion."""
        reads, writes = event & ~WRITE, event & WRITE
        if number == server.fileno():
            reads, writes = writes, reads
        if reads:
            self._from_client(link, server)
        if writes:
            self._from_server(link, server)

    def _enter(self, link: Link) -> None:
        """Handshake and startup message, as far as bytes are there."""
        if link.ending:
            self._flush_to_client(link)
            return
        try:
            if not link.shaken:
                link.client.do_handshake()
                link.shaken = True
            while link.server is None and not link.ending:
                data = link.client.recv(PIECE)
                if not data:
                    link.ending = True
                    return
                link.first += data
                self._admit(link)
        except WANTS as want:
            link.slow = isinstance(want, ssl.SSLWantWriteError)

    def _admit(self, link: Link) -> None:
        try:
            while (first := parse(link.first)) is not None and link.server is None:
                self._answer(link, first)
        except Refusal as refusal:
            link.to_client = refusal.wire()
            link.ending = True
            self._flush_to_client(link)

    def _answer(self, link: Link, first: First) -> None:
        """Open the way to PostgreSQL, or decline an encryption inside the encryption."""
        if first.user:
            check_user(first.user, account_of(link.client))
        elif first.code != CANCEL:
            del link.first[: first.size]
            link.client.send(b"N")
            return
        link.server = self._connect()
        link.to_server = bytes(link.first)
        link.first.clear()
        self.entering.discard(link)
        self._watch(link, link.server, READ)
        self._from_client(link, link.server)

    def _connect(self) -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        try:
            server.setblocking(False)
            server.connect(str(self.upstream()))
        except OSError as error:
            server.close()
            raise Refusal("57P03", "the database system is not accepting connections") from error
        return server

    def _from_client(self, link: Link, server: socket.socket) -> None:
        """Move what the client says until it pauses or PostgreSQL is slow."""
        moved = False
        try:
            while True:
                while link.to_server:
                    link.to_server = link.to_server[server.send(link.to_server) :]
                if link.ending or (moved and not link.client.pending()):
                    return
                link.to_server = link.client.recv(PIECE)
                link.ending = not link.to_server
                moved = True
        except WANTS:
            return
        except BrokenPipeError:  # PostgreSQL ended the session: the client still gets its last words
            link.to_server = b""

    def _from_server(self, link: Link, server: socket.socket) -> None:
        """Move what PostgreSQL says until it pauses or the client is slow."""
        if not self._flush_to_client(link) or link.ending:
            return
        try:
            data = server.recv(PIECE)
        except BlockingIOError:
            return
        link.to_client = data
        link.ending = not data
        self._flush_to_client(link)

    def _flush_to_client(self, link: Link) -> bool:
        """Whether all that was held is sent."""
        try:
            while link.to_client:
                link.to_client = link.to_client[link.client.send(link.to_client) :]
        except WANTS:
            return False
        return True

    def _interests(self, link: Link) -> None:
        """Read from a side only when the other has taken everything."""
        if link.server is None:
            waits = link.to_client or (link.slow and not link.shaken)
            self._watch(link, link.client, (0 if link.ending else READ) | (WRITE if waits else 0))
            return
        self._watch(link, link.client, (0 if link.to_server else READ) | (WRITE if link.to_client else 0))
        self._watch(link, link.server, (0 if link.to_client else READ) | (WRITE if link.to_server else 0))

    def _watch(self, link: Link, sock: socket.socket, mask: int) -> None:
        """Mask 0 takes the socket out: a hang-up would be told again and again otherwise."""
        number = sock.fileno()
        old = link.masks.get(number, 0)
        if old == mask:
            return
        if not old:
            self.epoll.register(number, mask)
            self.links[number] = link
        elif mask:
            self.epoll.modify(number, mask)
        else:
            self.epoll.unregister(number)
        link.masks[number] = mask

    def _close(self, link: Link) -> None:
        self.entering.discard(link)
        for number in link.masks:
            self.links.pop(number, None)
            with suppress(OSError):
                self.epoll.unregister(number)
        with suppress(OSError, ValueError):
            link.client.unwrap()  # says goodbye; the other side's goodbye is not waited for
        link.client.close()
        if link.server is not None:
            link.server.close()


def account_of(client: ssl.SSLSocket) -> str | None:
    """The e-mail in the verified client certificate; None when it was made without IAM log-in."""
    certificate: dict[str, Any] = dict(client.getpeercert() or {})
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "email"]
    return names[0] if len(names) == 1 else None


def server_context(certificate: Path, authority: Path) -> ssl.SSLContext:
    """TLS 1.3 only, a client certificate of our authority required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    context.load_cert_chain(certificate)
    context.load_verify_locations(authority)
    return context
