"""One supervisor per stack: a lock file that names its holder."""

import fcntl
import os
import time
from pathlib import Path

from local.processes import alive

PATIENCE_SECONDS = 8.0  # what the guardian of a killed supervisor may need


class AlreadyRunning(Exception):
    """Another supervisor holds the stack; the message says which."""


def lock(path: Path) -> int:
    """Take the lock of a stack, with our pid in it; the open descriptor holds it. Raises AlreadyRunning."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(descriptor, 20, 0).decode().strip()
            if (holder.isdecimal() and alive(int(holder))) or time.monotonic() > deadline:
                os.close(descriptor)
                text = f"This stack is running already (process {holder}, {path.parent}). Stop that one first: Ctrl-C."
                raise AlreadyRunning(text) from None
            time.sleep(0.05)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
