"""`make pictures`: start a stack, live in it a little, and photograph its pages into docs/pictures.

`--stack .local/stack.json` takes a running stack instead. The exit code is 1 when there is no browser.
"""

import argparse
import base64
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from local.demo.throwaway import read, throwaway
from local.services import CHECKOUT
from tests.sessions import chromium
from tools.pictures import life, shots

FOLDER = CHECKOUT / "docs" / "pictures"


def take(stack: dict[str, Any], program: str, folder: Path) -> None:
    """Every picture, as `<name>.png`. Raises chromium.Failed when a page is not what it should be."""
    home = tempfile.TemporaryDirectory(prefix="dev-context-pictures-")
    with home as place, chromium.running(program, Path(place)) as browser:
        for shot in shots.of(stack):
            with browser.page("about:blank") as page:
                image = shots.photograph(browser, page, shot)
            (folder / f"{shot.name}.png").write_bytes(base64.b64decode(image))
            sys.stdout.write(f"{folder.name}/{shot.name}.png\n")


def main() -> int:
    """Take them all."""
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__)
    parser.add_argument("--stack", type=Path, help="stack.json of a running stack; without it one is started")
    parser.add_argument("--as-it-is", action="store_true", help="nobody does anything in the stack before")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pictures go")
    chosen = parser.parse_args()
    program = chromium.program()
    if program is None:
        sys.stderr.write("There is no Chromium to take pictures with: `apt-get install chromium` on Debian.\n")
        return 1
    with nullcontext(read(chosen.stack)) if chosen.stack else throwaway() as stack:
        if not chosen.as_it_is:
            life.live(stack)
        take(stack, program, chosen.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
