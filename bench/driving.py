"""One driver at work: `python -m bench.driving`, a process of bench.drivers.

Given by `--as` is [driver, claim, sessions] as JSON; orders come as JSON lines, each answered "warm" and measured after
an empty line. asyncpg is imported by its name, because it is in no requirements file.
"""

import argparse
import asyncio
import importlib
import json
import sys
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from common.db import RESET, Database
from common.settings import settings
from common.tokens import Claim, context_token
from common.transaction import AUTHORIZE
from common.wire import _compiled

POOL = 8
WARM_SECONDS = 0.7
APPEND = """
WITH session AS (
    UPDATE app.sessions SET last_seq = last_seq + :count, last_event_at = now(), active_at = now()
    WHERE tenant_id = :tenant_id AND id = :session_id AND closed_at IS NULL AND closes_at > now()
    RETURNING last_seq - :count AS before
)
INSERT INTO app.session_events (tenant_id, session_id, seq, type, data, created_by)
SELECT :tenant_id, :session_id, session.before + event.n, event.type, event.data, :user_id
FROM session, ROWS FROM (json_to_recordset(:events) AS (type text, data json)) WITH ORDINALITY AS event (type, data, n)
RETURNING seq, app.session_event_json(session_events)
"""
READ = """
SELECT app.session_event_json(e) FROM app.session_events e
WHERE tenant_id = :tenant_id AND session_id = :session_id AND seq > :after ORDER BY seq LIMIT 50
"""


def batch(count: int) -> dict[str, Any]:
    """The parameters of an append."""
    return {"count": count, "events": json.dumps([{"type": "tick", "data": {"n": 1, "pad": "x" * 120}}] * count)}


OPERATIONS: dict[str, tuple[str, dict[str, Any], bool]] = {  # statement, parameters, read only
    "append 1 event": (APPEND, batch(1), False),
    "append 20 events": (APPEND, batch(20), False),
    "read 50 events": (READ, {"after": 100}, True),
}


class Threads:
    """What the functions do, in threads beside the event loop."""

    def __init__(self, claim: Claim) -> None:
        self._claim, self._pool = claim, ThreadPoolExecutor(POOL)
        self._database = Database(settings().database_url, POOL)

    async def open(self) -> None:
        """Connections open when they are first asked for."""

    async def run(self, sql: str, parameters: dict[str, Any], read_only: bool) -> int:
        """One transaction; the rows it returned."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, sql, parameters, read_only)

    def _run(self, sql: str, parameters: dict[str, Any], read_only: bool) -> int:
        with self._database.transaction(self._claim, read_only=read_only) as tx:
            return len(tx.rows(sql, **parameters))


class Asyncpg:
    """The same statements by asyncpg, from the event loop itself."""

    def __init__(self, claim: Claim, *, named: bool) -> None:
        self._claim, self._named = claim, named
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        self._known = {"tenant_id": claim.tenant_id, "user_id": claim.principal_id}

    async def open(self) -> None:
        """As many connections as the other has threads, with the settings of common/connecting.py."""
        asyncpg = importlib.import_module("asyncpg")
        options = {"plan_cache_mode": "force_generic_plan", "statement_timeout": "10s", "lock_timeout": "5s"}
        options |= {"TimeZone": "UTC", "application_name": settings().service}
        for _ in range(POOL):
            link = await asyncpg.connect(settings().database_url, ssl=False, server_settings=options)
            self._idle.put_nowait(link)

    async def run(self, sql: str, parameters: dict[str, Any], read_only: bool) -> int:
        """One transaction; the rows it returned."""
        link = await self._idle.get()
        try:
            await link.execute(f"{RESET}; BEGIN READ ONLY" if read_only else f"{RESET}; BEGIN")
            text, arrange = _compiled(AUTHORIZE)
            token = context_token(self._claim, link.get_server_pid())
            if self._named:
                granted = await link.fetchval(text, token)
            else:
                granted = await (await link.prepare(text, name="")).fetchval(token)
            json.loads(granted)
            text, arrange = _compiled(sql)
            rows = await link.fetch(text, *arrange(self._known | parameters))
            await link.execute("COMMIT")
        finally:
            self._idle.put_nowait(link)
        return len(rows)


def worker(driver: str, claim: Claim, sessions: list[str]) -> None:
    """Answer orders, one JSON object a line, until the input ends."""
    loop = importlib.import_module("uvloop").new_event_loop()
    hand = Threads(claim) if driver == "pg8000" else Asyncpg(claim, named="named" in driver)
    loop.run_until_complete(hand.open())
    for line in sys.stdin:
        order = json.loads(line)
        sql, parameters, read_only = OPERATIONS[order["operation"]]

        async def once(turn: int, bound: tuple[str, dict[str, Any], bool] = (sql, parameters, read_only)) -> int:
            known = bound[1] | {"session_id": sessions[turn % len(sessions)]}
            return await hand.run(bound[0], known, bound[2])

        found = loop.run_until_complete(measure(once, order["clients"], order["seconds"]))
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


async def measure(once: Callable[[int], Awaitable[int]], clients: int, seconds: float) -> dict[str, Any]:
    """So many at a time, one after the other each: {"done", "milliseconds": of each, "cpu": seconds, "seconds"}."""
    await _clients(once, clients, WARM_SECONDS)
    sys.stdout.write('"warm"\n')
    sys.stdout.flush()
    sys.stdin.readline()
    began, cpu = time.perf_counter(), time.process_time()
    milliseconds = await _clients(once, clients, seconds)
    return {
        "done": len(milliseconds),
        "milliseconds": milliseconds,
        "cpu": time.process_time() - cpu,
        "seconds": time.perf_counter() - began,
    }


async def _clients(once: Callable[[int], Awaitable[int]], clients: int, seconds: float) -> list[float]:
    milliseconds: list[float] = []
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while (began := time.perf_counter()) < end:
            if not await once(number + clients * len(milliseconds)):
                raise SystemExit("a transaction did nothing")
            milliseconds.append((time.perf_counter() - began) * 1000)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return milliseconds


def main() -> None:
    """Work until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--as", dest="role", type=json.loads, required=True)
    parser.add_argument("--packages", required=True, help="a folder that has asyncpg")
    arguments = parser.parse_args()
    sys.path.append(arguments.packages)
    driver, claim, sessions = arguments.role
    worker(driver, Claim(*claim), sessions)


if __name__ == "__main__":
    main()
