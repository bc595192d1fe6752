"""A whole local stack, and what all of its processes use while something is done."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from bench.machine import CHECKOUT
from bench.ours import ENVIRONMENT
from bench.results import Run


@contextmanager
def stack(folder: Path, **environment: str) -> Iterator[dict[str, Any]]:
    """A durable stack: what its stack.json says, its supervisor's pid and the file's path."""
    file = folder / "stack.json"
    folder.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "local.supervisor", "--root", str(folder)]
    given = {**ENVIRONMENT, **os.environ, **environment}
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=CHECKOUT, env=given, stdout=log, stderr=log)
        try:
            while not file.exists():
                if process.poll() is not None:
                    raise SystemExit(f"the stack did not start: see {log.name}")
                time.sleep(0.2)
            yield json.loads(file.read_text()) | {"supervisor": process.pid, "path": str(file)}
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def processes(running: dict[str, Any]) -> dict[int, tuple[str, psutil.Process]]:
    """Every process of the stack by its pid, under the name of its service."""
    found: dict[int, tuple[str, psutil.Process]] = {}
    for name, pid in running["pids"].items():
        if name == "supervisor":
            continue
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            found.setdefault(process.pid, (name, process))
    return found


def cpu_seconds(running: dict[str, Any]) -> dict[str, float]:
    """User and system seconds by service, those of ended children included."""
    seconds: dict[str, float] = {}
    for name, process in processes(running).values():
        with suppress(psutil.NoSuchProcess):
            seconds[name] = seconds.get(name, 0) + sum(process.cpu_times()[:4])
    return seconds


def peak_mib(pid: int) -> float:
    """The most memory that a process has held since `forget_peaks`."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def measured(running: dict[str, Any], work: Callable[[], int]) -> tuple[int, Run]:
    """Do it, and look at all processes of the stack before and afterwards: seconds, CPU seconds and peak MiB.

    `peak_<service>` is that of one process.
    """
    for pid in processes(running):
        with suppress(FileNotFoundError):
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # its peak begins anew
    before, begin = cpu_seconds(running), time.perf_counter()
    size = work()
    wall, after = time.perf_counter() - begin, cpu_seconds(running)
    cpu = {name: seconds - before.get(name, 0) for name, seconds in after.items()}
    database = cpu.pop("postgres")
    run = {"seconds": wall, "cpu": sum(cpu.values()), "postgres_cpu": database, "peak_mib": 0.0}
    for pid, (name, _) in processes(running).items():
        with suppress(FileNotFoundError):
            peak, key = peak_mib(pid), f"peak_{name}"
            run[key] = max(run.get(key, 0), peak)
            run["peak_mib"] = max(run["peak_mib"], peak if name != "postgres" else 0)
    return size, run


def of_postgres(run: Run) -> Run:
    """What is known of work that no process of the stack but PostgreSQL has done."""
    return {name: value for name, value in run.items() if name != "cpu" and not name.startswith("peak")}
