"""One supervised service: started when what it needs is there, watched, started again, stopped."""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from local import postgres
from local.console import Console, Log
from local.forked import Forked
from local.layout import HOST
from local.processes import die_with_parent, signal_group
from local.services import CHECKOUT, Ready, Service
from local.standing import Standing

DELAYS = (0.1, 0.5, 1.0, 2.0, 5.0)  # seconds before the first, second, … start in a row
STEADY_SECONDS = 30
QUIET_FAILURES = 12  # of a service that cannot start, one in so many is told
TAIL_LINES = 12
HEALTH_SECONDS = 1
ASK_SECONDS = 0.25  # between two questions for its health


class State(Enum):
    """Where a child stands."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    DONE = "done"
    DELAYED = "delayed"
    FAILED = "failed"
    STOPPED = "stopped"


class Child:
    """The process of one service. Every call returns at once; `tick` moves it on."""

    def __init__(self, service: Service, root: Path, console: Console, changed: Callable[[int, bool], None]) -> None:
        self.service = service
        self.root = root
        self.console = console
        self.changed = changed  # (process group, whether it began or ended)
        self.log = Log(root / "log", service.name)
        self.state = State.WAITING
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.was_ready = False
        self.failures = 0
        self.starts = 0
        self.began: float | None = None  # the last start, by the wall clock
        self.last_end = ""
        self.since = 0.0
        self.asked = 0.0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.process.pid if self.process and self.process.returncode is None else None

    @property
    def is_step(self) -> bool:
        """Whether it runs to its end instead of staying."""
        return self.service.ready is Ready.ENDED

    def standing(self) -> Standing:
        """How it stands, for whoever looks."""
        service = self.service
        told = (self.state.value, self.pid, self.starts, self.began, self.last_end)
        return Standing(service.name, *told, self.is_step, service.ports, service.health)

    def tick(self, *, may_start: bool, may_ask: bool = True) -> None:
        """Start, see whether it is ready (by a request only if `may_ask`, it takes time), or see that it ended."""
        now = time.monotonic()
        if self.process and self.process.returncode is None and self.process.poll() is not None:
            self._ended(now)
        waited = self.state is State.DELAYED and now - self.since >= self._delay()
        if (self.state is State.WAITING and may_start) or waited:
            self._start(now)
        elif self.state is State.STARTING and self._is_ready(may_ask):
            self.state = State.READY
            self.was_ready = True
        elif self.state is State.READY and now - self.since > STEADY_SECONDS:
            self.failures = 0

    def _delay(self) -> float:
        return DELAYS[min(self.failures, len(DELAYS)) - 1]

    def _start(self, now: float) -> None:
        self.log.mark()
        out = self.root / "log" / f"{self.service.name}.out"
        with out.open("wb") if self.service.output else open(os.devnull, "wb") as file:
            self.process = self._begun(file.fileno() if self.service.output else self.log.handle)
        self.since = now
        self.starts, self.began = self.starts + 1, time.time()
        self.state = State.STARTING
        self.changed(self.process.pid, True)

    def _begun(self, output: int) -> "subprocess.Popen[bytes] | Forked":
        service = self.service
        if service.forked:
            return Forked(service.command, service.environment, CHECKOUT, output, self.log.handle)
        return subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=self.log.handle,
            cwd=CHECKOUT,
            env=dict(service.environment),
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )

    def _ended(self, now: float) -> None:
        assert self.process is not None  # noqa: S101 - for the type checker
        code = self.process.returncode or 0
        self.last_end = describe(code)
        signal_group(self.process.pid, signal.SIGKILL)  # what it left behind, or the next start finds its port taken
        self.changed(self.process.pid, False)
        if self.state is State.STOPPED:
            return
        if self.is_step:
            self._step_ended(code)
            return
        self.failures += 1
        self.since = now
        self.state = State.DELAYED
        if self.failures <= len(DELAYS) or self.failures % QUIET_FAILURES == 0:
            self.console.say(self.service.name, f"ended ({describe(code)}); starts again in {self._delay():g} s")
        if code > 0 and self.failures == 1:
            self.show_tail()

    def _step_ended(self, code: int) -> None:
        self.state = State.DONE if code == 0 else State.FAILED
        self.was_ready = code == 0
        if code != 0:
            self.console.say(self.service.name, f"failed ({describe(code)})")
            self.show_tail()
        elif self.service.output:
            (self.root / "log" / f"{self.service.name}.out").replace(self.service.output)

    def show_tail(self) -> None:
        """The last lines of the log, unless they are on the terminal anyway."""
        if not self.console.verbose:
            for line in self.log.tail(TAIL_LINES):
                self.console.say(self.service.name, f"  | {line}")

    def _is_ready(self, may_ask: bool) -> bool:
        if self.is_step or self.pid is None:
            return False
        if self.service.ready is Ready.POSTGRES:
            return postgres.ready(self.root, self.pid)
        if not all(listens(port) for port in self.service.ports):
            return False
        if self.service.ready is Ready.LISTENS:
            return True
        if not may_ask or time.monotonic() - self.asked < ASK_SECONDS:
            return False
        self.asked = time.monotonic()
        return answers(self.service.health)

    def stop(self) -> None:
        """Ask it to stop; `tick` is called no more."""
        self.state = State.STOPPED
        if self.process and self.process.poll() is None:
            self.process.send_signal(self.service.stop)

    def kill(self) -> None:
        """End it now."""
        if self.process and self.process.returncode is None:
            signal_group(self.process.pid, signal.SIGKILL)

    def wait(self, deadline: float) -> None:
        """Wait for the end after `stop`, and force it at the deadline (time.monotonic())."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.console.say(self.service.name, "did not stop in time; killed")
        signal_group(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.changed(self.process.pid, False)


def listens(port: int) -> bool:
    """Whether a server on loopback accepts connections."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((HOST, port)) == 0


def answers(url: str) -> bool:
    """Whether a GET answers 200."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=HEALTH_SECONDS)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def describe(code: int) -> str:
    """An exit code in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
