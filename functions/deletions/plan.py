"""What the register says about counted rows: the plan, the retained rows, and whether the database knows it all."""

from collections import Counter
from typing import Any

from common.register import register

# In the order of workflows/gdpr_erasure.yaml; platform.steps_of says which of them a request has.
STEPS = (
    *("plan", "freeze", "revoke", "organizations", "rows", "objects", "account", "children", "processors", "scan"),
    *("certificate", "notify"),
)
STAYS = ("pseudonym", "keep")
PROOF = "platform.deletions"
LOGS, LOG_DAYS = "logs", 90  # as the security logs; the others are gone after 30
LOG_GROUND = "a log entry cannot be deleted alone; that it holds what identifies somebody is a defect, and was reported"
LOG_UNTIL = f"at most {LOG_DAYS} days after it was written"
HOLD_GROUND = "Art. 17(3)(e) GDPR: legal hold"

Count = dict[str, Any]  # {"table", "action", "rows"}
Held = dict[str, Any]  # {"table", "rows", "until"}


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


def planned(counts: list[Count], held: list[Held]) -> list[dict[str, Any]]:
    """The rows of a dry run; the request itself stays as proof, and what legal holds keep stays until they end."""
    entries = summed([*counts, {"table": PROOF, "rows": 1, "action": "keep"}])
    plan = [{**entry, **_stay(entry)} for entry in entries]
    return plan + [{**entry, "action": "keep"} for entry in _held(held)]


def _stay(entry: Count) -> dict[str, str | None]:
    if entry["action"] not in STAYS:
        return {"ground": None, "until": None}
    if entry["table"] == LOGS:
        return {"ground": LOG_GROUND, "until": LOG_UNTIL}
    rule = register().tables[entry["table"]].retention
    return {"ground": rule.ground, "until": rule.text}


def _held(held: list[Held]) -> list[dict[str, Any]]:
    """What holds keep, without their reason: that may be about a person."""
    return [
        {"table": entry["table"], "rows": entry["rows"], "ground": HOLD_GROUND, "until": entry["until"]}
        for entry in held
    ]


def retained(counts: list[Count], held: list[Held]) -> list[dict[str, Any]]:
    """The rows that stay: by the register's grounds, and by legal holds until they end."""
    stays = [
        {"table": entry["table"], "rows": entry["rows"], **_stay(entry)} for entry in counts if entry["action"] in STAYS
    ]
    return stays + _held(held)
