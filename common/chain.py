"""The judgment of an audit chain by those who keep it: its rows, its events, and the anchors outside the database."""

import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

from common import anchors, certificate
from common.audit import Point, Verifier, base_holds, unproven

UNPROVEN = "it is missing, and nothing outside the database proves that it was dropped in time"


@dataclass(frozen=True)
class Ends:
    """Where a chain begins and ends, as its row in the database says. `checkpoint`: what proves the base, parsed."""

    base: Point
    head: Point
    checkpoint: Any


def readable(text: str) -> Any:
    """An event as the database wrote it; None, which is no event, for numbers and depths that nobody can read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


Reading: TypeAlias = Callable[[], AbstractContextManager[tuple[Ends, Iterable[Any]]]]


@dataclass(frozen=True)
class Verdict:
    """What became of a check. `reason` is for people."""

    checked: int
    base: Point
    head: Point
    anchored: anchors.Anchor | None
    first_broken_seq: int | None
    reason: str

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong."""
        return self.first_broken_seq is None

    def shown(self) -> dict[str, Any]:
        """As GET /v1/audit-events/verify answers it."""
        return {
            "valid": self.valid,
            "checked": self.checked,
            "base": self.base._asdict(),
            "head": self.head._asdict(),
            "anchored": anchored(self.anchored),
            "first_broken_seq": self.first_broken_seq,
        }


def anchored(anchor: anchors.Anchor | None) -> dict[str, Any] | None:
    """An anchor as verify and the statement of an export show it."""
    return {"seq": anchor.head.seq, "hash": anchor.head.hash, "at": anchor.at} if anchor else None


def verify(organization_id: str, reading: Reading) -> Verdict:
    """Check a whole chain. `reading` opens one snapshot of it, with every event behind the base, in order.

    The anchor is fetched before the snapshot, which must then contain it; no network call is made while it is open.
    Raises anchors.Unreachable.
    """
    anchor = anchors.newest(organization_id)
    with reading() as (ends, events):
        verifier = Verifier(ends.base, [anchor.base, anchor.head] if anchor else (), ends.head)
        for event in events:
            verifier.take(event)
    if not base_proven(organization_id, ends):
        verifier.note(unproven(ends.base, anchor.base if anchor else None), UNPROVEN)
    if anchor and anchor.head.seq < ends.base.seq:  # retention drops nothing that is not anchored
        verifier.note(anchor.head.seq + 1, UNPROVEN)
    broken, reason = verifier.verdict()
    return Verdict(verifier.checked, ends.base, ends.head, anchor, broken, reason)


def base_proven(organization_id: str, ends: Ends) -> bool:
    """Whether the chain may begin where it does: a checkpoint of ours and an anchor say so. Raises Unreachable."""
    keys = certificate.public_keys(certificate.AUDIT_RING)
    if not base_holds(ends.base, ends.checkpoint, organization_id, keys):
        return False
    return anchors.proves(organization_id, ends.base.seq, ends.base.hash)
