"""A module of local/ as a process, forked from the supervisor.

Stand-ins spend most of their start on importing the same libraries. The supervisor imports them once; the fork does
what `python -m <module>` does from there on. What runs in the cloud is started as it is started there.
"""

import gc
import importlib
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from local.processes import die_with_parent

LIBRARIES = ("aiohttp.web", "aiosmtpd.smtp", "google.cloud.secretmanager_v1", "google.cloud.tasks_v2", "pg8000.native")
OURS = ("common", "functions", "local", "migrations")
DESCRIPTORS = 4096  # no stack has so many open
POLL_SECONDS = 0.01


class Forked:
    """As much of subprocess.Popen as a supervisor needs."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path, output: int, errors: int
    ) -> None:
        """`command` is (interpreter, "-m", module, *arguments)."""
        for library in LIBRARIES:
            importlib.import_module(library)
        gc.freeze()  # or the collector touches, and so copies, every page
        sys.stdout.flush()
        sys.stderr.flush()
        self.returncode: int | None = None
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become(command[2:], environment, folder, output, errors)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def poll(self) -> int | None:
        """The exit code; the negative number of a signal; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (timeout if timeout is not None else float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(POLL_SECONDS)
        return code

    def send_signal(self, number: int) -> None:
        """To the process, if it is there."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _become(command: Sequence[str], environment: Mapping[str, str], folder: Path, output: int, errors: int) -> NoReturn:
    """The rest of the life of the forked process."""
    code = 1
    try:
        _leave_the_supervisor(output, errors)
        run_as_main(command, environment, folder)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
    except BaseException:  # noqa: BLE001 - as the interpreter itself does at its end
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)


def run_as_main(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
    """What `python -m` does in a new process, by that name in lists of processes, with our code as it is now."""
    with suppress(OSError):  # no /proc
        Path("/proc/self/comm").write_text(command[0].removeprefix("local."))
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv = list(command)
    for name in [each for each in sys.modules if each.split(".")[0] in OURS]:
        del sys.modules[name]
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


def _leave_the_supervisor(output: int, errors: int) -> None:
    """A session, signals and descriptors of its own; the kernel ends it with the supervisor."""
    os.setsid()
    die_with_parent()()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (output, 1), (errors, 2)):
        os.dup2(descriptor, standard)
    os.closerange(3, DESCRIPTORS)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
