"""Commands that act on a running stack: which one `--root` names, and one sentence when it does not run."""

import argparse
import sys
from pathlib import Path

from local.layout import Layout
from local.stack import ANNOUNCEMENT

NO_STACK = 2


def running(root: Path) -> Layout:
    """The stack of a folder. Raises SystemExit (code 2), with what to do, when there is none that runs."""
    if not (root / "layout.json").exists():
        sys.stderr.write(f"there is no stack at {root}: start one with `make run`\n")
        raise SystemExit(NO_STACK)
    if not (root / ANNOUNCEMENT).exists():  # it is written when all is ready, and goes first at a stop
        sys.stderr.write(f"the stack at {root} is stopped, or not ready yet: `make run`, and wait for `ready`\n")
        raise SystemExit(NO_STACK)
    return Layout.load(root / "layout.json")


def choose(arguments: list[str]) -> tuple[Layout | None, list[str]]:
    """The stack, and the arguments without `--root`, wherever it stands; no stack when they only ask for help.

    Raises SystemExit (code 2) when none runs.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path(".local"))
    own, rest = parser.parse_known_args(arguments)
    if {"-h", "--help"} & {*rest}:
        return None, rest
    return running(own.root), rest
