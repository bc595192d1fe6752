"""One sentence about a stack, and the reasons: what somebody who looks for a second wants to know."""

from typing import Any

BAD, BUSY, GOOD = "bad", "busy", "good"
RECENT_SECONDS = 300
PROBLEMS = {"silent": "The database does not answer", "slow": "The database is too slow to tell of its jobs"}
BEFORE_RECORDS = ("postgres", "logins", "migrations")  # until they are done there is no table to read
AT_WORK = ("starting", "waiting")
BROKEN = {
    "delayed": "starts again soon",
    "failed": "has failed",
    "stopped": "is stopped",
    "paused": "is held by a signal",
}
SHOWN_IN = {"executions": "jobs", "records": "database", "errors": "logs"}  # reader: section, where it is another
Reason = dict[str, str]


def verdict(sections: dict[str, Any], now: float) -> dict[str, Any]:
    """`level` is good, busy (it starts, or deserves a look) or bad; a reason names the section that tells more."""
    found = [
        *_services(sections.get("services") or {}),
        *_blind(sections.get("blind") or {}),
        *_records(sections.get("records") or {}, sections.get("services") or {}),
        *_queues(sections.get("queues") or {}),
        *_logs(sections.get("troubles") or [], now),
        *_alerts(sections.get("alerts") or {}),
    ]
    bad = [each for each in found if each["level"] == BAD]
    if bad:
        return {"level": BAD, "text": bad[0]["text"], "reasons": found}
    if found:
        return {"level": BUSY, "text": found[0]["text"], "reasons": found}
    if not (sections.get("services") or {}).get("services"):
        return {"level": BUSY, "text": "No supervisor tells of this stack", "reasons": []}
    return {"level": GOOD, "text": "Everything runs", "reasons": []}


def _reason(level: str, section: str, text: str) -> Reason:
    return {"level": level, "section": section, "text": text}


def _names(rows: list[dict[str, Any]]) -> str:
    names = [str(row["name"]) for row in rows]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _services(section: dict[str, Any]) -> list[Reason]:
    rows = section.get("services", [])
    down = [row for row in rows if row["state"] in BROKEN]
    mute = [row for row in rows if row not in down and row["health"]["answers"] is False]
    coming = [row for row in rows if row["state"] in AT_WORK]
    found = []
    if down:
        found.append(
            _reason(BAD, "services", f"{_names(down)} {'are down' if len(down) > 1 else BROKEN[down[0]['state']]}")
        )
    if mute:
        found.append(_reason(BAD, "services", f"No answer from {_names(mute)}"))
    if coming:
        found.append(_reason(BUSY, "services", f"Starting: {_names(coming)}"))
    return found


def _blind(section: dict[str, str]) -> list[Reason]:
    return [
        _reason(BUSY, SHOWN_IN.get(reader, reader), f"This page cannot read {reader} ({problem})")
        for reader, problem in sorted(section.items())
    ]


def _records(section: dict[str, Any], services: dict[str, Any]) -> list[Reason]:
    if problem := section.get("problem"):
        if any(row["state"] in AT_WORK for row in services.get("services", []) if row["name"] in BEFORE_RECORDS):
            return []  # who starts has been named
        return [_reason(BAD, "database", PROBLEMS.get(problem, f"The database answers with the error {problem}"))]
    failed = [job for job in section.get("jobs", []) if job["status"] == "failed"]
    stalled = [job for job in section.get("jobs", []) if job["status"] in ("queued", "running") and job["stalls"]]
    found = []
    if failed:
        found.append(
            _reason(BAD, "jobs", _count(len(failed), "export or erasure has", "exports or erasures have") + " failed")
        )
    if stalled:
        found.append(_reason(BUSY, "jobs", _count(len(stalled), "job makes", "jobs make") + " no progress"))
    return found


def _queues(section: dict[str, Any]) -> list[Reason]:
    retrying = sum(queue["retrying"] for queue in section.get("tasks", []))
    paused = [queue for queue in section.get("tasks", []) if queue["paused"]]
    found = [_reason(BUSY, "queues", _count(retrying, "task is", "tasks are") + " tried again")] if retrying else []
    return found + ([_reason(BUSY, "queues", f"Paused: {_names(paused)}")] if paused else [])


def _logs(troubles: list[dict[str, Any]], now: float) -> list[Reason]:
    errors = [each for each in troubles if each["severity"] != "WARNING" and now - each["at"] < RECENT_SECONDS]
    count = sum(each["count"] for each in errors)
    return [_reason(BUSY, "logs", _count(count, "error", "errors") + " in the logs of late")] if errors else []


def _alerts(section: dict[str, Any]) -> list[Reason]:
    ongoing = [each for each in section.get("incidents", []) if each["ended"] is None]
    return [_reason(BUSY, "alerts", _count(len(ongoing), "alert is", "alerts are") + " open")] if ongoing else []


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
