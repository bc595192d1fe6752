#!/usr/bin/env python3
"""Server-sent events fan-out: python bench_realtime.py [--targets a,b] [--scenarios 50x20@20,1x1000@20]

A scenario is SESSIONSxVIEWERS@EVENTS: so many sessions with so many viewers each, and so
many events per second over all sessions. Publisher and viewers are one asyncio process on
raw sockets, so a latency is a difference on one clock: from just before the publish to the
arrival of the event's bytes. Its own CPU share is shown: near 1.0 the client is the limit.
"""

import argparse
import asyncio
import json
import re
import resource
import statistics
import time

from harness import config, proc, valkey
from harness.targets import load

from bench import table

try:
    import uvloop

    new_loop = uvloop.new_event_loop
except ImportError:
    new_loop = asyncio.new_event_loop
STAMP = re.compile(rb'"t":(\d+),')
PAD = "x" * 120


class Viewer(asyncio.Protocol):
    """One stream: counts events and notes each one's age on arrival."""

    def __init__(self, request, board):
        self.request, self.board, self.status, self.tail, self.seen = request, board, None, b"", 0

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data):
        now = time.monotonic_ns()
        if self.status is None:
            self.status = int(data[9:12])
            self.board.answered(self.status)
        if self.tail:
            data = self.tail + data
        cut = data.rfind(b"}") + 1
        self.tail = data[cut:]
        for stamp in STAMP.findall(data[:cut]):
            self.seen += 1
            self.board.ages.append(now - int(stamp))

    def connection_lost(self, exc):
        self.board.lost += 1


class Board:
    def __init__(self):
        self.ages, self.lost, self.statuses, self.changed = [], 0, {}, asyncio.Event()

    def answered(self, status):
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.changed.set()


class Publisher:
    """Redis PUBLISH on one socket, or HTTP POSTs on one keep-alive connection."""

    def __init__(self, target, spec, sessions):
        self.target, self.spec, self.sessions = target, spec, sessions

    async def open(self):
        host = (
            ("127.0.0.1", config.VALKEY_PORT)
            if self.spec["kind"] == "redis"
            else (self.target.url.hostname, self.target.url.port)
        )
        self.reader, self.writer = await asyncio.open_connection(*host)

    async def publish(self, i, payload):
        tenant, session, token = self.sessions[i % len(self.sessions)]
        if self.spec["kind"] == "redis":
            name = self.spec["channel"].format(tenant_id=tenant, session=session).encode()
            self.writer.write(
                b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(payload), payload)
            )
            await self.reader.readline()
            return
        path = self.spec["path"].format(tenant_id=tenant, session=session)
        self.writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\n{self.target.header(token)}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
            + payload
        )
        head = await self.reader.readuntil(b"\r\n\r\n")
        if not b"200" <= head[9:12] < b"300":
            raise RuntimeError(f"publish answered {head[:40]!r}")
        if m := re.search(rb"content-length: (\d+)", head, re.I):
            await self.reader.readexactly(int(m[1]))
        elif b"chunked" in head.lower():
            while await self.reader.readline() != b"0\r\n":
                pass
            await self.reader.readline()


