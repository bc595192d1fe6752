"""Writers that create projects until the time is over: `python -m bench.writers`, a process of bench.audit.

Reads one JSON object a line from its input and answers each with one line; an empty line ends it.
{"mode": "sql" | "http", "url": of the API, "seconds", "chained", "writers": [[person, …], …]}
where the people of a writer take turns, and a person is [tenant, account, log-in session, token]
→ {"writes": that began and ended in time, "milliseconds": of each of these, "done": all, "refused", "cpu": seconds}
"""

import http.client
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from urllib.parse import urlsplit

from common import transaction
from common.db import Database
from common.errors import Problem
from common.settings import settings
from common.tokens import Claim
from functions.projects import queries

CHAINED = transaction.APPEND_AUDIT, transaction.COMMIT_CHAINED
WITHOUT = "SELECT app.append_audit(:events)", (transaction.COMMIT,)  # nobody waits for them: they need not be early
WARM_SECONDS = 1.0
CREATED = 201
PERSONAL = {"ip": "203.0.113.7", "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}


class Direct:
    """What the function does between the request and its answer, without HTTP: three flights to PostgreSQL."""

    def __init__(self, database: Database, people: list[list[str]]) -> None:
        self._database = database
        self._claims = cycle([Claim("u", *person[:3]) for person in people])

    def write(self) -> bool:
        """One project with its event; whether it was created."""
        try:
            with self._database.transaction(next(self._claims)) as tx:
                project = queries.insert_project(tx, name=str(uuid.uuid4()), description="", status="active")
                tx.audit("project.created", "project", project.id, request_id=str(uuid.uuid4()), personal=PERSONAL)
        except Problem:
            return False
        return True


class Client:
    """One connection to the API."""

    def __init__(self, url: str, people: list[list[str]]) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        tokens = [{"Authorization": f"Bearer {person[3]}", "Content-Type": "application/json"} for person in people]
        self._headers = cycle(tokens)

    def write(self) -> bool:
        """One project by POST; whether it was created."""
        self._connection.request("POST", "/v1/projects", json.dumps({"name": str(uuid.uuid4())}), next(self._headers))
        answer = self._connection.getresponse()
        answer.read()
        return answer.status == CREATED


@dataclass
class Tally:
    """What the writers of a process have done."""

    milliseconds: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def work(self, write: Callable[[], bool], begin: float, end: float) -> None:
        """Write until `end`; what began before `begin` is to warm up."""
        while (began := time.perf_counter()) < end:
            done, now = write(), time.perf_counter()
            (self.done if done else self.refused).append(now)
            if done and began >= begin and now <= end:
                self.milliseconds.append((now - began) * 1000)


def run(order: dict[str, Any], database: Database) -> dict[str, Any]:
    """All writers of this process at once."""
    transaction.APPEND_AUDIT, transaction.COMMIT_CHAINED = CHAINED if order["chained"] else WITHOUT
    tally, cpu = Tally(), time.process_time()
    begin = time.perf_counter() + WARM_SECONDS
    end = begin + order["seconds"]
    threads = []
    for people in order["writers"]:
        hand = Direct(database, people) if order["mode"] == "sql" else Client(order["url"], people)
        threads.append(threading.Thread(target=tally.work, args=(hand.write, begin, end)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "writes": len(tally.milliseconds),
        "milliseconds": tally.milliseconds,
        "done": len(tally.done),
        "refused": len(tally.refused),
        "cpu": time.process_time() - cpu,
    }


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
