"""Runs executions: replays what the journal has, then performs what is pending, one durable outcome at a time."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from sqlite3 import Row

from local.layout import PROJECT, REGION
from local.workflows.calls import Http, Outcome
from local.workflows.effects import Sleep
from local.workflows.journal import Journal
from local.workflows.library import from_json, to_json
from local.workflows.loader import load
from local.workflows.machine import Machine, Pending
from local.workflows.values import WorkflowError, fault
from local.workflows.wire import ACCOUNT, Wire

MAX_RUNNING = 50
PROJECT_NUMBER = "100000000001"


def revision_id(row: Row) -> str:
    """`000001-abc`: the number of the revision and the first digits of its digest."""
    return f"{row['number']:06d}-{row['digest'][:3]}"


class Outside:
    """The world as one execution sees it."""

    def __init__(self, journal: Journal, row: Row, revision: str, env: Mapping[str, str]) -> None:
        self.journal = journal
        self.execution = str(row["id"])
        self.variables = {
            **env,
            "GOOGLE_CLOUD_LOCATION": REGION,
            "GOOGLE_CLOUD_PROJECT_ID": PROJECT,
            "GOOGLE_CLOUD_PROJECT_NUMBER": PROJECT_NUMBER,
            "GOOGLE_CLOUD_SERVICE_ACCOUNT_NAME": ACCOUNT,
            "GOOGLE_CLOUD_WORKFLOW_EXECUTION_ID": self.execution,
            "GOOGLE_CLOUD_WORKFLOW_ID": str(row["workflow"]),
            "GOOGLE_CLOUD_WORKFLOW_REVISION_ID": revision,
        }

    def env(self, name: str) -> str | None:
        """An environment variable of the workflow."""
        return self.variables.get(name)

    def remember(self, key: str, learn: Callable[[], float]) -> float:
        """What the journal has under the key, else what `learn` says, kept."""
        return self.journal.remember(self.execution, key, learn)

    def now(self) -> float:
        """Unix seconds."""
        return time.time()


class Runner:
    """All executions of one process, as tasks of one event loop."""

    def __init__(self, journal: Journal, wire: Wire, env: Mapping[str, str]) -> None:
        self.journal = journal
        self.wire = wire
        self.env = env
        self.slots = asyncio.Semaphore(MAX_RUNNING)
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.machines: dict[str, Machine] = {}

    def resume(self) -> None:
        """Go on with every execution that was active when the process ended."""
        for execution in self.journal.active():
            self.spawn(execution)

    def spawn(self, execution: str) -> None:
        """Run an execution that the journal has."""
        task = asyncio.create_task(self._guarded(execution))
        self.tasks[execution] = task
        task.add_done_callback(lambda _: self._forget(execution))

    def _forget(self, execution: str) -> None:
        self.tasks.pop(execution, None)
        self.machines.pop(execution, None)

    def place(self, execution: str) -> tuple[str, str]:
        """(routine, step) that an execution is at; empty before it starts and after it ends."""
        machine = self.machines.get(execution)
        return machine.world.current if machine is not None else ("", "")

    async def stop(self) -> None:
        """Leave every execution as it is; the journal has what the next start needs."""
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def cancel(self, execution: str) -> bool:
        """End an active execution as CANCELLED; False when it is not active."""
        changed = await asyncio.to_thread(
            self.journal.finish, execution, "CANCELLED", None, None, self.place(execution)
        )
        if changed and execution in self.tasks:
            self.tasks[execution].cancel()
        return changed

    async def _guarded(self, execution: str) -> None:
        """The boundary: a defect of this program fails one execution, as SystemError, and is logged."""
        async with self.slots:
            try:
                await self._run(execution)
            except Exception as error:  # noqa: BLE001 (the one boundary)
                print(f"execution {execution}: {error!r}", file=sys.stderr, flush=True)
                await self._finish(execution, None, fault("SystemError", "the interpreter failed"))

    async def _run(self, execution: str) -> None:
        machine = await asyncio.to_thread(self._machine, execution)
        self.machines[execution] = machine
        asked = await asyncio.to_thread(self._replay, machine, execution)
        running: dict[asyncio.Task[Outcome | None], str] = {}
        try:
            while not machine.finished:
                for key, request in asked:
                    running[asyncio.create_task(self._perform(request))] = key
                asked = []
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    asked += await asyncio.to_thread(self._next, machine, execution, running.pop(task), task.result())
        finally:
            for task in running:
                task.cancel()
        await self._finish(execution, machine, machine.error)

    def _machine(self, execution: str) -> Machine:
        row = self.journal.execution(execution)
        if row is None:
            raise LookupError(execution)
        revision = self.journal.revision(row["workflow"], row["revision"])
        workflow = load(row["workflow"], f"{row['workflow']}.yaml", revision["source"])
        outside = Outside(self.journal, row, revision_id(revision), self.env)
        return Machine(workflow, from_json(row["argument"]), outside)

    def _replay(self, machine: Machine, execution: str) -> list[Pending]:
        """Start, go on with every outcome in the journal, and say what is still to be done."""
        pending = dict(machine.start())
        for key, outcome in self.journal.outcomes(execution):
            pending.pop(key)
            pending.update(machine.complete(key, outcome))
        return list(pending.items())

    def _next(self, machine: Machine, execution: str, key: str, outcome: Outcome | None) -> list[Pending]:
        self.journal.record(execution, key, outcome)
        return machine.complete(key, outcome)

    async def _perform(self, request: Http | Sleep) -> Outcome | None:
        if isinstance(request, Http):
            return await self.wire.send(request)
        await asyncio.sleep(max(0.0, request.until - time.time()))
        return None

    async def _finish(self, execution: str, machine: Machine | None, error: WorkflowError | None) -> None:
        result = None
        if error is None and machine is not None:
            try:
                result = to_json(machine.result)
            except WorkflowError as failure:
                error = failure
        state = "FAILED" if error is not None else "SUCCEEDED"
        described = json.dumps(describe(error)) if error is not None else None
        place = self.place(execution)
        await asyncio.to_thread(self.journal.finish, execution, state, result, described, place)


def describe(error: WorkflowError) -> dict[str, object]:
    """The `error` of an Execution: payload as JSON text, context as people read it, stackTrace by element."""
    payload = json.dumps(error.payload, separators=(",", ":"), default=repr)
    what = error.payload if isinstance(error.payload, str) else error.payload.get("message", payload)
    lines = [f'in step "{step}", routine "{routine}", line: {line}' for step, routine, line, _ in error.trace]
    elements = [
        {"step": step, "routine": routine, "position": {"line": str(line), "column": str(column), "length": "0"}}
        for step, routine, line, column in error.trace
    ]
    context = "\n".join([f"RuntimeError: {what}", *lines])
    return {"payload": payload, "context": context, "stackTrace": {"elements": elements}}
