"""Looks at the stack while somebody watches the page, and not a moment longer."""

import asyncio
import sys
import time
import traceback
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from local.layout import Layout
from local.status import neighbours, queues
from local.status.records import Records
from local.status.services import Services
from local.status.tail import Tail
from local.status.traffic import Traffic
from local.status.troubles import Troubles
from local.status.verdict import verdict

TOGETHER_SECONDS = 0.1  # changes that come within it are sent together
Reader = Callable[[], dict[str, Any]]


class Logs:
    """What the log files say, in two sections."""

    def __init__(self, layout: Layout) -> None:
        self.tail = Tail(layout.path("log"))
        self.traffic, self.troubles = Traffic(), Troubles()

    def read(self) -> dict[str, Any]:
        """Requests and troubles."""
        now = time.time()
        for log, line in self.tail.lines():
            self.traffic.take(log, line)
            self.troubles.take(log, line, now)
        return {"traffic": self.traffic.shown(now), "troubles": self.troubles.shown()}


class Watcher:
    """The sections of the page; each reader gives some, in a thread, again and again. The last look is kept.

    The section `blind` names the readers that failed at their last look, and by what.
    """

    def __init__(self, layout: Layout) -> None:
        self.records = Records(layout)
        services, logs = Services(layout), Logs(layout)
        self.readers: dict[str, tuple[float, Reader]] = {
            "services": (1.0, lambda: {"services": services.read()}),
            "logs": (1.0, logs.read),
            "queues": (1.0, lambda: {"queues": _queues(layout)}),
            "executions": (1.0, lambda: {"executions": queues.executions(layout)}),
            "records": (1.5, lambda: {"records": self.records.read()}),
            "alerts": (2.0, lambda: {"alerts": neighbours.alerts(layout)}),
            "traces": (2.0, lambda: {"traces": neighbours.traces(layout)}),
            "errors": (2.0, lambda: {"errors": neighbours.errors(layout)}),
        }
        self.locks = {name: asyncio.Lock() for name in self.readers}
        self.sections: dict[str, Any] = {}
        self.changed: dict[str, int] = {}  # section: the number of its last change
        self.number = 0
        self.news = asyncio.Condition()
        self.watching = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def look(self) -> dict[str, Any]:
        """All sections as they are now."""
        await asyncio.gather(*(self._read(name) for name in self.readers))
        return self.sections

    async def _read(self, name: str) -> None:
        """One look, which runs to its end even when nobody waits for it any more: a thread cannot be called back."""
        lock = self.locks[name]
        await lock.acquire()
        looking = asyncio.create_task(asyncio.to_thread(self._look, name))
        looking.add_done_callback(lambda _: lock.release())
        found, problem = await asyncio.shield(looking)
        blind = {each: what for each, what in self._blind().items() if each != name}
        found["blind"] = blind | ({name: problem} if problem else {})
        found["verdict"] = verdict(self.sections | found, time.time())
        fresh = [name for name, value in found.items() if name not in self.sections or self.sections[name] != value]
        if fresh:
            async with self.news:
                self.number += 1
                self.sections |= found
                self.changed |= dict.fromkeys(fresh, self.number)
                self.news.notify_all()

    def _blind(self) -> dict[str, str]:
        blind: dict[str, str] = self.sections.get("blind", {})
        return blind

    def _look(self, name: str) -> tuple[dict[str, Any], str]:
        """What a reader gives, or nothing new and why; in a thread."""
        try:
            return self.readers[name][1](), ""
        except Exception as error:  # noqa: BLE001 - what one reader meets must not take the others from the page
            problem = type(error).__name__
            if self._blind().get(name) != problem:
                sys.stderr.write(traceback.format_exc())
            return {}, problem

    async def _keep_reading(self, name: str) -> None:
        while True:
            await self._read(name)
            await asyncio.sleep(self.readers[name][0])

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """While it lasts, the sections are kept fresh."""
        self.watching += 1
        if self.watching == 1:
            self.tasks = [asyncio.create_task(self._keep_reading(name)) for name in self.readers]
        try:
            yield
        finally:
            self.watching -= 1
            if not self.watching:
                for task in self.tasks:
                    task.cancel()

    async def changes(self, quiet_seconds: float) -> AsyncGenerator[dict[str, Any], None]:
        """What is new since the last one, at first all; nothing at all after `quiet_seconds` without news."""
        seen = 0
        while True:
            async with self.news:
                try:
                    await asyncio.wait_for(self.news.wait_for(lambda: self.number > seen), quiet_seconds)  # noqa: B023
                except TimeoutError:
                    yield {}
                    continue
            await asyncio.sleep(TOGETHER_SECONDS)
            fresh = {name: self.sections[name] for name, number in self.changed.items() if number > seen}
            seen = self.number
            yield fresh


def _queues(layout: Layout) -> dict[str, Any]:
    return {
        "tasks": queues.queues(layout, time.time()),
        "messages": queues.messages(layout),
        "schedule": queues.schedule(layout),
        "mails": queues.mails(layout),
        "texts": queues.texts(layout),
    }
