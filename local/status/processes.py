"""What the processes of a stack use, from /proc: memory, processor time, and whether a signal has stopped one."""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """Of a process group: bytes that are resident, seconds of processor time so far, processes, all of them stopped."""

    memory: int = 0
    seconds: float = 0.0
    processes: int = 0
    stopped: bool = False


def usage(groups: set[int]) -> dict[int, Usage]:
    """Of each process group; nothing where there is no /proc. Memory that forked processes share counts for each."""
    found: dict[int, Usage] = {}
    for entry in PROC.glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        group = int(fields[2])
        if group not in groups or fields[0] == "Z":
            continue
        before = found.get(group, Usage(stopped=True))
        found[group] = Usage(
            before.memory + int(fields[21]) * PAGE,
            before.seconds + (int(fields[11]) + int(fields[12])) / TICKS,
            before.processes + 1,
            before.stopped and fields[0] == "T",
        )
    return found
