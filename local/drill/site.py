"""A durable stack that can be started, lost in the middle of its work, and started again."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests

from local import postgres
from local.demo.client import TooLate, eventually
from local.demo.throwaway import read
from local.identity import Issuer
from local.layout import PROJECT, REGION, Layout, service_account
from local.locks import AlreadyRunning, lock
from local.processes import die_with_parent
from local.services import CHECKOUT

READY_SECONDS = 300
STOP_SECONDS = 40
JOB_SECONDS = 120
SETTINGS = {
    "DELETION_GRACE_USER_SECONDS": "0",
    "DELETION_GRACE_ORGANIZATION_SECONDS": "0",
    **{f"RATE_{name}": "1000000/minute" for name in ("ANONYMOUS", "USER", "IP", "ORGANIZATION")},
}


class Site:
    """`make run` under a folder of its own. Raises TooLate when it does not come up."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def layout(self) -> Layout:
        """Its ports and paths."""
        return Layout.load(self.root / "layout.json")

    @property
    def stack(self) -> dict[str, Any]:
        """Its stack.json, as it is now."""
        return read(self.root / "stack.json")

    def start(self) -> dict[str, Any]:
        """Start everything and wait until the gateway says that it is healthy; stack.json."""
        self.root.mkdir(parents=True, exist_ok=True)
        log = self.root.with_name(f"{self.root.name}.log")
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.supervisor", "--root", str(self.root)],
                cwd=CHECKOUT,
                env={**os.environ, **SETTINGS},
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        eventually(lambda: self._is_up(log), READY_SECONDS, "the stack's start")
        return self.stack

    def _is_up(self, log: Path) -> bool:
        if self._process is not None and self._process.poll() is not None:
            raise TooLate("the stack ended:\n" + log.read_text()[-3000:])
        return (self.root / "stack.json").exists()

    def stop(self) -> None:
        """Stop everything in order; harmless when nothing runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(STOP_SECONDS)

    def lose(self) -> float:
        """Kill the database, delete its files, kill everything else; when it happened (time.time())."""
        pids = self.stack["pids"]
        os.kill(pids["supervisor"], signal.SIGSTOP)  # it would start an empty database at once
        os.kill(pids["postgres"], signal.SIGKILL)
        moment = time.time()
        postgres.clear_leftovers(self.root)
        shutil.rmtree(postgres.data_dir(self.root))
        os.kill(pids["supervisor"], signal.SIGKILL)
        if self._process is not None:
            self._process.wait(STOP_SECONDS)
        eventually(self._is_free, STOP_SECONDS, "the end of what the stack had started")
        return moment

    def _is_free(self) -> bool:
        try:
            held = lock(self.root / "supervisor.lock")
        except AlreadyRunning:
            return False
        os.close(held)
        return True

    def run_job(self, name: str) -> None:
        """Let Cloud Scheduler run one of its jobs now."""
        url = f"{self.layout.url('scheduler')}/v1/projects/{PROJECT}/locations/{REGION}/jobs/{name}:run"
        token = Issuer(self.layout.root).access_token(service_account("tester"))
        headers = {"Authorization": f"Bearer {token}"}
        requests.post(url, json={}, headers=headers, timeout=JOB_SECONDS).raise_for_status()

    def command(self, module: str, *arguments: str, draining: bool = False, seconds: float = 1800) -> tuple[int, str]:
        """Exit code and output of a command of ours against this stack; `draining` sends the outbox meanwhile."""
        with subprocess.Popen(
            [sys.executable, "-m", module, "--root", str(self.root), *arguments],
            cwd=CHECKOUT,
            env=dict(os.environ),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as process:
            deadline = time.monotonic() + seconds
            try:
                while draining and process.poll() is None and time.monotonic() < deadline:
                    self.run_job("outbox-drain")
                    time.sleep(0.5)
                said, _ = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
            finally:
                process.kill()  # it has ended, or is too late
            return process.returncode, said

    def forget(self) -> None:
        """Delete all of it."""
        postgres.forget(self.root)
        shutil.rmtree(self.root, ignore_errors=True)
