"""One turn of load on a target: wrk over prepared requests, with the CPU that its servers used meanwhile."""

import json
import os
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import processes
from bench.harness.targets import Target

SCRIPT = Path(__file__).with_name("load.lua")
FAULTS = ("bad_status", "bad_items", "socket_errors")


@dataclass(frozen=True)
class Work:
    """Requests (method, path, header lines, body) that are sent in rotation, and what every answer must be.

    `chain` and `template`: see load.lua. An answer holds `marker` `items` times.
    """

    requests: list[tuple[str, str, list[str], str]]
    status: int = 200
    items: int = 0
    marker: str = ""
    chain: str = ""
    template: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    def environment(self, file: str) -> dict[str, str]:
        """What load.lua reads."""
        known = {"REQUESTS": file, "STATUS": str(self.status), "ITEMS": str(self.items), "MARKER": self.marker}
        known |= {"RUN": uuid.uuid4().hex[:12]}
        if self.chain:
            known |= {"CHAIN": self.chain, "TEMPLATE": self.template}
        return {f"WRK_{name}": value for name, value in known.items()}


def run(target: Target, work: Work, *, seconds: float, connections: int, draws: int = 1) -> dict[str, float]:
    """What a turn found. Raises SystemExit when an answer was not what it had to be: nothing of it counts then.

    Keep-alive connections opened in a burst spread over a server's worker processes by luck, at worst all on one. A
    turn is therefore `draws` wrk runs, each with new connections: throughput and latency are those of the best, checks
    and CPU of all of them.
    """
    roots, found = target.roots, []
    used = {"server_cpu": roots, "postgres_cpu": [target.postgres], "valkey_cpu": [target.valkey]}
    used = {name: pids for name, pids in used.items() if all(pids)}
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.writelines("\t".join((m, p, "\x1f".join(h), b)) + "\n" for m, p, h, b in work.requests)
        file.flush()
        before = {name: processes.cpu_seconds(pids) for name, pids in used.items()}
        found = [_draw(target, work, file.name, seconds, connections) for _ in range(draws)]
        after = {name: processes.cpu_seconds(pids) for name, pids in used.items()}
    best = max(found, key=lambda each: each["rps"])
    done = max(sum(each["requests"] for each in found), 1)
    cpu = {name: (after[name] - before[name]) * 1000 / done for name in used}
    bad = float(sum(each[fault] for each in found for fault in FAULTS))
    if bad:
        raise SystemExit(f"{target.name}: {bad:.0f} answers were not what they had to be")
    kept = {name: float(best[name]) for name in ("rps", "p50_ms", "p99_ms", "busiest")}
    return kept | {"postgres_cpu": 0.0, "valkey_cpu": 0.0} | cpu | {"bad": bad} | processes.memory(roots)


def _draw(target: Target, work: Work, file: str, seconds: float, connections: int) -> dict[str, Any]:
    before = processes.cpu_by_process(target.roots)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(SCRIPT)]
    done = subprocess.run(
        [*command, f"http://{target.url.netloc}"],
        env=os.environ | work.environment(file),
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(f"wrk failed on {target.name}: {done.stdout[-500:]}{done.stderr[-500:]}")
    one: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    share = processes.busiest_share(before, processes.cpu_by_process(target.roots))
    return one | {"rps": one["good"] / one["seconds"], "busiest": share}
