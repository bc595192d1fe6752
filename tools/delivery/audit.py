"""`make audit`: published weaknesses of every pinned package, by OSV, which knows those of PyPI and GitHub as well.

Exit code 1 where one is known, 2 where OSV could not be asked: nothing that was not looked at passes.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tools.delivery.pipelines import ROOT

LOCKS = ("requirements.txt", "requirements-dev.txt", "tools/terraform/requirements-checkov.txt")
OPTIONS = ("--strict", "--require-hashes", "--disable-pip", "--progress-spinner=off", "--vulnerability-service=osv")
UNREACHABLE = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "Could not connect")


def audit(lock: str, *more: str) -> int:
    """Ask for one lock file, and show what pip-audit says."""
    command = [str(Path(sys.executable).parent / "pip-audit"), *OPTIONS, *more, "--requirement", lock]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    sys.stdout.write(f"{lock}\n{done.stdout}")
    if done.returncode and not done.stdout and any(word in done.stderr for word in UNREACHABLE):
        sys.stderr.write("OSV cannot be reached from this machine: nothing was audited\n")
        return 2
    sys.stderr.write(done.stderr)
    return 1 if done.returncode else 0


def main(arguments: list[str] | None = None) -> int:
    """All of them, and the worst that was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--osv-url", help="another place that answers as https://api.osv.dev/v1/query does")
    parser.add_argument("lock", nargs="*", default=LOCKS)
    given = parser.parse_args(arguments)
    more = [f"--osv-url={given.osv_url}"] if given.osv_url else []
    for lock in given.lock:
        if code := audit(lock, *more):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
