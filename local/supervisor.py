"""`python -m local.supervisor`: the whole cloud of one checkout, in front of the terminal, until Ctrl-C."""

import argparse
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path

from local.preconditions import missing


def main() -> int:
    """Check, prepare, run; the exit code is 0 after a stop that was asked for."""
    parser = argparse.ArgumentParser(description="The local cloud")
    parser.add_argument("--root", type=Path, default=Path(".local"), help="folder of the stack's data")
    parser.add_argument("--ephemeral", action="store_true", help="a new folder, deleted at the end; no fsync")
    parser.add_argument("--only", nargs="+", default=(), help="services of the catalog, where not all are wanted")
    arguments = parser.parse_args()
    place = Path(tempfile.gettempdir(), "stack") if arguments.ephemeral else arguments.root
    problems = missing(place.absolute())
    if not problems:
        from local.entries import problems as wrong_entries  # only now is it known that they can be imported
        from local.layout import logins

        problems = wrong_entries()
        problems += [f"--only: {name} is no service of the catalog" for name in arguments.only if name not in logins()]
    if problems:
        sys.stderr.write("".join(f"{problem}\n" for problem in problems))
        return 1
    from local.postgres import forget
    from local.running import run
    from local.services import table

    chosen = partial(table, only=arguments.only)
    if not arguments.ephemeral:
        return run(arguments.root.absolute(), chosen, os.environ)
    root = Path(tempfile.mkdtemp(prefix="dev-context-stack-"))
    try:
        return run(root, chosen, os.environ, fast=True)
    finally:
        forget(root)
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
