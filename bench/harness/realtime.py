"""Server-sent events: streams held, their memory, and how old an event is when it arrives.

A scenario is SESSIONSxVIEWERS@EVENTS: so many sessions with so many viewers each, and so many events a second over all
of them. Publisher and viewers are one event loop on raw sockets, so that an age is a difference on one clock: from just
before the publish to the arrival of the event's bytes. Its own share of a CPU is told: near 1.0 it would be the limit.
"""

import asyncio
import json
import re
import resource
import time
from dataclasses import dataclass, field
from typing import Any

import uvloop

from bench.harness import processes
from bench.harness.targets import Target
from bench.results import Run

STAMP = re.compile(rb'"t": ?(\d+),')
PAD = "x" * 120
LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
OPEN_SECONDS, DRAIN_SECONDS, PROBES = 60, 20, 50


@dataclass
class Board:
    """What all viewers have seen."""

    ages: list[int] = field(default_factory=list)
    lost: int = 0
    statuses: dict[int, int] = field(default_factory=dict)

    def answered(self, status: int) -> None:
        """A stream was opened, or refused."""
        self.statuses[status] = self.statuses.get(status, 0) + 1


class Viewer(asyncio.Protocol):
    """One stream: counts events and notes each one's age on arrival."""

    def __init__(self, request: bytes, board: Board) -> None:
        self._request, self._board, self._tail, self._answered = request, board, b"", False
        self.seen = 0
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self.transport = transport
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Look for the stamps of whole events."""
        now = time.monotonic_ns()
        if not self._answered:
            self._answered = True
            self._board.answered(int(data[9:12]))
        data = self._tail + data
        cut = data.rfind(b"}") + 1
        self._tail = data[cut:]
        for stamp in STAMP.findall(data[:cut]):
            self.seen += 1
            self._board.ages.append(now - int(stamp))

    def connection_lost(self, _exc: Exception | None) -> None:
        """Nobody should be."""
        self._board.lost += 1


class Publisher:
    """PUBLISH to Valkey on one socket, or POST on one keep-alive connection; `body` of a POST holds {payload}."""

    def __init__(self, target: Target, valkey_port: int) -> None:
        self._target, self._spec, self._port = target, target.spec["events"]["publish"], valkey_port

    async def open(self) -> None:
        """Connect."""
        url = self._target.url
        host = ("127.0.0.1", self._port) if self._spec["kind"] == "redis" else (url.hostname, url.port)
        self._reader, self._writer = await asyncio.open_connection(*host)

    async def publish(self, place: dict[str, str], token: str, payload: bytes) -> None:
        """One event, accepted when this returns."""
        if self._spec["kind"] == "redis":
            name = self._spec["channel"].format(**place).encode()
            words = b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
            self._writer.write(words % (len(name), name, len(payload), payload))
            await self._reader.readline()
            return
        body = self._spec.get("body", "{payload}").encode().replace(b"{payload}", payload)
        head = [f"POST {self._spec['path'].format(**place)} HTTP/1.1", f"Host: {self._target.url.netloc}"]
        head += [*self._target.headers(token), "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        self._writer.write("\r\n".join(head).encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not b"200" <= answer[9:12] < b"300":
            raise SystemExit(f"{self._target.name}: an event was answered {answer[9:12].decode()}")
        if length := LENGTH.search(answer):
            await self._reader.readexactly(int(length[1]))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class Watching:
    """One scenario on one target."""

    def __init__(self, target: Target, scenario: str, valkey: tuple[int, int]) -> None:
        self._target, self._valkey, self._board = target, valkey[0], Board()
        self._sessions, self._viewers, self._rate = (int(part) for part in re.split("[x@]", scenario))
        self._publisher = Publisher(target, valkey[1])
        self._streams: list[Viewer] = []
        self._places: list[tuple[dict[str, str], str]] = []

    async def run(self, seconds: float) -> Run:
        """Open, publish for so long, count."""
        idle = processes.memory(self._target.roots)["pss"]
        connected = await self._open()
        await self._publisher.open()
        await self._probe()
        held = processes.memory(self._target.roots)["pss"]
        found = await self._publish(seconds)
        lost = self._board.lost
        for viewer in self._streams:
            viewer.transport.close()
        self._publisher.close()
        count = len(self._streams)
        shape = {"streams": float(count - lost), "connect_s": connected, "kib_per_stream": (held - idle) * 1024 / count}
        return shape | {"pss": held} | found

    async def _open(self) -> float:
        """All streams, in turn over the sessions; the seconds until all were answered 200."""
        loop, begin, spec = asyncio.get_running_loop(), time.perf_counter(), self._target.spec["events"]
        for number in range(1, self._sessions + 1):
            mint = self._target.mint
            tenant, token = mint(number, "member") if mint else ("", "")
            self._places.append(({"tenant_id": tenant, "session": f"s{number}"}, token))
        for number in range(self._sessions * self._viewers):
            place, token = self._places[number % self._sessions]
            head = [f"GET {spec['path'].format(**place)} HTTP/1.1", f"Host: {self._target.url.netloc}"]
            head += ["Accept: text/event-stream", *self._target.headers(token), "", ""]
            viewer = Viewer("\r\n".join(head).encode(), self._board)
            await loop.create_connection(lambda viewer=viewer: viewer, self._target.url.hostname, self._target.url.port)  # type: ignore[misc]
            self._streams.append(viewer)
        while sum(self._board.statuses.values()) < len(self._streams) and time.perf_counter() - begin < OPEN_SECONDS:
            await asyncio.sleep(0.005)
        if self._board.statuses != {200: len(self._streams)}:
            raise SystemExit(f"{self._target.name}: streams were answered {self._board.statuses}")
        return time.perf_counter() - begin

    async def _probe(self) -> None:
        """Publish until every stream has had an event."""
        for _ in range(PROBES):
            if all(viewer.seen for viewer in self._streams):
                await asyncio.sleep(0.5)
                return
            for place, token in self._places:
                await self._publisher.publish(place, token, b'{"t":%d,"n":-1}' % time.monotonic_ns())
            await asyncio.sleep(0.2)
        raise SystemExit(f"{self._target.name}: some streams never got an event")

    async def _publish(self, seconds: float) -> Run:
        self._board.ages.clear()
        before, begin, published = self._cpu(), time.perf_counter(), 0
        while (due := begin + published / self._rate) < begin + seconds:
            await asyncio.sleep(max(0, due - time.perf_counter()))
            if time.perf_counter() > begin + seconds:
                break
            payload = {"t": time.monotonic_ns(), "n": published, "pad": PAD}
            place, token = self._places[published % self._sessions]
            await self._publisher.publish(place, token, json.dumps(payload, separators=(",", ":")).encode())
            published += 1
        wall = time.perf_counter() - begin
        await self._drain()
        cpu = {name: value - before[name] for name, value in self._cpu().items()}
        return self._tally(seconds, wall, published, cpu)

    async def _drain(self) -> None:
        """Until half a second brings nothing."""
        quiet, last, end = 0, -1, time.perf_counter() + DRAIN_SECONDS
        while quiet < 5 and time.perf_counter() < end:
            await asyncio.sleep(0.1)
            quiet, last = (quiet + 1 if len(self._board.ages) == last else 0), len(self._board.ages)

    def _cpu(self) -> dict[str, float]:
        pids = {"server": self._target.roots, "postgres": [self._target.postgres], "valkey": [self._valkey]}
        found = {name: processes.cpu_seconds(roots) if all(roots) else 0.0 for name, roots in pids.items()}
        return found | {"client": time.process_time()}

    def _tally(self, seconds: float, wall: float, published: int, cpu: dict[str, float]) -> Run:
        ages = sorted(self._board.ages)
        if not ages:
            raise SystemExit(f"{self._target.name}: no event arrived")
        count = len(ages)
        return {
            "published_share": published / (self._rate * seconds),
            "delivered_share": len(self._board.ages) / max(published * self._viewers, 1),
            "per_second": count / wall,
            "p50_ms": ages[count // 2] / 1e6,
            "p99_ms": ages[min(count - 1, count * 99 // 100)] / 1e6,
            "server_us": cpu["server"] * 1e6 / count,
            "postgres_us": cpu["postgres"] * 1e6 / count,
            "valkey_us": cpu["valkey"] * 1e6 / count,
            "client_cpu": cpu["client"] / wall,
        }


def watch(target: Target, scenario: str, seconds: float, valkey: tuple[int, int]) -> Run:
    """Start a target, look at it, stop it. `valkey`: pid and port of what it publishes by."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    target.start()
    try:
        target.wait(target.token())
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(Watching(target, scenario, valkey).run(seconds))
    finally:
        target.stop()
