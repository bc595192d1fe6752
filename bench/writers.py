"""Writers that create projects until the time is over: `python -m bench.writers`, a process of bench.audit.

Reads one JSON object a line from its input and answers each with one line; an empty line ends it.
{"mode": "sql" | "http", "url": of the API, "seconds", "writers": [[tenant, account, log-in session, token], …]}
→ {"writes", "refused", "cpu": seconds, "milliseconds": [of each write that ended in time]}
"""

import http.client
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from common.db import Database
from common.errors import Problem
from common.settings import settings
from common.tokens import Claim
from functions.projects import queries

WARM_SECONDS = 1.0
CREATED = 201
PERSONAL = {"ip": "203.0.113.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


class Direct:
    """What the function does between the request and its answer, without HTTP: three flights to PostgreSQL."""

    def __init__(self, database: Database, writer: list[str]) -> None:
        tenant, account, session, _ = writer
        self._database, self._claim = database, Claim("u", tenant, account, session)

    def write(self) -> bool:
        """One project with its event; whether it was created."""
        try:
            with self._database.transaction(self._claim) as tx:
                project = queries.insert_project(tx, name=str(uuid.uuid4()), description="", status="active")
                tx.audit("project.created", "project", project.id, request_id=str(uuid.uuid4()), personal=PERSONAL)
        except Problem:
            return False
        return True


class Client:
    """One connection to the API."""

    def __init__(self, url: str, writer: list[str]) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        self._headers = {"Authorization": f"Bearer {writer[3]}", "Content-Type": "application/json"}

    def write(self) -> bool:
        """One project by POST; whether it was created."""
        self._connection.request("POST", "/v1/projects", json.dumps({"name": str(uuid.uuid4())}), self._headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status == CREATED


def work(write: Callable[[], bool], begin: float, end: float, took: list[float], refused: list[float]) -> None:
    """Write until `end`; what began before `begin` is to warm up and not counted."""
    while (began := time.perf_counter()) < end:
        done, now = write(), time.perf_counter()
        if not done:
            refused.append(now)
        elif began >= begin and now <= end:
            took.append((now - began) * 1000)


def run(order: dict[str, Any], database: Database) -> dict[str, Any]:
    """All writers of this process at once."""
    took: list[float] = []
    refused: list[float] = []
    begin = time.perf_counter() + WARM_SECONDS
    end = begin + order["seconds"]
    threads = []
    for writer in order["writers"]:
        hand = Direct(database, writer) if order["mode"] == "sql" else Client(order["url"], writer)
        threads.append(threading.Thread(target=work, args=(hand.write, begin, end, took, refused)))
    for thread in threads:
        thread.start()
    time.sleep(max(0.0, begin - time.perf_counter()))
    cpu = time.process_time()
    time.sleep(max(0.0, end - time.perf_counter()))
    cpu = time.process_time() - cpu
    for thread in threads:
        thread.join()
    return {"writes": len(took), "refused": len(refused), "cpu": cpu, "milliseconds": took}


def main() -> None:
    """Answer orders until the input ends."""
    database = Database(settings().database_url, settings().database_pool)
    for line in sys.stdin:
        if not line.strip():
            break
        sys.stdout.write(json.dumps(run(json.loads(line), database)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
