"""`python -m local.operator ACT …`: migrations.operator against the local stack, by the rights of a Cloud Run job."""

import os
import sys

from local import attached, stack

ROTATE, KEYS = "rotate-keys", "keys"  # in the environment of the service whose code and rights it uses
USUAL = "retention"  # whose view of secrets and storage suffices: anchors, and the ring that signs them


def main() -> int:
    """Run it in the environment that the Cloud Run job has; its exit code."""
    layout, rest = attached.choose(sys.argv[1:])
    environment = dict(os.environ)
    if layout is not None:
        url = stack.dsn(layout, "operator")
        service = KEYS if rest[:1] == [ROTATE] else USUAL
        environment = stack.function_environment(layout, service, os.environ) | {"DATABASE_ADMIN_URL": url}
    os.execve(sys.executable, [sys.executable, "-m", "migrations.operator", *rest], environment)  # noqa: S606 - our own module, no shell


if __name__ == "__main__":
    sys.exit(main())
