"""One replica of the session API in the peers' harness: `python -m bench.sessions`, writes SESSIONS.md.

One run of `bench_realtime.py` each for an event to 1,000 watchers and for 5,000 open streams: bare aiohttp,
sse-starlette and we in turns, each started anew for every round. Ours is `python -m sessions.server` as it stands, on a
PostgreSQL and a Valkey of its own; an event is published by appending it through the API, so that our latency and our
CPU hold the request, its transaction and the disk, while the peers only hear of a PUBLISH. The streams are opened on
the replica itself, as the peers' are: no gateway.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import tomllib
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from bench.alone import admin_url, alone, connection, process
from bench.audit import machine
from bench.machine import CHECKOUT, VAR
from bench.run import PEERS, peers
from bench.tokens import signing_key
from local.layout import HOST, Layout
from local.stack import function_environment

RESULTS = CHECKOUT / "bench" / "SESSIONS.md"
BASE = "aiohttp_sse"
PEER_NAMES = (BASE, "starlette_sse")
NAME = "dev_context"
CHANNEL = "dev-context"
DAY = 86_400
FREE = ("function:projects", "function:auth", "function:audit", "function:exports")  # no functions run here
SCENARIOS = {"fan-out": "1x1000@20", "streams": "1x5000@1"}
TARGETS = {"kib_per_stream": 25.0, "p99_ms": 1.5, "server_cpu_per_1k": 1.3}
SEED = (
    "INSERT INTO app.organizations (tenant_id, slug, name) VALUES (:tenant, 'watched', 'Watched')",
    "INSERT INTO identity.accounts (id, email, display_name) VALUES (:person, 'person@example.com', 'Person')",
    "INSERT INTO app.members (tenant_id, user_id, role) VALUES (:tenant, :person, 'developer')",
    "INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at)"
    " VALUES (:login, :person, :tenant, '{pwd}', now() + interval '1 day')",
    "INSERT INTO app.projects (tenant_id, id, name, created_by) VALUES (:tenant, :project, 'Watched', :person)",
    "INSERT INTO app.sessions (tenant_id, id, project_id, title, created_by, closes_at)"
    " VALUES (:tenant, :session, :project, 'Watched by many', :person, now() + interval '1 day')",
    "VACUUM ANALYZE",
)
# The request of a stream is one line of the harness's and then its headers: whatever else the load balancer sends goes
# along with the path.
TARGET = """
name = "{name}"
base_url = "http://{host}:{port}"
command = "{python} -m sessions.server"
cwd = "{checkout}"

[env]
{environment}

[auth]
header = "Authorization: Bearer {{token}}"
command = "cat {tokens}"

[list]
path = "/health/"

