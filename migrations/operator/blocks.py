"""What Cloud Armor's slot refuses: the operator sees it, adds to it and ends it; the next run of `blocks` does it."""

from argparse import Namespace

from migrations.operator.desk import DENIED, DONE, REFUSED, Answer, Desk, table

ROOM = 10  # ranges of a rule: functions/incidents/armor.py
SAID = {
    "added": "it is refused within five minutes",
    "longer": "it is blocked already, and now for as long at least",
    "full": f"the slot has room for {ROOM}: end another block first",
}


def list_blocks(desk: Desk, chosen: Namespace) -> Answer:
    """What is blocked, then what was lately."""
    with desk.transaction():
        found = desk.tables("SELECT * FROM platform.list_blocks(:most)", most=chosen.limit)
        desk.record("block.read", "block", networks=len(found))
    return Answer(DONE, table(found, "nothing is blocked"), {"blocks": found})


def add_block(desk: Desk, chosen: Namespace) -> Answer:
    """Ask for a block."""
    with desk.transaction():
        outcome = desk.value(
            "SELECT platform.add_block(CAST(:network AS cidr), :seconds, :most, CAST(:noted AS jsonb), :request)",
            network=chosen.network,
            seconds=chosen.hours * 3600,
            most=ROOM,
        )
        if outcome == "full":
            desk.record("block.added", "block", outcome=DENIED, result=outcome)
    return Answer(REFUSED if outcome == "full" else DONE, [SAID[outcome]], {"outcome": outcome})


def end_block(desk: Desk, chosen: Namespace) -> Answer:
    """End every block that touches a network."""
    with desk.transaction():
        total = desk.value(
            "SELECT platform.end_blocks(CAST(:network AS cidr), CAST(:noted AS jsonb), :request)",
            network=chosen.network,
        )
        if not total:
            desk.record("block.ended", "block", outcome=DENIED, result="unknown")
    said = f"{total} blocks end within five minutes" if total else "no block touches it"
    return Answer(DONE if total else REFUSED, [said], {"ended": total})
