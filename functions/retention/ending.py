"""The end of every retention period: files of exports, beginnings of audit chains, partitions, rows, and the report.

Each step is a transaction of its own that counts what it removed; a run that dies is told of by the next one.
"""

import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from common import errors, log, storage
from common.http import Call, Json, Table
from common.wire import DatabaseError, sqlstate
from functions.retention import chain, queries
from functions.retention.schemas import Report, Wish

part = Table()
SCHEDULER = "service:scheduler"
EVENTS = "app.audit_events"
ROWS = 5000  # of one table in one transaction: some hundred milliseconds
RUN_SECONDS = 1200.0
SHARE = 0.25  # of a run, at most, for each of the parts that come before the rows: none starves the next
REPORT_SECONDS = 300.0  # Cloud Scheduler waits for 1800 s
TRIES = 3  # to drop a partition of a table that somebody works with


@part.on("POST", "/internal/retention/run", needs=SCHEDULER, body=None, query=Wish, answers=Report)
def run(call: Call) -> Json:
    """Remove what the register's periods have ended for; with `dry_run`, count it and change nothing."""
    if call.query["dry_run"]:
        return _plan()
    end = time.monotonic() + RUN_SECONDS
    ready = _done("partitions", queries.make_partitions)
    expired = _expire_exports(call.request_id, _share())
    _, events = chain.drop_prefixes(_share(), request_id=call.request_id)
    until = _share()
    dropped = [_drop_partitions(table, until) for table in queries.select_partitioned()]
    removed, gone = _remove(end)
    complete = ready and gone and all(dropped)
    _tell(call.request_id, complete, time.monotonic() + REPORT_SECONDS)
    return _report(removed | {EVENTS: events}, expired=expired, complete=complete, dry_run=False)


def _share() -> float:
    return time.monotonic() + RUN_SECONDS * SHARE


def _plan() -> Json:
    removed = {table: queries.count_retirable(table) for table in queries.select_retirable()}
    _, events = chain.drop_prefixes(_share(), dry_run=True)
    expired = len(queries.select_expired_exports())
    return _report(removed | {EVENTS: events}, expired=expired, complete=True, dry_run=True)


def _report(removed: dict[str, int], *, expired: int, complete: bool, dry_run: bool) -> Json:
    log.entry("INFO", "retention", removed=removed, expired_exports=expired, complete=complete, dry_run=dry_run)
    return {"removed": removed, "expired_exports": expired, "complete": complete, "dry_run": dry_run}


def _done(what: str, act: Callable[[], object]) -> bool:
    """Whether it could be done; a table that somebody works with (a lock, a deadlock, a timeout) waits for later.

    So does one whose rows cannot go, which is a defect and logged as one: it keeps no other from its end.
    """
    try:
        act()
    except errors.Problem as problem:
        log.entry("WARNING", "retention waits", what=what, reason=problem.code)
        return False
    except DatabaseError as error:
        log.entry("ERROR", "retention fails", what=what, code=sqlstate(error))
        return False
    return True


def _expire_exports(request_id: str, deadline: float) -> int:
    """Files first, then the mark: a run that dies between them finds no file and marks.

    So does one after an organization's chain was mended that takes no event now: it keeps no other from its end.
    """
    expired = 0
    for export_id, prefix in queries.select_expired_exports():
        if time.monotonic() > deadline:
            break
        storage.delete_all(prefix)
        expired += _done("exports", partial(queries.mark_export_expired, export_id, request_id))
    return expired


def _drop_partitions(table: str, deadline: float) -> bool:
    """Drop what is over as a whole; whether nothing is left that only had to wait for a lock."""
    tries = TRIES
    while tries and time.monotonic() < deadline:
        outcome = queries.retire_partition(table)
        if outcome == "none":
            return True
        tries -= outcome == "busy"
    log.entry("WARNING", "retention waits", what=table, reason="partitions")
    return False


def _remove(deadline: float) -> tuple[dict[str, int], bool]:
    """A batch of each table in turn, so that a long one keeps no other waiting; whether nothing is left."""
    waiting = deque(queries.select_periodical())
    removed = Counter(dict.fromkeys(waiting, 0))
    complete = True
    while waiting and time.monotonic() < deadline:
        table = waiting.popleft()
        before = removed[table]

        def batch(table: str = table) -> None:
            removed[table] += queries.retire(table, ROWS)

        complete &= _done(table, batch)
        if removed[table] - before == ROWS:
            waiting.append(table)
    return dict(removed), complete and not waiting


def _tell(request_id: str, complete: bool, deadline: float) -> None:
    """One event in the chain of each organization that lost rows, each in its own transaction; then the platform's."""
    while time.monotonic() < deadline and queries.report_retired(request_id):
        pass
    queries.report_run(request_id, complete=complete)