[events]
path = "{path} HTTP/1.1\\r\\nX-Edge-Key: {edge}\\r\\nX-Client-Ip: 127.0.0.1\\r\\nX-Rest: "
publish = {{ kind = "redis", channel = "{channel}" }}
"""


class Watched:
    """A session, who watches it, and how the harness gets at it."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.port, self.valkey, *self.others = (layout.ports[name] for name in FREE)
        self.ids = {name: str(uuid.uuid4()) for name in ("tenant", "person", "login", "project", "session")}
        with connection(admin_url(layout)) as admin:
            for sql in SEED:
                admin.run(sql, **{name: value for name, value in self.ids.items() if f":{name}" in sql})
        self.token = self._token()
        self.edge = layout.path("mounts", "sessions", "edge-key").read_text().split()[0]
        self.path = f"/v1/sessions/{self.ids['session']}"

    def _token(self) -> str:
        kid, key = signing_key({"jwt_keyring": self.layout.path("keys", "jwt-keyring.json")})
        ids, now, api = self.ids, int(time.time()), self.layout.url("gateway")
        claims: dict[str, Any] = {
            "iss": api,
            "aud": api,
            "sub": ids["person"],
            "account_id": ids["person"],
            "sid": ids["login"],
        }
        claims |= {"tenant_id": ids["tenant"], "client_id": "first-party", "jti": str(uuid.uuid4()), "amr": ["pwd"]}
        times = {"iat": now, "nbf": now, "exp": now + DAY, "auth_time": now}
        return jwt.encode(claims | times, key, "HS256", headers={"typ": "at+jwt", "kid": kid})

    def environment(self) -> dict[str, str]:
        """What the local stack would give a replica, with room for the measurement."""
        plenty = {f"RATE_{name}": "1000000000/hour" for name in ("ANONYMOUS", "USER", "IP", "ORGANIZATION", "EVENTS")}
        own = function_environment(self.layout, "sessions", {"TELEMETRY": "off"})
        more = {"HOST": HOST, "PORT": str(self.port), "DRAIN_SECONDS": "0", "STREAMS_PER_ORGANIZATION": "1000000"}
        return own | plenty | more | {"SESSION_IDLE_SECONDS": str(DAY)}

    def target(self, command: str) -> Path:
        """The harness's TOML file."""
        tokens = self.layout.path("tokens")
        tokens.write_text(f"{self.ids['tenant']}\t{self.token}\n")
        environment = "\n".join(f"{name} = {json.dumps(value)}" for name, value in self.environment().items())
        known = {"name": NAME, "host": HOST, "port": self.port, "python": sys.executable, "checkout": CHECKOUT}
        known |= {"environment": environment, "tokens": tokens, "path": f"{self.path}/stream", "edge": self.edge}
        text = TARGET.format(channel=CHANNEL, **known)
        if command:
            text = text.replace(f"{sys.executable} -m sessions.server", command)
        file = self.layout.path(f"{NAME}.toml")
        file.write_text(text)
        return file

    def publisher(self) -> list[str]:
        """The command of the process that appends what the harness publishes."""
        headers = {"Authorization": f"Bearer {self.token}", "X-Edge-Key": self.edge, "X-Client-Ip": HOST}
        command = [sys.executable, "-m", "bench.publishing", "--channel", CHANNEL]
        command += ["--valkey", str(self.valkey)]
        command += ["--url", f"http://{HOST}:{self.port}{self.path}/events"]
        return [*command, *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}"))]

    def peers(self, folder: Path) -> list[Path]:
        """The peers' own TOML files, on ports that no outgoing connection can have taken."""
        files = []
        for name, port in zip(PEER_NAMES, self.others, strict=True):
            text = (folder / "targets" / "realtime" / f"{name}.toml").read_text()
            known = tomllib.loads(text)
            text = text.replace(str(urlsplit(known["base_url"]).port), str(port))
            place = (folder / "targets" / "realtime" / known["cwd"]).resolve()
            files.append(self.layout.path(f"{name}.toml"))
            files[-1].write_text(text.replace(f'cwd = "{known["cwd"]}"', f'cwd = "{place}"'))
        return files


def measure(
    watched: Watched, folder: Path, scenario: str, targets: str, rounds: int, seconds: int
) -> dict[str, list[dict[str, float]]]:
    """One run of the harness; the rounds of each target."""
    results = folder / "var" / "results"
    before = set(results.glob("realtime-*.json"))
    command = [str(folder / "venv/bin/python"), "bench_realtime.py", "--targets", targets, "--scenarios", scenario]
    command += ["--rounds", str(rounds), "--seconds", str(seconds)]
    environment = os.environ | {"BENCH_VALKEY_PORT": str(watched.valkey)}
    subprocess.run(command, cwd=folder, env=environment, check=True)
    (written,) = set(results.glob("realtime-*.json")) - before
    found: dict[str, list[dict[str, float]]] = json.loads(written.read_text())
    return {name.partition("/")[2]: runs for name, runs in found.items()}


def ratio(runs: dict[str, list[dict[str, float]]], name: str, key: str) -> list[float]:
    """To bare aiohttp, round by round."""
    return [mine[key] / base[key] for mine, base in zip(runs[name], runs[BASE], strict=True)]