async def run(target, scenario, seconds, valkey_pid):
    sessions_n, viewers, rate = (int(x) for x in re.split("[x@]", scenario))
    spec = target.spec["events"]
    sessions = [(tenant, f"s{n}", token) for n, (tenant, token) in enumerate(target.pairs(sessions_n))]
    loop, board = asyncio.get_running_loop(), Board()
    idle = proc.memory(target.roots)
    streams, begin = [], time.perf_counter()
    for i in range(sessions_n * viewers):
        tenant, session, token = sessions[i % sessions_n]
        path = target.url.path.rstrip("/") + spec["path"].format(tenant_id=tenant, session=session)
        request = (
            f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{target.header(token)}\r\n\r\n"
        ).encode()
        streams.append(
            (await loop.create_connection(lambda r=request: Viewer(r, board), target.url.hostname, target.url.port))[1]
        )
    while sum(board.statuses.values()) < len(streams) and time.perf_counter() - begin < 30:
        board.changed.clear()
        await asyncio.wait_for(board.changed.wait(), 30)
    connected = time.perf_counter() - begin
    if board.statuses != {200: len(streams)}:
        raise RuntimeError(f"{target.name}: streams answered {board.statuses}")
    publisher = Publisher(target, spec["publish"], sessions)
    await publisher.open()
    for _ in range(50):  # until every stream has had a probe
        if all(v.seen for v in streams):
            break
        for i in range(sessions_n):
            await publisher.publish(i, b'{"t":%d,"n":-1}' % time.monotonic_ns())
        await asyncio.sleep(0.2)
    else:
        raise RuntimeError(f"{target.name}: {sum(not v.seen for v in streams)} streams never got an event")
    await asyncio.sleep(0.5)
    held = proc.memory(target.roots)

    board.ages.clear()
    cpu = [proc.cpu_seconds(target.roots), proc.cpu_seconds([valkey_pid]), time.process_time()]
    begin, published = time.perf_counter(), 0
    while (due := begin + published / rate) < begin + seconds:
        await asyncio.sleep(max(0, due - time.perf_counter()))
        if time.perf_counter() > begin + seconds:
            break
        await publisher.publish(
            published,
            json.dumps({"t": time.monotonic_ns(), "n": published, "pad": PAD}, separators=(",", ":")).encode(),
        )
        published += 1
    wall = time.perf_counter() - begin
    quiet, last = 0, -1
    while quiet < 5 and time.perf_counter() - begin < seconds + 20:  # drain
        await asyncio.sleep(0.1)
        quiet, last = (quiet + 1 if len(board.ages) == last else 0), len(board.ages)
    cpu = [
        b - a
        for a, b in zip(cpu, [proc.cpu_seconds(target.roots), proc.cpu_seconds([valkey_pid]), time.process_time()])
    ]
    ages = sorted(board.ages)
    lost = board.lost
    for v in streams:
        v.transport.close()
    publisher.writer.close()
    n = max(len(ages), 1)
    return {
        "streams": len(streams) - lost,
        "connect_s": connected,
        "published": published,
        "published_share": published / (rate * seconds),
        "delivered_share": len(ages) / max(published * viewers, 1),
        "per_second": len(ages) / wall,
        "p50_ms": ages[n // 2] / 1e6 if ages else float("nan"),
        "p99_ms": ages[min(n - 1, n * 99 // 100)] / 1e6 if ages else float("nan"),
        "max_ms": ages[-1] / 1e6 if ages else float("nan"),
        "kib_per_stream": (held["pss"] - idle["pss"]) * 1024 / len(streams),
        "pss": held["pss"],
        "server_cpu_per_1k": cpu[0] * 1000 / n,
        "valkey_cpu_per_1k": cpu[1] * 1000 / n,
        "client_cpu": cpu[2] / wall,
    }


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--targets", default="")
    p.add_argument("--scenarios", default="50x20@20,1x1000@20")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--seconds", type=int, default=8)
    args = p.parse_args()
    proc.exit_on_sigterm()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    names = [n for n in args.targets.split(",") if n]
    targets = [t for t in load(names, "targets/realtime") if t.get("events")]
    runs, server = {}, valkey.start()
    try:
        for scenario in args.scenarios.split(","):
            for r in range(args.rounds):
                for t in targets[r % len(targets) :] + targets[: r % len(targets)]:
                    t.start()
                    try:
                        t.wait(next(iter(t.tokens(1)), None))
                        with asyncio.Runner(loop_factory=new_loop) as runner:
                            one = runner.run(run(t, scenario, args.seconds, server.pid))
                    finally:
                        t.stop()
                    runs.setdefault((scenario, t.name), []).append(one)
                    print(
                        f"  {scenario} round {r + 1} {t.name:<16} delivered {one['delivered_share']:.3f}  p50 "
                        f"{one['p50_ms']:.1f}  p99 {one['p99_ms']:.1f} ms",
                        flush=True,
                    )
    finally:
        proc.stop(server)
    rows = []
    for (scenario, name), v in runs.items():
        m = {k: statistics.median(x[k] for x in v) for k in v[0]}
        rows.append(
            [
                scenario,
                name,
                f"{m['streams']:.0f}",
                f"{m['connect_s']:.2f}",
                f"{m['kib_per_stream']:.0f}",
                f"{m['per_second']:.0f}",
                f"{m['published_share']:.2f}",
                f"{m['delivered_share']:.3f}",
                *(f"{m[k]:.1f}" for k in ("p50_ms", "p99_ms", "max_ms")),
                f"{m['server_cpu_per_1k'] * 1000:.0f}",
                f"{m['valkey_cpu_per_1k'] * 1000:.0f}",
                f"{m['client_cpu']:.2f}",
            ]
        )
    text = table(
        [
            "scenario",
            "target",
            "held",
            "connect s",
            "KiB/stream",
            "deliveries/s",
            "published",
            "delivered",
            "p50 ms",
            "p99 ms",
            "max ms",
            "server CPU us/delivery",
            "valkey us",
            "client CPU",
        ],
        rows,
    )
    print(text)
    out = config.VAR / "results" / time.strftime("realtime-%Y%m%d-%H%M%S")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps({"/".join(k): v for k, v in runs.items()}, indent=1))
    out.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
