"""What a measurement ran on, and what this machine lacks for one."""

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import psutil

CHECKOUT = Path(__file__).parent.parent
VAR = CHECKOUT / "bench" / "var"
WRITTEN = ("bench/results.json", "bench/RESULTS.md", "bench/plots", "docs/scale.md")  # by a run itself
TOOLS = {  # program: what needs it, and where it comes from
    "wrk": "load on HTTP servers; Debian package wrk",
    "zip": "exports by COPY; Debian package zip",
    "gzip": "exports by COPY; Debian package gzip",
}


def missing(tools: dict[str, str] | None = None) -> list[str]:
    """A line for each program that is not there."""
    return [f"{tool} ({why})" for tool, why in (tools or TOOLS).items() if shutil.which(tool) is None]


def cpu_model(cpuinfo: str) -> str:
    """The name of the processor in /proc/cpuinfo."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), "unknown")


def facts(postgres: str = "") -> dict[str, Any]:
    """The machine now. `postgres` is a server's version, where one took part."""
    there = Path("/proc/cpuinfo")
    found: dict[str, Any] = {
        "cores": os.cpu_count(),
        "cpu": cpu_model(there.read_text()) if there.exists() else platform.processor(),
        "memory_gib": psutil.virtual_memory().total >> 30,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }
    return found | ({"postgres": postgres} if postgres else {})


def commit() -> str:
    """What is checked out, with a `+` when files in git differ from it."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", *(f":!{path}" for path in WRITTEN))
    return git("rev-parse", "--short=7", "HEAD") + ("+" if changed else "")
