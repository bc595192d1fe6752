"""The daily anchors of the audit chains: a signed head of each, where not even an administrator can take it back.

Before a chain is anchored it has to contain the newest anchor, begin where an anchor says, and hold from there to its
head: so each event is looked at once. What a run does not reach is first in the next one; two runs at once, or one that
dies between bucket and database, make an anchor twice, which changes nothing. No network inside a transaction.
"""

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from common import anchors, certificate, errors, log
from common.audit import Point, base_holds
from common.db import database
from common.http import Call, Json, Table
from functions.retention import chain
from functions.retention import chain_queries as queries
from functions.retention.chain_queries import Chain
from functions.retention.schemas import Anchored

part = Table()
SCHEDULER = "service:scheduler"
RUN_SECONDS = 1200.0
IDLE = timedelta(days=30)  # after which a chain that rests is anchored again: anchors age out of the bucket
CHUNK = 64  # organizations at once
THREADS = 8
Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Case:
    """A chain to anchor, and what the bucket says of it."""

    chain: Chain
    newest: anchors.Anchor | None
    proven: bool


@part.on("POST", "/internal/audit/anchor", needs=SCHEDULER, body=None, answers=Anchored)
def anchor(call: Call) -> Json:
    """Anchor every chain that has moved, or rests since long; tell of those that do not hold, which get no anchor."""
    deadline = time.monotonic() + RUN_SECONDS
    due = queries.select_due(IDLE)
    anchored = broken = left = 0
    with ThreadPoolExecutor(THREADS) as pool:
        while due and time.monotonic() < deadline:
            chunk, due = due[:CHUNK], due[CHUNK:]
            try:
                done = _anchor(chunk, pool, call.request_id)
            except anchors.Unreachable:
                pool.shutdown(wait=False, cancel_futures=True)
                raise errors.Problem("unavailable") from None  # Cloud Scheduler tries again; what is anchored stays so
            anchored, broken, left = anchored + len(done.points), broken + done.broken, left + done.left
            due = done.unfinished + due
    left += len(due)
    log.entry("INFO", "anchors", anchored=anchored, broken=broken, left=left)
    return {"anchored": anchored, "broken": broken, "left": left}


@dataclass(frozen=True)
class Done:
    """What became of a chunk: the anchored points, chains that go on behind theirs, and numbers of the others."""

    points: dict[str, Point]
    unfinished: list[str]
    broken: int
    left: int


def _anchor(organizations: list[str], pool: ThreadPoolExecutor, request_id: str) -> Done:
    """The bucket is read before the database: so no anchor can be newer than the head that is compared with it."""
    known = dict(zip(organizations, _all(pool, anchors.known, organizations), strict=True))
    chains = queries.select_chains(organizations)
    cases = list(_all(pool, lambda found: _case(found, known[found.organization_id]), chains.values()))
    points: dict[str, Point] = {}
    broken = left = 0
    for case in cases:
        reached = _verified(case)
        if reached.broken is None:
            points[case.chain.organization_id] = reached.point
        elif _still(case.chain):
            broken += 1
            chain.alarm(case.chain.organization_id, reached.broken, request_id)
        else:
            left += 1
    now = datetime.now(UTC)
    if points:
        database().settle()  # the bucket remembers a head for ever: it must not be one that a crash takes back
    _all(pool, lambda item: anchors.write(item[0], chains[item[0]].base, item[1], now), points.items())
    for organization_id, point in points.items():
        queries.mark_anchored(organization_id, chains[organization_id].base.seq, point.seq)
    unfinished = [name for name, point in points.items() if point.seq < chains[name].head.seq]
    return Done(points, unfinished, broken, left)


def _all(pool: ThreadPoolExecutor, act: Callable[[Given], Made], given: Iterable[Given]) -> list[Made]:
    return list(pool.map(act, given))


def _case(found: Chain, known: anchors.Known) -> Case:
    """Whether the chain may begin where it does: at its origin, or where a checkpoint and an anchor of ours say so."""
    keys = certificate.public_keys(certificate.AUDIT_RING)
    signed = base_holds(found.base, found.checkpoint, found.organization_id, keys)
    proven = signed and (known.proves(found.base) or anchors.proves(found.organization_id, *found.base))
    return Case(found, known.newest, proven)


def _verified(case: Case) -> chain.Walked:
    """How far the chain holds, from the newest anchor on; a stretch at most."""
    found, newest = case.chain, case.newest
    if not case.proven:
        return chain.Walked(found.base, max(found.base.seq, 1))
    start = found.base
    if newest is not None and newest.head.seq >= found.base.seq:
        start = newest.head
        if start.seq > found.head.seq:
            return chain.Walked(start, found.head.seq + 1)
        contained = start == found.base or chain.stands(found.organization_id, start)
        if not contained:
            return chain.Walked(start, start.seq)
    walked = chain.walk(found.organization_id, start, min(found.head.seq, start.seq + chain.STRETCH))
    at_the_head = walked.point.seq == found.head.seq
    if walked.broken is None and at_the_head and walked.point != found.head:
        return chain.Walked(walked.point, found.head.seq)
    return walked


def _still(found: Chain) -> bool:
    """Whether the chain begins where it did: else retention has moved it meanwhile, or its organization goes."""
    now = queries.select_chains([found.organization_id]).get(found.organization_id)
    return now is not None and now.base == found.base