def rows(scenario: str, runs: dict[str, list[dict[str, float]]]) -> list[str]:
    """A line of the table per target: medians, and the ratios with their range."""
    lines = []
    for name, each in runs.items():
        middle = {key: statistics.median(run[key] for run in each) for key in each[0]}
        cells = [scenario, name, f"{middle['streams']:.0f}", f"{middle['kib_per_stream']:.1f}"]
        cells += [f"{middle['delivered_share']:.3f}", f"{middle['p50_ms']:.1f} / {middle['p99_ms']:.1f}"]
        cells += [spread(ratio(runs, name, "p99_ms")), f"{middle['server_cpu_per_1k'] * 1000:.1f}"]
        lines.append(f"| {' | '.join([*cells, spread(ratio(runs, name, 'server_cpu_per_1k'))])} |")
    return lines


def spread(ratios: list[float]) -> str:
    """The median and its range."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def verdict(fan_out: dict[str, list[dict[str, float]]], streams: dict[str, list[dict[str, float]]]) -> str:
    """The three limits and what was found."""
    held = statistics.median(run["kib_per_stream"] for run in streams[NAME])
    found = {"kib_per_stream": held}
    found |= {key: statistics.median(ratio(fan_out, NAME, key)) for key in ("p99_ms", "server_cpu_per_1k")}
    names = {
        "kib_per_stream": "KiB per open stream above idle",
        "p99_ms": "p99 of an event to 1,000 watchers, to bare aiohttp's",
        "server_cpu_per_1k": "CPU of a delivery, to bare aiohttp's",
    }
    lines = [
        f"| {names[key]} | {limit} | {found[key]:.2f} | {'yes' if found[key] <= limit else 'no'} |"
        for key, limit in TARGETS.items()
    ]
    return "\n".join(["| | at most | found | holds |", "|---|---|---|---|", *lines]) + "\n"


def main() -> int:
    """Measure it, write SESSIONS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' folder; a copy is set up when it is not")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6)
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--folder", type=Path, default=VAR / "sessions")
    parser.add_argument("--command", default="", help="another way to start the replica: under a profiler")
    arguments = parser.parse_args()
    if not (arguments.peers / "bench_realtime.py").exists():
        sys.stderr.write(f"bench.sessions needs the peers at {arguments.peers}: give their folder by --peers\n")
        return 1
    folder = peers(arguments.peers)
    with alone(arguments.folder, valkey=True) as layout, ExitStack() as left:
        watched = Watched(layout)
        log = left.enter_context((arguments.folder / "publishing.log").open("wb"))
        left.enter_context(process(watched.publisher(), log))
        files = [*watched.peers(folder), watched.target(arguments.command)]
        targets = ",".join(map(str, files))
        runs: dict[str, Any] = {
            name: measure(watched, folder, SCENARIOS[name], targets, arguments.rounds, arguments.seconds)
            for name in arguments.scenarios
        }
        with connection(admin_url(layout)) as admin:
            where = machine(admin)
    table = "\n".join(line for name, each in runs.items() for line in rows(SCENARIOS[name], each))
    found = HEAD + table + "\n"
    if set(runs) == set(SCENARIOS):
        found = HEAD + table + "\n\n" + verdict(runs["fan-out"], runs["streams"]) + f"\nMachine: {where}\n"
        RESULTS.write_text(found)
    sys.stdout.write(found)
    return 0


HEAD = """# Streams

Written by `python -m bench.sessions`: one run of the peers' `bench_realtime.py` per scenario, the targets in turns, a
new process for every round; medians, and ratios to bare aiohttp taken round by round. `1x1000@20`: one session with
1,000 watchers and 20 events a second. Quote ratios, not absolutes. Our events are appended through the API: their
latency holds the request, the transaction and the disk, and our CPU the whole request; a peer's is a PUBLISH.
`1x5000@1` is there for the memory: what it delivers more than was published are the harness's own first probes.
On a machine that has other work (its load stands below), latencies favour whoever needs less CPU.

| scenario | target | streams | KiB each | delivered | p50 / p99 ms | p99 ratio | CPU µs a delivery | CPU ratio |
|---|---|---|---|---|---|---|---|---|
"""

if __name__ == "__main__":
    sys.exit(main())
