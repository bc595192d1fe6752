"""What the proof of an erasure needs from the database: literal SQL, one function per query. The job is the seal's."""

import json
from typing import Any, NamedTuple

from common import jobs
from common.db import Tx, database
from common.tokens import Claim
from functions.deletions.job_queries import insert_certificate, progress, select_exports, select_facts

__all__ = ["insert_certificate", "progress", "select_exports", "select_facts"]


def give_up_processors(tx: Tx, names: list[str], patience_seconds: int) -> list[str]:
    """Enter the processors of this release, and give up those that were tried too long or are none any more."""
    found = tx.value(
        "SELECT platform.give_up_processors(CAST(:names AS text[]), make_interval(secs => :patience))",
        names=names,
        patience=patience_seconds,
    )
    return [str(name) for name in found]


def claim_processors(tx: Tx, names: list[str], pause_seconds: int) -> list[tuple[str, str]]:
    """Those whose next try is due, and the message; the try after this one comes later, and later from time to time."""
    rows = tx.rows(
        "SELECT * FROM platform.claim_processors(CAST(:names AS text[]), make_interval(secs => :pause))",
        names=names,
        pause=pause_seconds,
    )
    return [(str(name), str(message)) for name, message in rows]


def processor_told(tx: Tx, name: str, *, acknowledged: bool) -> None:
    """A processor took the message; `acknowledged` when that is all it says."""
    tx.rows("SELECT platform.processor_told(:name, :acknowledged)", name=name, acknowledged=acknowledged)


def processor_failed(tx: Tx, name: str, why: str) -> None:
    """A processor took no message: `why` holds no personal data."""
    tx.rows("SELECT platform.processor_failed(:name, :why)", name=name, why=why[:200])


def processors_wait(tx: Tx) -> bool:
    """Whether a processor has to be tried again."""
    return bool(tx.value("SELECT platform.processors_wait()"))


def park_job(job_id: str, execution: str) -> bool:
    """Let the job rest until the next try; False when another execution has it."""
    rows = database().single(
        jobs.claim(), "SELECT platform.park_for_processors(:job, :execution)", job=job_id, execution=execution
    )
    return rows[0][0] is True


def acknowledge_deletion(deletion_id: str, processor: str, request_id: str) -> str | None:
    """When a processor first said that it is done, None when it was told of no such erasure; its signature is good."""
    rows = database().single(
        Claim("u"),
        "SELECT platform.acknowledge_deletion(:deletion_id, :processor, :request)",
        deletion_id=deletion_id,
        processor=processor,
        request=request_id,
    )
    return None if rows[0][0] is None else str(rows[0][0])


class Identifiers(NamedTuple):
    """What must not be found any more, as far as it is known: address, name, and phone numbers, sealed for her id."""

    texts: list[str]
    sealed: list[str]
    subject_id: str
    scope: str


def select_identifiers(tx: Tx) -> Identifiers:
    """What the search looks for."""
    email, name, sealed, scope, subject_id = tx.rows(
        "SELECT email, display_name, phones, scope, subject_id FROM platform.identifiers_to_find()"
    )[0]
    return Identifiers([text for text in (email, name) if text], list(sealed or ()), str(subject_id), str(scope))


def count_logged(tx: Tx, entries: int) -> None:
    """The log entries that hold an identifier, as they were found last."""
    tx.rows("SELECT platform.count_logged(:entries)", entries=entries)


def select_ledger_facts(tx: Tx) -> dict[str, Any]:
    """What a replay of this erasure needs: ids and times."""
    facts: dict[str, Any] = json.loads(tx.value("SELECT platform.ledger_facts()"))
    return facts


def note_ledger(tx: Tx) -> None:
    """The ledger has it."""
    tx.rows("SELECT platform.ledger_written()")
