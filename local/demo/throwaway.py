"""A stack of the demo's own, gone when it ends."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.demo.client import TooLate, eventually
from local.processes import die_with_parent
from local.services import CHECKOUT

READY_SECONDS = 180
STOP_SECONDS = 40
TAIL = 2000
SETTINGS = {
    "SIGNED_URL_SECONDS": "15",
    "STEP_UP_SECONDS": "15",
    "DELETION_GRACE_USER_SECONDS": "0",
    "RATE_ANONYMOUS": "1000/hour",  # of two people who are one address
}


def read(path: Path) -> dict[str, Any]:
    """stack.json, and where it is."""
    stack: dict[str, Any] = json.loads(path.read_text())
    return stack | {"path": str(path.absolute())}


@contextmanager
def throwaway() -> Iterator[dict[str, Any]]:
    """Start `python -m local.supervisor --ephemeral` in a new folder; its stack.json. Raises TooLate."""
    with tempfile.TemporaryDirectory(prefix="dev-context-demo-") as name:
        folder = Path(name)
        with (folder / "supervisor.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "local.supervisor", "--ephemeral"],
                cwd=CHECKOUT,
                env={**os.environ, **SETTINGS, "TMPDIR": name},
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(),
                start_new_session=True,
            )
        try:
            yield read(_announcement(process, folder))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_SECONDS)


def _announcement(process: "subprocess.Popen[bytes]", folder: Path) -> Path:
    def found() -> list[Path]:
        if process.poll() is not None:
            raise TooLate("the stack ended:\n" + (folder / "supervisor.log").read_text()[-TAIL:])
        return list(folder.glob("dev-context-stack-*/stack.json"))

    return eventually(found, READY_SECONDS, "the stack's start")[0]
