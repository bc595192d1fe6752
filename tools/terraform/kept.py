"""Plans, each made once from the same files: in one run of the tests, and in the next one if nothing has changed."""

import fcntl
import hashlib
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tools.terraform.plan import CHECKOUT

FOLDERS = {  # what a plan may be made from: folder → kinds of files
    "terraform": {".tf", ".tfvars", ".json", ".tftpl", ".yaml"},
    "functions": {".yaml"},
    "local": {".yaml"},
    "workflows": {".yaml"},
    "sessions": {".yaml"},
    "tools/terraform": {".py", ".gz"},
}
BESIDE = re.compile(r"\$\{path\.module\}/\.\./([\w./-]*\w)")  # a file or folder that a .tf file names
FOLDER = CHECKOUT / ".pytest_cache" / "plans"


class NoPlan(Exception):
    """Terraform refused; its own words."""


@cache
def digest() -> str:
    """Of every file that a plan may be made from."""
    paths = {
        path
        for folder, suffixes in FOLDERS.items()
        for path in (CHECKOUT / folder).rglob("*")
        if path.suffix in suffixes and path.is_file()
    }
    for path in (CHECKOUT / "terraform").glob("*.tf"):
        paths |= {CHECKOUT / name for name in BESIDE.findall(path.read_text()) if (CHECKOUT / name).is_file()}
    found = hashlib.sha256()
    for path in sorted(paths):
        found.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def kept(name: str, changes: dict[str, Any] | None = None) -> Path:
    """The file of the resolved plan of an environment, with some variables changed; NoPlan."""
    given = [f"--var={variable}={json.dumps(value)}" for variable, value in sorted((changes or {}).items())]
    file = FOLDER / (hashlib.sha256(" ".join([digest(), name, *given]).encode()).hexdigest()[:32] + ".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes make one plan
        if not file.exists():
            new = file.with_suffix(".new")
            command = [sys.executable, "-m", "tools.terraform.plan", name, "--resolved", f"--json={new}", *given]
            done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise NoPlan(f"no plan of {name}:\n{done.stderr}")
            new.rename(file)
    return file


def forget_others() -> None:
    """Remove the plans of other states of the files."""
    marker = FOLDER / "digest"
    if marker.exists() and marker.read_text() == digest():
        return
    for path in FOLDER.glob("*.*"):
        path.unlink(missing_ok=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    marker.write_text(digest())
