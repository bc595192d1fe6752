"""Transactions with and without the signed context and row-level security: a process of bench.parts.isolation.

It has the environment of the projects service. Reads one JSON object from its input: {"free": URL of a role that no
policy holds for, "tenants", "transactions"}; answers with one: operation → side → {"transaction"}, its median
microseconds. The sides take turns, transaction by transaction.
"""

import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bench.harness.targets import identifier
from common import db
from common.connecting import connect
from common.db import Database, Tx
from common.settings import settings
from common.tokens import Claim
from common.transaction import Reading
from common.wire import Step
from functions.projects import queries

WARM = 50  # transactions of each side
Query = Callable[[Tx, str], Any]
OPERATIONS: dict[str, Query] = {
    "list": lambda tx, _: queries.list_projects(tx, limit=50, after=None, status=None, q=None),
    "get": queries.select_project,
}


class Sealed:
    """As every function reads what one statement answers."""

    def __init__(self) -> None:
        self._database = Database(settings().database_url, 1)

    @contextmanager
    def transaction(self, claim: Claim) -> Iterator[Tx]:
        """BEGIN, reset, app.authorize, the statement, COMMIT."""
        with self._database.reading(claim, lambda _tx: None) as tx:
            yield tx


class Free:
    """In one flight too, without app.authorize, for a role that row-level security does not hold for."""

    def __init__(self, url: str) -> None:
        self._connection = connect(url)

    @contextmanager
    def transaction(self, claim: Claim) -> Iterator[Tx]:
        """BEGIN, reset, the statement, COMMIT."""

        def fly(*steps: Step) -> list[list[list[Any]]]:
            found = self._connection.flight([db.CHECKOUT_READ_ONLY, *db.RESET, *steps, db.COMMIT])
            return [[["{}"]], *found[3:-1]]

        yield Reading(claim, fly, lambda _tx: None)


def measure(order: dict[str, Any]) -> dict[str, dict[str, dict[str, float]]]:
    """Both operations."""
    sides: dict[str, Sealed | Free] = {"with": Sealed(), "without": Free(order["free"])}
    return {name: _compare(sides, query, order) for name, query in OPERATIONS.items()}


def _compare(sides: dict[str, Sealed | Free], query: Query, order: dict[str, Any]) -> dict[str, dict[str, float]]:
    whole: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(WARM + order["transactions"]):
        number = random.randint(1, order["tenants"])
        claim = Claim("u", *(identifier(f"{label}{number}") for label in ("tenant", "user", "session-user")))
        project = identifier(f"project{number}/1")
        for name, side in sides.items():
            began = time.perf_counter()
            with side.transaction(claim) as tx:
                query(tx, project)
            whole[name].append(time.perf_counter() - began)
    return {name: {"transaction": _middle(whole[name][WARM:])} for name in sides}


def _middle(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e6


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(json.loads(sys.stdin.readline()))) + "\n")
