"""`make coverage` counts what runs in processes of a stack, not in the tests' own process alone."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.structure.sources import CHECKOUT, read

DEPLOYED = ["common", "functions", "sessions", "migrations"]
# A process that begins another one, which ends as the server's workers do.
PROCESSES = """
import importlib, multiprocessing, os, subprocess, sys
def work():
    importlib.import_module("common.phones")
    os._exit(0)
if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    worker = multiprocessing.get_context("spawn").Process(target=work)
    worker.start()
    worker.join()
    subprocess.run([sys.executable, "-c", "import os; from common import addresses; os._exit(0)"], check=True)
"""


def test_lines_of_another_process_count(tmp_path: Path) -> None:
    script, environment = tmp_path / "processes.py", {**os.environ, "COVERAGE_FILE": str(tmp_path / "data")}
    script.write_text(PROCESSES)
    for arguments in (["run", str(script)], ["combine", "--quiet"], ["json", "--quiet", "-o", "-"]):
        command = [sys.executable, "-m", "coverage", *arguments]
        done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True)

    files = json.loads(done.stdout)["files"]
    assert files["common/addresses.py"]["executed_lines"], "of a process"
    assert files["common/phones.py"]["executed_lines"], "of a worker"
    assert files["functions/auth/main.py"]["summary"]["covered_lines"] == 0, "what nobody ran is in it too"


def test_everything_that_is_deployed_is_counted() -> None:
    assert tomllib.loads(read("pyproject.toml"))["tool"]["coverage"]["run"]["source"] == DEPLOYED
