"""`make replay-erasures`: migrations.replay against the local stack, which is running, with a restored database."""

import argparse
import os
import sys
from pathlib import Path

from local import attached, stack

JOB = "replay"


def main() -> int:
    """Run it in the environment that the Cloud Run job has; its exit code."""
    parser = argparse.ArgumentParser(description="Erase again whom the ledger knows, after a restore")
    parser.add_argument("--root", type=Path, default=Path(".local"), help="where the stack keeps its data")
    parser.add_argument("--minutes", default="60", help="how long to wait for the erasures")
    chosen = parser.parse_args()
    layout = attached.running(chosen.root)
    environment = stack.cloud_job_environment(layout, JOB, os.environ)
    command = [sys.executable, "-m", "migrations.replay", "--minutes", chosen.minutes]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own module, no shell


if __name__ == "__main__":
    sys.exit(main())
