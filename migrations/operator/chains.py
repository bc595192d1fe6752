"""The audit chains, all of them: each against itself, its checkpoint, and the anchors outside the database."""

import json
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from common import anchors, chain
from common.audit import Point
from migrations.operator.desk import DONE, FAILURE, REFUSED, SUCCESS, UNUSABLE, Answer, Desk, progress, table

SNAPSHOT = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
EVENTS, ORGANIZATIONS = 2000, 500  # in memory at a time
NAMED = 100  # broken chains that an event names; the answer names all
EVERY = 100  # organizations between two words of progress


class Erasing(Exception):
    """The organization is being erased: its events go one by one."""


class Checked(NamedTuple):
    """One chain: how many events were checked, which seq is wrong and why; `erasing`: it goes, and proves nothing."""

    events: int
    seq: int | None
    reason: str
    erasing: bool = False


def verify(desk: Desk, chosen: Namespace) -> Answer:
    """Check every chain; flat memory, one snapshot of the database for each."""
    found: dict[str, Checked] = {}
    checked = events = erasing = 0
    try:
        for organization in _organizations(desk, chosen):
            result = _checked(desk, organization)
            if result is None:
                return _unknown(desk, organization)
            checked, events, erasing = checked + 1, events + result.events, erasing + result.erasing
            if result.seq is not None:
                found[organization] = result
            if checked % EVERY == 0:
                progress(f"{checked} chains, {events} events, {len(found)} broken")
    except anchors.Unreachable as error:
        with desk.transaction():
            desk.record("audit.verified", "audit", outcome=FAILURE, error="anchors_unreachable")
        return Answer(UNUSABLE, [f"the bucket of the anchors does not answer ({error}): nothing can be said"])
    with desk.transaction():
        _record(desk, chosen, found, checked, events)
    return _told(found, checked, events, erasing)


def _record(desk: Desk, chosen: Namespace, found: dict[str, Checked], checked: int, events: int) -> None:
    named = [{"organization": organization, "seq": found[organization].seq} for organization in list(found)[:NAMED]]
    only = str(chosen.organization) if chosen.organization else None
    outcome = FAILURE if found else SUCCESS
    counts = {"chains": checked, "events": events, "broken": len(found)}
    desk.record("audit.verified", "audit", only, outcome=outcome, **counts, first_broken=named)


def _told(found: dict[str, Checked], checked: int, events: int, erasing: int) -> Answer:
    lines = [f"{organization}: broken at seq {bad.seq}: {bad.reason}" for organization, bad in found.items()]
    gone = f", {erasing} left out: they are being erased" if erasing else ""
    lines.append(f"{checked} chains with {events} events: {len(found) or 'none'} broken{gone}")
    broken = [{"organization_id": each, "seq": bad.seq, "reason": bad.reason} for each, bad in found.items()]
    document = {"chains": checked, "events": events, "erasing": erasing, "broken": broken}
    return Answer(REFUSED if found else DONE, lines, document)


def _unknown(desk: Desk, organization: str) -> Answer:
    with desk.transaction():
        desk.record("audit.verified", "audit", organization, outcome=FAILURE, error="unknown")
    return Answer(REFUSED, ["there is no such organization"], {"organization_id": organization, "outcome": "unknown"})


def _organizations(desk: Desk, chosen: Namespace) -> Iterator[str]:
    """The one that was asked for, or all by id, the platform's own among them."""
    if chosen.organization:
        yield str(chosen.organization)
        return
    after = None
    while True:
        rows = desk.rows(
            "SELECT platform.organization_ids(CAST(:after AS uuid), :most)", after=after, most=ORGANIZATIONS
        )
        for row in rows:
            yield str(row[0])
        if len(rows) < ORGANIZATIONS:
            return
        after = rows[-1][0]


def _checked(desk: Desk, organization: str) -> Checked | None:
    """What is wrong with a chain; None where there is no such organization. Raises anchors.Unreachable."""
    try:
        verdict = chain.verify(organization, partial(_reading, desk, organization))
    except LookupError:
        return None
    except Erasing:
        return Checked(0, None, "", erasing=True)
    return Checked(verdict.checked, verdict.first_broken_seq, verdict.reason)


@contextmanager
def _reading(desk: Desk, organization: str) -> Iterator[tuple[chain.Ends, Iterator[Any]]]:
    """A snapshot of one chain. Raises LookupError, Erasing."""
    with desk.transaction(SNAPSHOT):
        rows = desk.rows("SELECT * FROM platform.audit_ends(CAST(:id AS uuid))", id=organization)
        if not rows:
            raise LookupError(organization)
        seq, digest, base_seq, base_hash, checkpoint, erasing = rows[0]
        if erasing:
            raise Erasing
        ends = chain.Ends(Point(base_seq, base_hash), Point(seq, digest), checkpoint)
        yield ends, _events(desk, organization, base_seq)


def _events(desk: Desk, organization: str, after: int) -> Iterator[Any]:
    """Every event behind a seq, also those that stand behind the head."""
    while True:
        rows = desk.rows(
            "SELECT p.event::text, (p.event ->> 'seq')::bigint"
            " FROM platform.audit_page(CAST(:id AS uuid), :after, :most) AS p (event)",
            id=organization,
            after=after,
            most=EVENTS,
        )
        for text, _seq in rows:
            yield chain.readable(text)
        if len(rows) < EVENTS:
            return
        after = rows[-1][1]


def audit(desk: Desk, chosen: Namespace) -> Answer:
    """The latest events of the platform's chain, oldest first: what operators and the platform itself have done."""
    with desk.transaction():
        (ends,) = desk.rows("SELECT * FROM platform.audit_ends(platform.organization_id())")
        after = max(ends[0] - chosen.limit, 0)
        rows = desk.rows("SELECT platform.audit_page(NULL, :after, :most)", after=after, most=chosen.limit)
        desk.record("audit.read", "audit", events=len(rows))
    events = [_shown(row[0]) for row in rows]
    lines = table(
        [
            {
                "seq": event["seq"],
                "at": event["at"],
                "action": event["action"],
                "outcome": event["outcome"],
                "resource": event["resource"]["id"],
                "request": event["request_id"],
                "data": json.dumps(event["data"], ensure_ascii=False),
            }
            for event in events
        ],
        "nothing has happened yet",
    )
    return Answer(DONE, lines, {"events": events})


def _shown(event: dict[str, Any]) -> dict[str, Any]:
    """An event without what only its verification needs."""
    return {name: event[name] for name in ("seq", "at", "action", "resource", "outcome", "request_id", "data")}
