"""checkov over the plans, and what it finds against skips.yaml: nothing is skipped without a reason, or for nothing.

Over the plans, because over the files it sees neither what `for_each` and `dynamic` make nor the values of variables.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from tools.terraform.plan import CHECKOUT

FILE = Path(__file__).parent / "skips.yaml"
PROGRAM = CHECKOUT / ".venv-checkov" / "bin" / "checkov"
CRASHED = re.compile(r"Failed to run check (\w+)")
SHORTEST_REASON = 25
Found = dict[str, set[str]]  # check → addresses without index


def run(plans: Iterable[Path]) -> tuple[Found, set[str]]:
    """What fails in some plans, and which checks fell over themselves."""
    files = [argument for plan in plans for argument in ("-f", str(plan))]
    command = [
        str(PROGRAM),
        *files,
        "--framework",
        "terraform_plan",
        "--skip-download",
        "--quiet",
        "--compact",
        "-o",
        "json",
    ]
    environment = {**os.environ, "LOG_LEVEL": "ERROR", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if not done.stdout.startswith(("{", "[")):
        raise RuntimeError(f"checkov: {done.stderr or done.stdout}")
    return failed(json.loads(done.stdout)), set(CRASHED.findall(done.stderr))


def failed(report: Any) -> Found:
    """Check → addresses of what fails it."""
    found: Found = {}
    for part in report if isinstance(report, list) else [report]:
        if part["summary"]["parsing_errors"] or not part["summary"]["resource_count"]:
            raise RuntimeError("checkov could not read the plan")
        for item in part["results"]["failed_checks"]:
            found.setdefault(item["check_id"], set()).add(item["resource"].split("[")[0])
    return found


def compare(found: Found, crashed: set[str], skips: dict[str, Any]) -> Iterator[str]:
    """What is found and not skipped, and what is skipped and not found."""
    for check in sorted(found.keys() | skips["skipped"].keys()):
        skip = skips["skipped"].get(check, {"resources": [], "why": "." * SHORTEST_REASON})
        for address in sorted(found.get(check, set()) - set(skip["resources"])):
            yield f"{address} fails {check}"
        for address in sorted(set(skip["resources"]) - found.get(check, set())):
            yield f"{address} passes {check}: tools/terraform/{FILE.name} need not name it"
        if len(skip["why"]) < SHORTEST_REASON or not (skip["resources"] or check in found):
            yield f"{check}: tools/terraform/{FILE.name} skips it without a reason"
    for check in sorted(crashed ^ skips["broken"].keys()):
        yield f"{check} {'falls over itself' if check in crashed else 'works now'}: tools/terraform/{FILE.name}"


def skips() -> dict[str, Any]:
    """`skipped`: check → resources and why; `broken`: check → what looks at the same in its place."""
    listed: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return listed
