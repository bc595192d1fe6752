"""The audit chains: walking their links, and dropping what is over behind a signed checkpoint.

Events go from the chain's beginning, up to one that an anchor in the locked bucket proves: so whoever verifies what is
left can tell retention from a cut. Steps, each of which may be the last one of a run: base and checkpoint move in one
statement, then rows go in batches. Rows up to the base are no part of the chain any more, whether they stand or not.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from common import anchors, certificate, log
from common.audit import CHECKPOINT, Point, event_hash
from functions.retention import chain_queries as queries
from functions.retention.chain_queries import Chain

PAGE = 2000  # events in memory at once
STRETCH = 100_000  # events between two anchors of one run at most, and what retention drops at once
BATCH = 5000  # rows deleted in one transaction


@dataclass(frozen=True)
class Walked:
    """How far a chain holds, and the first seq that does not, None when it does to where the walk ended."""

    point: Point
    broken: int | None = None


def walk(organization_id: str, start: Point, end: int) -> Walked:
    """Follow the links from a point that is known to the event `end`, flat in memory."""
    point = start
    while point.seq < end:
        links = queries.select_links(organization_id, point.seq, min(PAGE, end - point.seq))
        for link in links:
            fits = (link.get("seq"), link.get("prev_hash")) == (point.seq + 1, point.hash)
            if not fits or link["hash"] != event_hash(link):
                return Walked(point, point.seq + 1)
            point = Point(link["seq"], link["hash"])
        if not links:
            return Walked(point, point.seq + 1)
    return Walked(point)


def stands(organization_id: str, point: Point) -> bool:
    """Whether the event of a point stands in the chain and has the hash that it says and the point says."""
    links = queries.select_links(organization_id, point.seq - 1, 1)
    return bool(links and links[0]) and (links[0]["seq"], links[0]["hash"], event_hash(links[0])) == (
        *point,
        point.hash,
    )


def alarm(organization_id: str, seq: int, request_id: str) -> None:
    """Tell that a chain does not hold: whoever reads the logs, and the platform's own chain."""
    log.security("CRITICAL", "an audit chain is broken", organization_id=organization_id, seq=seq)
    queries.report_broken(organization_id, seq, request_id)


def drop_prefixes(deadline: float, dry_run: bool = False, request_id: str = "retention") -> tuple[int, int]:
    """Drop the events that are over, until a time.monotonic(); how many organizations and events it was or would be.

    What is not done by then, or while the bucket of the anchors is silent, is done by the next run.
    """
    organizations = events = 0
    for organization_id, first in queries.select_old():
        if time.monotonic() > deadline:
            break
        try:
            gone = sum(_drop(organization_id, first, deadline, dry_run, request_id))
        except anchors.Unreachable:
            break
        organizations += gone > 0
        events += gone
    return organizations, events


def _drop(organization_id: str, first: int, deadline: float, dry_run: bool, request_id: str) -> Iterator[int]:
    """Events that went, stretch by stretch; first what an earlier run has left standing."""
    chain = queries.select_chains([organization_id]).get(organization_id)
    if chain is None:
        return
    yield _delete(organization_id, first - 1, chain.base.seq, deadline, dry_run)
    while time.monotonic() < deadline:
        base = _next_base(chain, request_id)
        if base is None or not (dry_run or _move(chain, base)):
            return
        yield _delete(organization_id, chain.base.seq, base.seq, deadline, dry_run)
        chain = Chain(organization_id, base, chain.head, None)


def _delete(organization_id: str, after: int, base: int, deadline: float, dry_run: bool) -> int:
    """Delete the events in (after, base], or count them."""
    gone = max(base - after, 0) if dry_run else 0
    while after < base and time.monotonic() < deadline and not dry_run:
        gone += queries.drop_events(organization_id, after, BATCH)
        after += BATCH
    return gone


def _next_base(chain: Chain, request_id: str) -> Point | None:
    target = _target(chain)
    return None if target is None else _proven(chain, target, request_id)


def _move(chain: Chain, base: Point) -> bool:
    outcome = queries.move_base(chain.organization_id, chain.base.seq, base, _checkpoint(chain, base))
    if outcome == "refused":  # a hold that came this moment, or a mark that a crash has kept from the head: next time
        log.entry("WARNING", "events stay for now", organization_id=chain.organization_id, seq=base.seq)
    return outcome == "moved"


def _target(chain: Chain) -> anchors.Name | None:
    """The anchor up to which events may go: of those within a stretch the last, else the next one."""
    if queries.first_kept(chain.organization_id, chain.base.seq, chain.base.seq + 1) is not None:
        return None
    found = [name for name in anchors.names(chain.organization_id) if chain.base.seq < name.seq <= chain.head.seq]
    near = [name for name in found if name.seq <= chain.base.seq + STRETCH] or found[:1]
    if not near:
        return None
    kept = queries.first_kept(chain.organization_id, chain.base.seq, near[-1].seq)
    free = [name for name in near if kept is None or name.seq < kept]
    return free[-1] if free else None


def _proven(chain: Chain, name: anchors.Name, request_id: str) -> Point | None:
    """The anchored event, if everything from the base to it is as it was when it was anchored."""
    anchor = anchors.read(name)
    if anchor is None:
        return None
    walked = walk(chain.organization_id, chain.base, anchor.head.seq)
    broken = walked.broken or (None if walked.point == anchor.head else anchor.head.seq)
    if broken is None:
        return anchor.head
    now = queries.select_chains([chain.organization_id]).get(chain.organization_id)
    if now is not None and now.base == chain.base:  # else another run drops the same
        alarm(chain.organization_id, broken, request_id)
    return None


def _checkpoint(chain: Chain, base: Point) -> dict[str, object]:
    return certificate.sign(
        {
            "kind": CHECKPOINT,
            "organization_id": chain.organization_id,
            "base": base._asdict(),
            "before": chain.base._asdict(),
            "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        },
        certificate.AUDIT_RING,
    )
