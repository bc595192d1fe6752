"""migrations.campaign against the local stack, which is running: `python -m local.campaign --purpose P --subject …`."""

import os
import sys

from local import attached, stack


def main() -> int:
    """Run it with the same arguments but `--root FOLDER`, in the environment that the Cloud Run job has."""
    layout, rest = attached.choose(sys.argv[1:])
    environment = dict(os.environ)
    if layout is not None:
        url = stack.dsn(layout, "operator")
        environment = stack.inherited(os.environ) | {"DATABASE_ADMIN_URL": url}
    command = [sys.executable, "-m", "migrations.campaign", *rest]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own module, no shell


if __name__ == "__main__":
    sys.exit(main())
