"""What the register says about counted rows: the plan, the retained rows, and whether the database knows it all."""

from collections import Counter
from typing import Any

from common.register import register

STEPS = (
    *("plan", "freeze", "revoke", "organizations", "objects", "account", "processors", "scan", "certificate"),
    "notify",
)
STAYS = ("pseudonym", "keep")
PROOF = "platform.deletions"
LOGS, LOG_DAYS = "logs", 30
LOG_GROUND = "a log entry cannot be deleted alone; that it holds what identifies somebody is a defect, and was reported"
LOG_UNTIL = f"{LOG_DAYS} days after it was written"

Count = dict[str, Any]  # {"table", "action", "rows"}


def unknown_tables(known: list[str]) -> list[str]:
    """Tables about people that the database does not know: empty, or its register is not this release's."""
    return sorted({table.name for table in register().tables.values() if table.subjects} - set(known))


def summed(counts: list[Count]) -> list[Count]:
    """One entry per table and action, without the empty ones, by name."""
    sums: Counter[tuple[str, str]] = Counter()
    for count in counts:
        sums[count["table"], count["action"]] += int(count["rows"])
    return [
        {"table": table, "rows": rows, "action": action} for (table, action), rows in sorted(sums.items()) if rows > 0
    ]


def planned(counts: list[Count]) -> list[dict[str, Any]]:
    """The rows of a dry run; the request itself stays as proof."""
    entries = summed([*counts, {"table": PROOF, "rows": 1, "action": "keep"}])
    return [{**entry, **_stay(entry)} for entry in entries]


def _stay(entry: Count) -> dict[str, str | None]:
    if entry["action"] not in STAYS:
        return {"ground": None, "until": None}
    if entry["table"] == LOGS:
        return {"ground": LOG_GROUND, "until": LOG_UNTIL}
    rule = register().tables[entry["table"]].retention
    return {"ground": rule.ground, "until": rule.text}


def retained(counts: list[Count]) -> list[dict[str, Any]]:
    """The rows that stay, with the register's grounds."""
    return [
        {"table": entry["table"], "rows": entry["rows"], **_stay(entry)} for entry in counts if entry["action"] in STAYS
    ]
