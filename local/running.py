"""One stack from start to stop: its lock, its addresses, and the loop that keeps its services alive."""

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

from local import keys, stack, standing
from local.children import Child, State
from local.console import Console
from local.guardian import Guardian
from local.layout import Layout
from local.locks import AlreadyRunning, lock
from local.ports import Occupied, choose, choose_door, reserve
from local.postgres_home import NotStarted
from local.services import Service, port_names
from local.stack import ANNOUNCEMENT

NAME = "supervisor"
STARTING_SECONDS = 0.1  # between two looks at the services
STEADY_SECONDS = 0.5
STOP_SECONDS = 4.0
LAST_STOP_SECONDS = 15.0
LATE_SECONDS = 60.0
PATIENCE_SECONDS = 10.0
NAMED = 4  # services in one line
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Table = Callable[..., list[Service]]  # (layout, environ, fast=…)


def run(root: Path, table: Table, environ: Mapping[str, str], *, fast: bool = False) -> int:
    """Run the stack of a folder until a signal. Returns the exit code."""
    root.mkdir(parents=True, exist_ok=True)
    root.chmod(0o711 if os.geteuid() == 0 else 0o700)  # PostgreSQL's user walks through, and cannot look around
    try:
        held = lock(root / "supervisor.lock")
    except AlreadyRunning as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        guardian = Guardian(held, root / ANNOUNCEMENT)
        try:
            return Supervisor(root, table, environ, guardian, fast=fast).run()
        finally:
            guardian.dismiss()
    except (Occupied, NotStarted, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:  # before the loop took the signals over
        return 1
    finally:
        os.close(held)


def arrange(root: Path, environ: Mapping[str, str]) -> tuple[Layout, socket.socket]:
    """Choose ports and door, the earlier ones as far as they are free, and write layout.json. Raises Occupied.

    The socket marks the ports as ours until it is closed.
    """
    path = root / "layout.json"
    earlier = Layout.load(path) if path.exists() else Layout(str(root), {}, "")
    block, mark = reserve(earlier.ports.get("metadata:gateway", 0))
    layout = Layout(str(root), choose(port_names(), earlier.ports, environ, block), choose_door(earlier.door))
    layout.save()
    return layout, mark


class Supervisor:
    """The services of one stack. stack.json appears when all are ready, at the latest after a minute."""

    def __init__(
        self, root: Path, table: Table, environ: Mapping[str, str], guardian: Guardian, *, fast: bool = False
    ) -> None:
        self.began = time.monotonic()
        self.began_at = time.time()
        self.ready_seconds: float | None = None
        (root / ANNOUNCEMENT).unlink(missing_ok=True)
        self.root = root
        self.layout, self._mark = arrange(root, environ)
        keys.seed(root, environ)
        keys.introduce_sentry(root, stack.sentry(self.layout, environ))
        keys.mount(root, environ)
        stack.login_passwords(root)
        self.console = Console(verbose=environ.get("VERBOSE", "0") not in ("", "0"))
        services = table(self.layout, environ, fast=fast)
        self.children = {each.name: Child(each, root, self.console, guardian.told) for each in services}
        self.published: dict[str, int] | None = None
        self.greeted = False
        self.told: list[standing.Standing] = []
        self.asked_to_stop = False
        self.patience = self.began + PATIENCE_SECONDS

    def run(self) -> int:
        """Start everything, watch until a signal, stop everything."""
        self.console.say(NAME, f"starting {len(self.children)} services; logs in {self.root / 'log'}")
        with Wake(self._on_signal) as wake:
            while not self.asked_to_stop and not self._broken():
                self._tick()
                wake.wait(STEADY_SECONDS if self._all_ready() else STARTING_SECONDS)
            broken = self._broken()
            self._stop()
        return 1 if broken else 0

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.asked_to_stop:
            for child in self.children.values():
                child.kill()
        self.asked_to_stop = True

    def _broken(self) -> bool:
        return any(child.state is State.FAILED and child.service.required for child in self.children.values())

    def _all_ready(self) -> bool:
        settled = (State.READY, State.DONE, State.FAILED)
        return all(child.state in settled for child in self.children.values())

    def _tick(self) -> None:
        asking = [child for child in self.children.values() if child.service.health]
        rest_ready = all(child.was_ready for child in self.children.values() if not (child.is_step or child in asking))
        for child in self.children.values():
            needs = [self.children[name] for name in child.service.needs if name in self.children]
            child.tick(may_start=all(need.was_ready for need in needs), may_ask=rest_ready)
            self.console.follow(child.log)
        self._tell()
        if not self.greeted and self._all_ready():
            self.greeted, self.published = True, None  # what was late, the demo account say, is told now
            self._publish()
            self._greet()
        elif self.published is not None:
            self._publish()
        elif time.monotonic() > self.patience:
            late = [name for name, child in self.children.items() if not child.was_ready]
            first = ", ".join(late[:NAMED]) + (f" and {len(late) - NAMED} more" if len(late) > NAMED else "")
            self.console.say(
                NAME, f"{len(self.children) - len(late)} of {len(self.children)} ready; waiting for {first}"
            )
            self.patience += PATIENCE_SECONDS
            if time.monotonic() - self.began > LATE_SECONDS:
                self._publish()

    def _tell(self) -> None:
        """Write services.json when something is new."""
        present = [child.standing() for child in self.children.values()]
        settled = self.ready_seconds is None and self._all_ready()
        if settled:
            self.ready_seconds = round(time.monotonic() - self.began, 1)
        if settled or present != self.told:
            standing.tell(self.root, self.began_at, self.ready_seconds, present)
            self.told = present

    def _publish(self) -> None:
        """Write stack.json when a process id is new; the keys beside it follow the secrets."""
        pids = {NAME: os.getpid()}
        pids |= {name: child.pid for name, child in self.children.items() if child.pid and not child.is_step}
        if pids != self.published:
            stack.publish(self.layout, pids)
            self.published = pids
        else:
            keys.context_keys(self.root)

    def _greet(self) -> None:
        """Where everything is, for the person at the terminal; a stack may lack some of it."""
        seconds = time.monotonic() - self.began
        self.console.say(NAME, f"ready after {seconds:.1f} s; Ctrl-C stops it, the data stay in {self.root}")
        for label, url in self._addresses().items():
            self.console.say("", f"{label:<6} {url}")
        if (self.root / stack.DEMO).exists():
            self.console.say(
                "", f"log in as the demo account: its e-mail and password are in {self.root / ANNOUNCEMENT}"
            )

    def _addresses(self) -> dict[str, str]:
        shown = {"API": ("gateway", ""), "docs": ("auth", "/docs"), "mails": ("mail", ""), "status": ("status", "")}
        origin = {"auth": "gateway"}  # whose pages stand at another's address
        return {
            label: self.layout.url(origin.get(name, name)) + path
            for label, (name, path) in shown.items()
            if name in self.children
        }

    def _stop(self) -> None:
        self.console.say(NAME, "stopping")
        for name in (ANNOUNCEMENT, standing.NAME):
            (self.root / name).unlink(missing_ok=True)
        for last, seconds in ((False, STOP_SECONDS), (True, LAST_STOP_SECONDS)):
            group = [child for child in self.children.values() if child.service.last is last]
            for child in group:
                child.stop()
            deadline = time.monotonic() + seconds
            for child in group:
                child.wait(deadline)
                self.console.follow(child.log)
        self.console.say(NAME, "stopped")


class Wake:
    """Sleeps that end early when a child ends or a signal comes."""

    def __init__(self, on_stop: Callable[[int, FrameType | None], None]) -> None:
        self.on_stop = on_stop

    def __enter__(self) -> "Wake":
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self.writer.setblocking(False)
        signal.set_wakeup_fd(self.writer.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        for number in STOPPING:
            signal.signal(number, self.on_stop)
        return self

    def wait(self, seconds: float) -> None:
        """Return after this time, or at the next signal."""
        if select.select([self.reader], [], [], seconds)[0]:
            self.reader.recv(4096)

    def __exit__(self, *exception: object) -> None:
        signal.set_wakeup_fd(-1)
        for number in (*STOPPING, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self.reader.close()
        self.writer.close()
