"""Commands that act on a running stack: which one `--root` names, wherever it stands among their arguments."""

import argparse
import sys
from pathlib import Path

from local.layout import Layout

NO_STACK = 2


def choose(arguments: list[str]) -> tuple[Layout | None, list[str]]:
    """The stack, and the arguments without `--root`; no stack when they only ask for help.

    Raises SystemExit (code 2) when there is none.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--root", type=Path, default=Path(".local"))
    own, rest = parser.parse_known_args(arguments)
    if {"-h", "--help"} & {*rest}:
        return None, rest
    if not (own.root / "layout.json").exists():
        sys.stderr.write(f"there is no stack at {own.root}: start one with `make run`\n")
        raise SystemExit(NO_STACK)
    return Layout.load(own.root / "layout.json"), rest
