"""After a restore, erase again whom the ledger of erasures knows: `python -m migrations.replay`, as the migrating role.

Safe to run twice and at any time: what the database has forgotten stays as it is. The erasures run as any other, by the
job service; this waits for them. Exit code 0 when nothing of the ledger is left, 1 when an erasure is not complete yet,
2 when the ledger holds what we did not write: then nothing is erased at all.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pg8000.native

from common import ledger
from common.settings import admin_url
from migrations.connection import connected

COMPLETE, INCOMPLETE, FORGED = 0, 1, 2
KEPT_DAYS = 3 * 365  # as long as the requests themselves, by the register
PAUSE_SECONDS = 1.0
ORDER = ("user", "organization", "me")  # a person's part in each organization before the person

Entry = dict[str, Any]


def replay(url: str, say: Callable[[str], object], minutes: float = 60) -> int:
    """Open what is back, wait for it, and put the proofs back; `url` is the administrator's. Raises ledger.Forged."""
    entries = wanted(list(ledger.entries()))
    with connected(url, urlsplit(url).path.lstrip("/")) as admin:
        admin.run("SET ROLE context_owner")
        opened = _open(admin, entries)
        say(f"{len(entries)} erasures in the ledger, {len(entries) - len(opened)} of them forgotten here already")
        left = _wait(admin, opened, say, time.monotonic() + minutes * 60)
        if not left:
            left = set(_open(admin, entries))  # now the proofs are written anew; nothing is opened any more
        say(f"not complete: {len(left)}" if left else "complete: nothing of the ledger is left here")
    return INCOMPLETE if left else COMPLETE


def wanted(entries: list[Entry]) -> list[Entry]:
    """The entries in the order of their replay, oldest first each, without the holds that later ones knew no more."""
    edge = (datetime.now(UTC) - timedelta(days=KEPT_DAYS)).isoformat()
    recent = [entry for entry in entries if str(entry["received_at"]) > edge]
    kept = [
        {**entry, "holds": [hold for hold in entry["holds"] if _in_force(hold, recent[place + 1 :])]}
        for place, entry in enumerate(recent)
    ]
    return sorted(kept, key=lambda entry: ORDER.index(entry["scope"]))


def _in_force(hold: dict[str, Any], later: list[Entry]) -> bool:
    """Whether no later erasure of the same went without this hold: then it had been lifted."""
    for entry in later:
        hers = entry["subject_id"] == hold["subject_id"] and entry["organization_id"] in (None, hold["organization_id"])
        theirs = entry["scope"] == "organization" and entry["organization_id"] == hold["organization_id"]
        if (hers or theirs) and hold["id"] not in [known["id"] for known in entry["holds"]]:
            return False
    return True


def _open(admin: pg8000.native.Connection, entries: list[Entry]) -> list[str]:
    """The jobs that erase what is back."""
    jobs: dict[str, None] = {}
    for entry in entries:
        found = admin.run(
            "SELECT outcome, job FROM platform.replay_erasure(CAST(:entry AS jsonb))", entry=json.dumps(entry)
        )
        for outcome, job in found:
            if outcome == "opened":
                jobs[str(job)] = None
    return list(jobs)


def _wait(admin: pg8000.native.Connection, jobs: list[str], say: Callable[[str], object], deadline: float) -> set[str]:
    """Wait until all are done; those that are not when time is up, or that a legal hold keeps."""
    told: dict[str, str] = {}
    while True:
        for job in jobs:
            if told.get(job) != "done":
                told[job] = _told(admin, job, told.get(job), say)
        left = {job for job in jobs if told[job] != "done"}
        if all(told[job].startswith("held") for job in left) or time.monotonic() > deadline:
            return left
        time.sleep(PAUSE_SECONDS)


def _told(admin: pg8000.native.Connection, job: str, before: str | None, say: Callable[[str], object]) -> str:
    status, step = admin.run("SELECT status, step FROM platform.replay_state(:job)", job=job)[0]
    now = status if status == "done" or not step else f"{status} {step}"
    if now != before:
        say(f"erasure {job}: {now}")
    return str(now)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Replay into the database that DATABASE_ADMIN_URL names, with the ledger of LEDGER_BUCKET."""
    parser = argparse.ArgumentParser(description="Erase again whom the ledger knows, after a restore")
    parser.add_argument("--minutes", type=float, default=60, help="how long to wait for the erasures")
    try:
        return replay(admin_url(), _say, parser.parse_args().minutes)
    except ledger.Forged as error:
        sys.stderr.write(f"nothing was done: the ledger holds an entry that we did not sign: {error}\n")
        return FORGED


if __name__ == "__main__":
    sys.exit(main())
