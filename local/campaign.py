"""migrations.campaign against the local stack, which is running: `python -m local.campaign --purpose P --subject …`."""

import os
import sys
from pathlib import Path

from local import postgres, stack
from local.layout import Layout


def main() -> int:
    """Run it with the same arguments, in the environment that the Cloud Run job has; its exit code.

    `--root FOLDER`, the first argument if any, is where the stack keeps its data.
    """
    arguments, root = sys.argv[1:], Path(".local")
    if arguments[:1] == ["--root"]:
        root, arguments = Path(arguments[1]), arguments[2:]
    layout = Layout.load(root / "layout.json")
    url = postgres.admin_dsn(layout.path(), layout.ports["postgres"])
    environment = stack.inherited(os.environ) | {"DATABASE_ADMIN_URL": url}
    command = [sys.executable, "-m", "migrations.campaign", *arguments]
    os.execve(sys.executable, command, environment)  # noqa: S606 - our own module, no shell


if __name__ == "__main__":
    sys.exit(main())
