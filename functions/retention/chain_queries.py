"""Audit chains as anchoring and retention see them: literal SQL, one function per query, each its own transaction."""

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from common.audit import Point
from common.chain import readable
from common.db import database
from common.tokens import Claim

SYSTEM = Claim("s")


@dataclass(frozen=True)
class Chain:
    """An organization's chain by its ends. `checkpoint` is the signed document about the base, None without one."""

    organization_id: str
    base: Point
    head: Point
    checkpoint: dict[str, Any] | None


def select_due(idle: timedelta) -> list[str]:
    """The organizations whose chains are to be anchored, those that wait longest first."""
    rows = database().single(
        SYSTEM, "SELECT platform.due_anchors(make_interval(secs => :idle))", idle=idle.total_seconds()
    )
    return [str(row[0]) for row in rows]


def select_chains(organizations: list[str]) -> dict[str, Chain]:
    """The chains of these organizations; not of those that are gone or go."""
    rows = database().single(
        SYSTEM,
        """
        SELECT organization_id, base_seq, base_hash, seq, hash, checkpoint::text
        FROM platform.chain_ends(CAST(:organizations AS uuid[]))
        """,
        organizations=organizations,
    )
    return {
        str(row[0]): Chain(
            str(row[0]), Point(row[1], row[2]), Point(row[3], row[4]), json.loads(row[5]) if row[5] else None
        )
        for row in rows
    }


def select_links(organization_id: str, after: int, most: int) -> list[dict[str, Any]]:
    """The next events behind a seq, without their personal parts; nothing in the place of one that is unreadable."""
    rows = database().single(
        SYSTEM,
        "SELECT platform.audit_links(:organization, :after, :most)",
        organization=organization_id,
        after=after,
        most=most,
    )
    return [readable(row[0]) or {} for row in rows]


def mark_anchored(organization_id: str, base: int, head: int) -> None:
    """An anchor of these is in the bucket; without effect when the base has moved since."""
    database().single(
        SYSTEM,
        "SELECT platform.mark_anchored(:organization, :base, :head)",
        organization=organization_id,
        base=base,
        head=head,
    )


def report_broken(organization_id: str, seq: int, request_id: str) -> None:
    """Record in the platform's chain that a chain does not hold."""
    database().single(
        SYSTEM,
        "SELECT platform.report_broken(:organization, :seq, :request)",
        organization=organization_id,
        seq=seq,
        request=request_id,
    )


def select_old() -> list[tuple[str, int]]:
    """The organizations with events that are over, or dropped and still standing, and the first seq that stands."""
    rows = database().single(SYSTEM, "SELECT organization_id, first_seq FROM platform.old_chains()")
    return [(str(row[0]), int(row[1])) for row in rows]


def first_kept(organization_id: str, after: int, upto: int) -> int | None:
    """The first event behind `after` and up to `upto` that has to stay, None when none has."""
    rows = database().single(
        SYSTEM,
        "SELECT platform.first_kept(:organization, :after, :upto)",
        organization=organization_id,
        after=after,
        upto=upto,
    )
    found: int | None = rows[0][0]
    return found


def move_base(organization_id: str, was: int, base: Point, checkpoint: dict[str, Any]) -> str:
    """Let the chain begin behind `base`: `moved`, `raced` when another run has moved it, or `refused`."""
    rows = database().single(
        SYSTEM,
        "SELECT platform.move_audit_base(:organization, :was, :seq, :hash, CAST(:checkpoint AS jsonb))",
        organization=organization_id,
        was=was,
        seq=base.seq,
        hash=base.hash,
        checkpoint=json.dumps(checkpoint),
    )
    return str(rows[0][0])


def drop_events(organization_id: str, after: int, most: int) -> int:
    """Delete what stands of the next seqs behind `after` up to the base; how many rows it was."""
    rows = database().single(
        SYSTEM,
        "SELECT platform.drop_events(:organization, :after, :most)",
        organization=organization_id,
        after=after,
        most=most,
    )
    return int(rows[0][0])
