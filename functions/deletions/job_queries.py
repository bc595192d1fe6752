"""What the erasure's steps do in the database: literal SQL, one function per query. The subject comes from the seal."""

import json
from typing import Any, NamedTuple

from common.db import Tx

EVENTS = 1000  # of which `personal` is nulled at once: their seqs stand in one audit event
ROWS = 2000


class Batch(NamedTuple):
    """What a batch did: rows erased, and the opaque id of the person when it ended her membership."""

    rows: int
    left: str | None


def known_tables(tx: Tx) -> list[str]:
    """The tables about people that the database knows how to erase."""
    return [str(row[0]) for row in tx.rows("SELECT platform.known_tables()")]


def progress(tx: Tx, step: str, status: str, rows: int = 0) -> None:
    """Where a step stands; `rows` are added to what it has done."""
    tx.rows("SELECT platform.deletion_progress(:step, :status, :more)", step=step, status=status, more=rows)


def freeze_subject(tx: Tx) -> str:
    """`frozen`, or `last_owner` when that has become true since the request."""
    return str(tx.value("SELECT platform.freeze_subject()"))


def revoke_subject(tx: Tx) -> int:
    """End every log-in; their number."""
    return int(tx.value("SELECT platform.revoke_subject()"))


def select_tenants(tx: Tx) -> list[str]:
    """The organizations that the job may enter."""
    return [row[0] for row in tx.rows("SELECT platform.deletion_tenants()")]


def enter_organization(tx: Tx) -> str:
    """How the sealed organization's rows go: `keep`, `erase`, `whole`; or `done`."""
    return str(tx.value("SELECT platform.enter_organization()"))


def erase_batch(tx: Tx, mode: str) -> Batch:
    """Erase some rows of the sealed organization, counted; 0 rows when nothing is left."""
    answers = tx.flight(
        ("SELECT app.erase_batch(:mode, :most)", {"mode": mode, "most": ROWS}),
        ("SELECT platform.membership_ended()", {}),
    )
    left = answers[1][0][0]
    return Batch(int(answers[0][0][0]), None if left is None else str(left))


def erase_personal(tx: Tx) -> list[int]:
    """Null the personal part of some of the person's audit events; their seqs."""
    return [int(seq) for seq in tx.value("SELECT app.erase_personal(:most)", most=EVENTS)]


def organization_done(tx: Tx) -> None:
    """Nothing is left to do in the sealed organization."""
    tx.rows("SELECT platform.organization_done()")


def select_exports(tx: Tx) -> list[str]:
    """Ids of the person's exports, also of those whose rows are gone."""
    return [str(export_id) for export_id in tx.value("SELECT platform.subject_exports()")]


def note_objects(tx: Tx, found: int) -> None:
    """How many objects there were before the first one was deleted."""
    tx.rows("SELECT platform.objects_found(:found)", found=found)


def erase_account(tx: Tx) -> int:
    """Delete a batch of the platform's rows, the account last; 0 when nothing is left."""
    return int(tx.value("SELECT platform.erase_account(:most)", most=ROWS))


def scan(tx: Tx, tables: list[str], phones: list[str]) -> list[int]:
    """Rows of each table that still hold an identifier of the person; of app tables, the sealed organization's.

    The database knows her address, name and id, but of her phone numbers only what is sealed.
    """
    answers = tx.flight(
        *[
            (
                "SELECT platform.scan_table(:wanted, CAST(:phones AS text[]))",
                {"wanted": table, "phones": phones},
            )
            for table in tables
        ]
    )
    return [int(rows[0][0]) for rows in answers]


def note_scan(tx: Tx, places: int, hits: int) -> None:
    """What the search found."""
    tx.rows("SELECT platform.scan_result(:places, :hits)", places=places, hits=hits)


def select_facts(tx: Tx) -> dict[str, Any]:
    """What the certificate states: ids, counts, scan; and the certificate, once there is one."""
    facts: dict[str, Any] = json.loads(tx.value("SELECT platform.deletion_facts()"))
    return facts


def insert_certificate(tx: Tx, certificate: dict[str, Any]) -> None:
    """Store the certificate; the first one stays."""
    tx.rows("SELECT platform.put_certificate(CAST(:issued AS jsonb))", issued=json.dumps(certificate))


def release_mail(tx: Tx) -> None:
    """The sending failed: the next try may begin at once."""
    tx.rows("SELECT platform.release_deletion_mail()")


def mail_pending(tx: Tx) -> bool:
    """Whether the last mail has not been sent."""
    return bool(tx.value("SELECT platform.deletion_mail_pending()"))


def forget_subject(tx: Tx) -> None:
    """Null the address, the name and the reason."""
    tx.rows("SELECT platform.forget_subject()")
