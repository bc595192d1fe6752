"""`python -m local.reset`: forget everything that a stopped stack has kept. Standard library only."""

import shutil
import sys
from pathlib import Path

from local import postgres
from local.locks import AlreadyRunning, lock


def main() -> int:
    """Delete `.local`, and the database's folder where it stands elsewhere."""
    root = Path(".local").absolute()
    if not root.exists():
        return 0
    try:
        lock(root / "supervisor.lock")
    except AlreadyRunning as error:
        sys.stderr.write(f"{error}\n")
        return 1
    postgres.forget(root)
    shutil.rmtree(root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
