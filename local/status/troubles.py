"""Errors and warnings in the logs, like ones together: which service, what, how often, when last."""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from local.console import SERIOUS

KEPT = 60
LONGEST = 400
TRACE = "logging.googleapis.com/trace"
ERRORS = ("ERROR", "CRITICAL", "ALERT", "EMERGENCY")
GIVEN_UP = re.compile(rb"failed for good|^Traceback \(")
MOMENT = re.compile(r"^\[?(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?)(?:Z| UTC)?")
ALIKE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+|\S+@\S+")  # what differs between two of a kind


class Troubles:
    """At most `KEPT` kinds, the latest ones."""

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str, str], dict[str, Any]] = {}

    def take(self, log: str, line: bytes, now: float) -> None:
        """Keep a line if it is one of trouble. One without a time of its own counts as written now."""
        entry = _structured(line)
        if entry is None:
            if SERIOUS.search(line) or GIVEN_UP.search(line):
                text = line.decode(errors="replace").strip()[:LONGEST]
                self._add(log, "ERROR", MOMENT.sub("", text).strip(), {}, _moment(text, now))
            return
        severity = str(entry.get("severity", ""))
        if severity == "WARNING" or severity in ERRORS:
            known = ("message", "severity", "time", "service")
            details = {name: value for name, value in entry.items() if name not in known and "/" not in name}
            trace = str(entry.get(TRACE, "")).rpartition("/")[2]
            self._add(log, severity, str(entry.get("message", ""))[:LONGEST], details, _time(entry, now), trace)

    def _add(self, log: str, severity: str, text: str, details: dict[str, Any], moment: float, trace: str = "") -> None:
        key = (log, severity, ALIKE.sub("0", f"{text} {details.get('error', '')} {details.get('code', '')}"))
        kind = self.kinds.pop(key, {"count": 0, "at": 0.0})
        at = max(moment, kind["at"])
        facts = {"log": log, "severity": severity, "text": text, "details": _short(details), "at": at, "trace": trace}
        self.kinds[key] = facts | {"count": kind["count"] + 1}
        while len(self.kinds) > KEPT:
            del self.kinds[next(iter(self.kinds))]

    def shown(self) -> list[dict[str, Any]]:
        """The kinds, the latest first."""
        return sorted(self.kinds.values(), key=lambda kind: -kind["at"])


def _structured(line: bytes) -> dict[str, Any] | None:
    """A line of JSON that has a severity; an access log has none."""
    if not line.startswith(b"{"):
        return None
    with suppress(ValueError):
        entry = json.loads(line)
        if isinstance(entry, dict):
            return entry
    return None


def _short(details: dict[str, Any]) -> dict[str, str]:
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in details.items()}
    return {name: text[:LONGEST] for name, text in texts.items() if text not in ("", "null")}


def _time(entry: dict[str, Any], now: float) -> float:
    with suppress(ValueError, TypeError):
        return datetime.fromisoformat(str(entry.get("time"))).timestamp()
    return now


def _moment(text: str, now: float) -> float:
    """As PostgreSQL and Envoy begin their lines, in UTC."""
    found = MOMENT.match(text)
    if found is None:
        return now
    with suppress(ValueError):
        return datetime.fromisoformat(found[1].replace(",", ".")).replace(tzinfo=UTC).timestamp()
    return now
