"""A stand-in of the local cloud alone, as a process that a test starts, signals and kills."""

import multiprocessing
import os
import runpy
import sys
from pathlib import Path

from local.forked import LIBRARIES
from local.processes import die_with_parent

CHECKOUT = Path(__file__).parents[2]
STOP_SECONDS = 30
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(list(LIBRARIES))


class StandIn:
    """A stand-in as a process of its own: forked, as in a stack, from one that has imported the libraries."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process = FORKS.Process(target=become, args=([module, *arguments], dict(os.environ)))
        self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        """The exit code, or the negative number of a signal."""
        return self._process.exitcode

    def wait(self, timeout: float = STOP_SECONDS) -> int:
        """Its exit code, once it ended."""
        self._process.join(timeout)
        code = self.poll()
        assert code is not None, "the stand-in does not end"
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()


def become(command: list[str], environment: dict[str, str]) -> None:
    """What `python -m` does; runs in the fork."""
    die_with_parent()()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(CHECKOUT)
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)
