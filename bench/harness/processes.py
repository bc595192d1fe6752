"""Processes: start and stop by pid; CPU and memory of process trees, from /proc."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on (proc(5)), None when it has gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def tree(root: int) -> list[int]:
    """A process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir(PROC):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_seconds(roots: Iterable[int]) -> float:
    """User and system seconds of the trees, those of ended children included."""
    stats = [_stat(pid) for root in roots for pid in tree(root)]
    return sum(int(ticks) for fields in stats if fields for ticks in fields[11:15]) / TICK


def cpu_by_process(roots: Iterable[int]) -> dict[int, int]:
    """Ticks of each process of the trees."""
    stats = {pid: _stat(pid) for root in roots for pid in tree(root)}
    return {pid: sum(int(ticks) for ticks in fields[11:13]) for pid, fields in stats.items() if fields}


def busiest_share(before: Mapping[int, int], after: Mapping[int, int]) -> float:
    """Of the CPU used between two readings, the share of the busiest process."""
    used = [ticks - before.get(pid, 0) for pid, ticks in after.items()]
    return max(used) / sum(used) if sum(used) > 0 else 0.0


def _mib(path: Path, name: str) -> float:
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for line in path.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) / 1024
    return 0.0


def memory(roots: Iterable[int]) -> dict[str, float]:
    """MiB of the trees: peak resident (each process' own, so shared pages count again), and PSS now."""
    pids = [PROC / str(pid) for root in roots for pid in tree(root)]
    return {
        "peak_rss": sum(_mib(pid / "status", "VmHWM") for pid in pids),
        "pss": sum(_mib(pid / "smaps_rollup", "Pss") for pid in pids),
    }


def spawn(command: str | Iterable[str], folder: Path, env: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a command in a folder; what it says goes into the log."""
    words = shlex.split(command) if isinstance(command, str) else list(command)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as out:
        return subprocess.Popen(
            words, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
        )


def stop(process: "subprocess.Popen[bytes]", grace: float = 8) -> None:
    """SIGTERM; whatever of the tree outlives the grace period is killed by its pid."""
    if process.poll() is not None:
        return
    below = tree(process.pid)[1:]
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(grace)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + 1
    while left := [pid for pid in below if (fields := _stat(pid)) and fields[0] != "Z"]:
        if time.monotonic() > deadline:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)
