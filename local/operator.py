"""`python -m local.operator ACT …`: migrations.operator against the local stack, by the rights of a Cloud Run job."""

import argparse
import os
import sys
from pathlib import Path

from local import postgres, stack
from local.layout import Layout

ROTATE, KEYS = "rotate-keys", "keys"  # in the environment of the service whose code and rights it uses
USUAL = "retention"  # whose view of secrets and storage suffices: anchors, and the ring that signs them
NO_STACK = 2


def main() -> int:
    """Run it in the environment that the Cloud Run job has; its exit code."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path(".local"))
    own, rest = parser.parse_known_args()
    environment = dict(os.environ)
    if not {"-h", "--help"} & {*rest}:
        if not (own.root / "layout.json").exists():
            sys.stderr.write(f"there is no stack at {own.root}: start one with `make run`\n")
            return NO_STACK
        layout = Layout.load(own.root / "layout.json")
        url = postgres.admin_dsn(layout.path(), layout.ports["postgres"])
        service = KEYS if rest[:1] == [ROTATE] else USUAL
        environment = stack.function_environment(layout, service, os.environ) | {"DATABASE_ADMIN_URL": url}
    os.execve(sys.executable, [sys.executable, "-m", "migrations.operator", *rest], environment)  # noqa: S606 - our own module, no shell


if __name__ == "__main__":
    sys.exit(main())
