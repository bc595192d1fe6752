#!/usr/bin/env python3
"""GDPR export of one heavy data subject, side by side: python bench_export.py [--targets a,b] [--rounds 3]

Entries are targets/export/*.toml: a command that writes {out}. Every run is checked
for the number of records; CPU and memory include child processes and the entry's own
servers, PostgreSQL's CPU is separate.
"""

import argparse
import gzip
import json
import os
import shlex
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
import zipfile
from pathlib import Path

from db import pg
from harness import config, proc, valkey
from harness.targets import fill, ident

from bench import table


def records(path, form):
    if form == "count":
        return int(Path(path).read_text())
    if form == "json":  # {"table": [rows]}
        count = "import json,sys; print(sum(map(len, json.load(open(sys.argv[1])).values())))"
        # In a process of its own: a child's ru_maxrss starts from its parent's size.
        return int(
            subprocess.run([sys.executable, "-c", count, path], check=True, capture_output=True, text=True).stdout
        )
    if form == "gzip":
        with gzip.open(path) as f:
            return sum(1 for _ in f)
    with zipfile.ZipFile(path) as z:
        return sum(sum(1 for _ in z.open(n)) for n in z.namelist() if n.endswith((".jsonl", "-")))


def start_servers(spec, here, env, started):
    for server in spec.get("servers", []):
        cwd = (here / server.get("cwd", ".")).resolve()
        cwd.mkdir(parents=True, exist_ok=True)
        started.append(proc.spawn(server["command"], cwd, env, config.VAR / "log" / f"export-{server['port']}.log"))
        end = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", server["port"]), 1).close()
                break
            except OSError:
                if time.monotonic() > end or started[-1].poll() is not None:
                    raise SystemExit(f"server did not start: {server['command']}") from None
                time.sleep(0.1)


def measure(spec, here, out, postmaster):
    env = {**config.env(), **spec.get("env", {})}
    servers = []
    try:
        start_servers(spec, here, env, servers)
        roots = [s.pid for s in servers]
        pg_before, own_before, begin = proc.cpu_seconds([postmaster]), proc.cpu_seconds(roots), time.perf_counter()
        child = subprocess.Popen(
            shlex.split(spec["command"]),
            cwd=(here / spec.get("cwd", ".")).resolve(),
            env=env,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{spec['command']} failed with {child.returncode}")
        return {
            "wall": wall,
            "cpu": usage.ru_utime + usage.ru_stime + proc.cpu_seconds(roots) - own_before,
            "peak_rss": usage.ru_maxrss / 1024 + proc.memory(roots)["peak_rss"],
            "postgres_cpu": proc.cpu_seconds([postmaster]) - pg_before,
            "bytes": os.path.getsize(out),
            "records": records(out, spec["format"]),
        }
    finally:
        for server in reversed(servers):
            proc.stop(server)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--targets", default="")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--base", default="django_values")
    args = p.parse_args()
    proc.exit_on_sigterm()
    folder = config.ROOT / "targets/export"
    files = [Path(n) if n.endswith(".toml") else folder / f"{n}.toml" for n in args.targets.split(",") if n] or sorted(
        folder.glob("*.toml")
    )
    specs = {f.stem: (tomllib.loads(f.read_text()), f.parent) for f in files}
    postmaster = pg.start()
    tenant, user = ident("tenant1"), ident("user1")
    expected = int(
        pg.psql(
            "-At",
            "-c",
            f"""SELECT 1 + (SELECT count(*) FROM projects WHERE owner_id = '{user}')
        + (SELECT count(*) FROM audit_log WHERE actor_id = '{user}')
        + (SELECT count(*) FROM events WHERE user_id = '{user}')""",
            capture_output=True,
            text=True,
        ).stdout
    )
    with tempfile.TemporaryDirectory(dir=config.VAR) as tmp:
        values = {
            "tenant_id": tenant,
            "user_id": user,
            "root": config.ROOT,
            "valkey": valkey.binary(),
            "pg_port": config.PG_PORT,
        }
        specs = {n: (fill(spec, {**values, "out": f"{tmp}/{n}.out"}), here) for n, (spec, here) in specs.items()}
        for name in [n for n, (s, _) in specs.items() if "requires" in s and not Path(s["requires"]).exists()]:
            print(f"skipped {name}: {specs.pop(name)[0]['requires']} is missing")
        runs = {n: [] for n in specs}
        for r in range(-1, args.rounds):  # round -1 warms caches
            for name, (spec, here) in specs.items():
                if spec.get("once") and r != 0:
                    continue
                one = measure(spec, here, f"{tmp}/{name}.out", postmaster)
                if one["records"] != expected:
                    raise SystemExit(f"{name}: {one['records']} records, expected {expected}")
                if r >= 0:
                    runs[name].append(one)
    mid = {n: {k: statistics.median(x[k] for x in v) for k in v[0]} for n, v in runs.items()}
    rows = []
    for n, m in mid.items():
        ratio = (
            statistics.median(b["wall"] / a["wall"] for a, b in zip(runs[n], runs[args.base]))
            if args.base in runs
            else 0
        )
        rows.append(
            [
                n,
                f"{m['wall']:.2f}",
                f"{ratio:.2f}x",
                f"{expected / m['wall']:.0f}",
                f"{m['cpu']:.2f}",
                f"{m['postgres_cpu']:.2f}",
                f"{m['peak_rss']:.0f}",
                f"{m['bytes'] / 2**20:.1f}",
            ]
        )
    text = f"{expected} records\n" + table(
        [
            "export",
            "wall s",
            f"speed vs {args.base}",
            "records/s",
            "CPU s",
            "Postgres CPU s",
            "peak RSS MiB",
            "output MiB",
        ],
        rows,
    )
    print(text)
    out = config.VAR / "results" / time.strftime("export-%Y%m%d-%H%M%S")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".json").write_text(json.dumps(runs, indent=1))
    out.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
