"""The audit chain, checked without trusting the database that keeps it: `python -m common.audit verify FILE`.

Standard library only, so that an auditor can run this file alone. FILE holds one event a line, as
GET /v1/audit-events/export gives them. Sources: RFC 8785 (canonical JSON), FIPS 180-4 (SHA-256).
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GENESIS = "0" * 64


def canonical(value: Any) -> str:
    """RFC 8785 for what an event holds: ASCII keys, strings, booleans, null and integers below 2^53."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def event_hash(event: dict[str, Any]) -> str:
    """The hash that an event must carry."""
    linked = {name: value for name, value in event.items() if name not in {"personal", "personal_salt", "hash"}}
    return hashlib.sha256(canonical(linked).encode()).hexdigest()


def personal_hash(salt: str, personal: Any) -> str:
    """The hash of an event's personal part under its salt."""
    return hashlib.sha256((salt + canonical(personal)).encode()).hexdigest()


@dataclass
class Verifier:
    """Takes events in order of `seq`; remembers the first that does not fit."""

    checked: int = 0
    seq: int = 0
    hash: str = GENESIS
    first_broken_seq: int | None = None
    _nulled: dict[int, None] = field(default_factory=dict)

    def take(self, event: dict[str, Any]) -> None:
        """Check one event against its predecessor."""
        self.checked += 1
        fits = (
            event["seq"] == self.seq + 1
            and event["prev_hash"] == self.hash
            and event["hash"] == event_hash(event)
            and self._personal_fits(event)
        )
        if not fits and self.first_broken_seq is None:
            self.first_broken_seq = self.seq + 1 if event["seq"] > self.seq + 1 else event["seq"]
        if event["action"] == "personal.erased":
            for seq in event["data"].get("events", []):
                self._nulled.pop(seq, None)
        self.seq, self.hash = event["seq"], event["hash"]

    def _personal_fits(self, event: dict[str, Any]) -> bool:
        if event["personal_salt"] is None:
            self._nulled[event["seq"]] = None
            return event["personal"] is None
        return personal_hash(event["personal_salt"], event["personal"]) == str(event["personal_hash"])

    @property
    def broken(self) -> int | None:
        """The first event that is wrong; a nulled personal part without a later `personal.erased` counts as well."""
        wrong = [seq for seq in (self.first_broken_seq, next(iter(self._nulled), None)) if seq is not None]
        return min(wrong, default=None)


def verify(lines: Iterable[str]) -> Verifier:
    """Check a whole export."""
    verifier = Verifier()
    for line in lines:
        verifier.take(json.loads(line))
    return verifier


def main(arguments: list[str]) -> int:
    """`verify FILE`: exit code 0 when the chain holds."""
    if len(arguments) != 2 or arguments[0] != "verify":
        sys.stderr.write("usage: python -m common.audit verify FILE\n")
        return 2
    with Path(arguments[1]).open() as lines:
        result = verify(lines)
    broken = result.broken
    verdict = "the chain holds" if broken is None else f"the chain is broken at seq {broken}"
    sys.stdout.write(f"{result.checked} events checked, head {result.seq} {result.hash}: {verdict}\n")
    return 0 if broken is None else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
