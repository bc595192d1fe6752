"""Our list route beside the peers, in one run of their harness: `make bench`, or `python -m bench.run --help`.

The peers and their harness are read from PEERS (a folder; by default ../shared/peers beside this checkout) and worked
on in a copy. Needs wrk, zip and the PostgreSQL 15 server binaries for the peers; says so when one is missing.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.seed import seed

CHECKOUT = Path(__file__).parent.parent
VAR = CHECKOUT / "bench" / "var"
PEERS = Path(os.environ.get("PEERS", CHECKOUT.parent / "shared" / "peers"))
RESULTS = CHECKOUT / "bench" / "RESULTS.md"
TARGETS = ("django_drf", "fastapi_asyncpg", "ff_hello_w2")
TARGET = """
name = "dev_context"
base_url = "{api}"
pid_command = "{python} -m bench.pid --stack {stack} projects"
postgres_pid_command = "{python} -m bench.pid --stack {stack} postgres"
cwd = "{checkout}"

[auth]
header = "Authorization: Bearer {{token}}"
command = "{python} -m bench.tokens --stack {stack} --count {{count}} --role {{role}}"

[list]
path = "/v1/projects"
items = 50
items_key = "items"
item_marker = '"created_by"'
time_key = "created_at"

[get]
path = "/v1/projects/{{id}}"
"""


def missing() -> list[str]:
    """What this machine lacks for the comparison."""
    tools = [f"{tool} (Debian package {tool})" for tool in ("wrk", "zip") if shutil.which(tool) is None]
    if not (PEERS / "bench.py").exists():
        tools.append(f"the peers at {PEERS} (set PEERS to their folder)")
    return tools


@contextmanager
def stack() -> Iterator[dict[str, Any]]:
    """A durable stack of two function processes a service, as the peers have two workers."""
    root = VAR / "stack"
    file = root / "stack.json"
    file.unlink(missing_ok=True)
    unlimited = {f"RATE_{name}": "1000000000/hour" for name in ("ANONYMOUS", "USER", "IP", "ORGANIZATION")}
    environment = {"TELEMETRY": "off", **os.environ, "PROCESSES_PROJECTS": "2", **unlimited}
    log = (VAR / "stack.log").open("wb")
    command = [sys.executable, "-m", "local.supervisor", "--root", str(root)]
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=log, stderr=log)
    try:
        while not file.exists():
            if process.poll() is not None:
                raise SystemExit(f"the stack did not start: see {VAR / 'stack.log'}")
            time.sleep(0.2)
        yield json.loads(file.read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()


def peers(source: Path = PEERS) -> Path:
    """The peers, set up: where they stand, or else in a working copy."""
    python = Path("venv", "bin", "python")
    if (source / python).exists():
        return source
    copy = VAR / "peers"
    if not (copy / python).exists():
        shutil.copytree(source, copy, dirs_exist_ok=True)
        subprocess.run(["chmod", "-R", "u+w", str(copy)], check=True)
        subprocess.run(["./setup.sh"], cwd=copy, check=True)
    return copy


def with_database(copy: Path) -> Path:
    """The same, with their database running."""
    subprocess.run([str(copy / "venv/bin/python"), "db/pg.py", "start"], cwd=copy, check=True)
    return copy


def main() -> int:
    """Run the comparison and write RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    arguments = parser.parse_args()
    if lacking := missing():
        sys.stderr.write("bench needs: " + "; ".join(lacking) + "\n")
        return 1
    VAR.mkdir(parents=True, exist_ok=True)
    folder = with_database(peers())
    with stack() as running:
        seed(running["postgres"]["admin"], 1000, 200)
        target = VAR / "dev_context.toml"
        names = {"python": sys.executable, "stack": VAR / "stack" / "stack.json", "checkout": CHECKOUT}
        target.write_text(TARGET.format(api=running["api"], **names))
        command = [str(folder / "venv/bin/python"), "bench.py", "--targets", ",".join((*TARGETS, str(target)))]
        command += ["--ops", "list,get", "--cold", "0", "--rounds", str(arguments.rounds)]
        command += ["--seconds", str(arguments.seconds)]
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    table = "\n".join(line for line in done.stdout.splitlines() if line.startswith("|"))
    RESULTS.write_text(HEAD + table + "\n")
    print(table)
    return 0


HEAD = """# Results

Written by `make bench`: one interleaved run, the peers and we in turns on one machine. Quote ratios, not absolutes.
CPU seconds per 1,000 requests are the server's and PostgreSQL's own. Our requests pass through the local gateway, so
that our p50 and p99 hold two more hops than the peers'; its CPU is not in the columns, as theirs have none.
The peers run on PostgreSQL 15, we on 18. Exports are measured by `python -m bench.exports`: [EXPORTS.md](EXPORTS.md).
The price of the audit chain, by `python -m bench.audit`: [AUDIT.md](AUDIT.md).
Streams beside other servers', by `python -m bench.sessions`: [SESSIONS.md](SESSIONS.md); the database driver of the
session API, by `python -m bench.drivers`: [DRIVERS.md](DRIVERS.md).

"""

if __name__ == "__main__":
    sys.exit(main())
