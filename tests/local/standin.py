"""A stand-in of the local cloud alone, as a process that a test starts, signals and kills."""

import multiprocessing
import os
from pathlib import Path

from local.forked import DESCRIPTORS, LIBRARIES, run_as_main
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
    """Runs in the fork."""
    die_with_parent()()
    os.closerange(3, DESCRIPTORS)  # one of them would keep the parent of all forks alive after the tests
    run_as_main(command, environment, CHECKOUT)
