"""The slot and the database: what is wanted is put in force, and what is over is lifted.

A run is a function of what both say and of the time: doing it again, or after a crash, goes on where it was.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from common import log
from common.settings import settings
from functions.incidents import armor, queries
from functions.incidents.queries import Block

LONGEST = timedelta(days=30)  # of what is written by hand

RUN_SECONDS = 300  # the longest that the slot is read and written


class Busy(Exception):
    """Another run has the lease."""


@contextmanager
def alone() -> Iterator[str]:
    """The slot is this run's until its end, or for so long without a word of it. Raises Busy."""
    run = str(uuid.uuid4())
    hold(run)
    try:
        yield run
    finally:
        queries.end_run(run)


def hold(run: str) -> None:
    """The slot is this run's from now on for as long as a write may take. Raises Busy: another one has it."""
    if not queries.begin_run(run, RUN_SECONDS):
        raise Busy


def settle(run: str, request_id: str) -> int:
    """Bring slot and database together; how many networks are refused now.

    Raises armor.Unavailable, armor.Foreign, Busy.
    """
    hold(run)  # a request that was given up goes on where nobody ends it: it must not write over a later one
    slot = armor.read()
    blocks = queries.select_blocks()
    strange = sorted(slot.networks - {block.network for block in blocks})
    if strange:
        _adopt(strange, slot.until, request_id)
        blocks = queries.select_blocks()
    ended = [block for block in blocks if block.over]
    undone = [block for block in blocks if _undone(block, slot)]
    present = [block for block in blocks if block not in ended and block not in undone]
    wanted = sorted(present, key=lambda block: not block.in_force)[: armor.ROOM]  # what is refused stays so
    description = armor.described(block.ends_at for block in wanted)
    networks = {block.network for block in wanted}
    if slot.networks != networks or slot.description != description:
        armor.write(networks, description)
    forced = [block.id for block in wanted if not block.in_force]
    if forced or ended or undone:
        queries.settle_blocks(forced, [block.id for block in ended], [block.id for block in undone], request_id)
        log.security("NOTICE", "networks are blocked or lifted", made=len(forced), over=len(ended), undone=len(undone))
    return len(wanted)


def _undone(block: Block, slot: armor.Slot) -> bool:
    """Whether somebody took it out of the slot by hand: that counts, and it is not put back."""
    return block.in_force and not block.over and block.network not in slot.networks


def _adopt(networks: list[str], until: datetime | None, request_id: str) -> None:
    """What somebody wrote by hand ends when the description says, in 30 days at most, or as a block of ours would."""
    now = datetime.now(UTC)
    ends_at = min(max(until or now + timedelta(seconds=settings().block_seconds), now), now + LONGEST)
    queries.adopt_blocks(networks, ends_at, request_id)
