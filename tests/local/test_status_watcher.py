"""How the status page looks at a stack: together, one look of a kind at a time, and past what cannot be read."""

import asyncio
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from local.layout import Layout
from local.standing import Standing, told
from local.status.services import Services
from local.status.watcher import Watcher
from tests.local.status_stack import services, standing


def test_what_nobody_can_read_is_no_stack(layout: Layout) -> None:
    """A file of another version, cut off, or no object: as if there was none."""
    file = Path(layout.root, "services.json")
    services(layout, standing("auth"))
    whole = file.read_text()
    for text in (
        whole[:-9],
        "null",
        '{"began": 1}',
        whole.replace('"health"', '"healthy"'),
        whole.replace("[", "3", 1),
    ):
        file.write_text(text)
        assert told(Path(layout.root)) is None, text


def test_services_are_asked_together(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, a stack in which nobody answers would be told of a minute late."""
    names = [f"service-{number}" for number in range(5)]
    together = threading.Barrier(len(names))

    def answer(_: Standing) -> dict[str, Any]:
        together.wait(10)
        return {"answers": True, "milliseconds": 1, "checks": {}}

    monkeypatch.setattr("local.status.services.ask", answer)
    services(layout, *(standing(name) for name in names), standing("step", "done", step=True))
    looks = Services(layout)

    for _ in range(2):  # the second time nobody is asked: the barrier would hold whoever came alone
        rows = {row["name"]: row["health"]["answers"] for row in looks.read()["services"]}
        assert rows == {**dict.fromkeys(names, True), "step": None}

    services(layout, *(standing(name, "delayed") for name in names))
    assert {row["health"]["answers"] for row in looks.read()["services"]} == {None}
    services(layout, *(standing(name) for name in names))
    assert {row["health"]["answers"] for row in looks.read()["services"]} == {True}, "asked anew"
    assert together.n_waiting == 0


def looking(layout: Layout, **readers: Any) -> Watcher:
    watcher = Watcher(layout)
    watcher.readers = {name: (0.001, reader) for name, reader in readers.items()}
    return watcher


def test_nothing_is_looked_at_while_nobody_watches(layout: Layout) -> None:
    looks = 0

    def look() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        return {"looks": looks}

    async def watch() -> tuple[int, int]:
        watcher = looking(layout, queues=look)
        await asyncio.sleep(0.02)
        before = looks
        async with watcher.watched(), watcher.watched():
            changes = watcher.changes(5)
            assert (await anext(changes))["looks"] >= 1
            await anext(changes)
            await changes.aclose()
        await asyncio.wait(watcher.tasks, timeout=1)
        async with watcher.locks["queues"]:  # a look that was under way has ended
            during = looks
        await asyncio.sleep(0.02)
        return before, looks - during

    assert asyncio.run(watch()) == (0, 0)


def test_what_cannot_be_read_is_said_and_the_rest_goes_on(layout: Layout) -> None:
    broken = [KeyError("somebody"), sqlite3.OperationalError("no such table")]

    def executions() -> dict[str, Any]:
        if broken:
            raise broken.pop(0)
        return {"executions": ["one"]}

    async def look() -> list[dict[str, Any]]:
        watcher = looking(layout, executions=executions, queues=lambda: {"queues": {"tasks": [], "left": len(broken)}})
        return [dict(await watcher.look()) for _ in range(3)]

    seen = asyncio.run(look())

    assert [each["blind"] for each in seen] == [{"executions": "KeyError"}, {"executions": "OperationalError"}, {}]
    assert [reason["section"] for reason in seen[1]["verdict"]["reasons"]] == ["jobs"]
    assert "somebody" not in str(seen)
    assert (seen[2]["executions"], seen[2]["verdict"]["reasons"]) == (["one"], [])
    assert all("left" in each["queues"] for each in seen)


def test_nobody_reads_twice_at_once_however_often_people_come_and_go(layout: Layout) -> None:
    """A connection and a place in a log belong to one look at a time; a thread that nobody awaits goes on."""
    inside, most, go = 0, 0, threading.Event()

    def look() -> dict[str, Any]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        go.wait(10)
        inside -= 1
        return {"queues": {}}

    async def watch() -> None:
        watcher = looking(layout, queues=look)
        for _ in range(3):
            async with watcher.watched():
                while not inside:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)
        go.set()
        await watcher.look()

    asyncio.run(watch())

    assert most == 1
