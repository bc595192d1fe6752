"""What the erasure's steps do in the database: literal SQL, one function per query. The subject comes from the seal."""

import json
from typing import Any

from common.db import Tx

EVENTS = 1000  # of which `personal` is nulled at once: their seqs stand in one audit event
ROWS = 5000

# An organization's rows, children first; RLS lets them go only when this job erases the organization as a whole.
WHOLE = {
    "app.tasks": """
        WITH gone AS (
            DELETE FROM app.tasks WHERE tenant_id = :tenant_id AND id IN (
                SELECT id FROM app.tasks WHERE tenant_id = :tenant_id LIMIT :most)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
    "app.projects": """
        WITH gone AS (
            DELETE FROM app.projects WHERE tenant_id = :tenant_id AND id IN (
                SELECT id FROM app.projects WHERE tenant_id = :tenant_id LIMIT :most)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
    "app.audit_events": """
        WITH gone AS (
            DELETE FROM app.audit_events WHERE tenant_id = :tenant_id AND seq IN (
                SELECT seq FROM app.audit_events WHERE tenant_id = :tenant_id LIMIT :most)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
    "app.audit_heads": """
        WITH gone AS (DELETE FROM app.audit_heads WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
    "app.idempotent_answers": """
        WITH gone AS (
            DELETE FROM app.idempotent_answers WHERE tenant_id = :tenant_id AND (user_id, scope) IN (
                SELECT user_id, scope FROM app.idempotent_answers WHERE tenant_id = :tenant_id LIMIT :most)
            RETURNING 1
        )
        SELECT count(*) FROM gone
        """,
    "app.api_keys": """
        WITH gone AS (DELETE FROM app.api_keys WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
    "app.billing": """
        WITH gone AS (DELETE FROM app.billing WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
    "app.team_members": """
        WITH gone AS (DELETE FROM app.team_members WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
    "app.teams": """
        WITH gone AS (DELETE FROM app.teams WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
    "app.invitations": """
        WITH gone AS (DELETE FROM app.invitations WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
    "app.members": """
        WITH gone AS (DELETE FROM app.members WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
    "app.roles": """
        WITH gone AS (DELETE FROM app.roles WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
    "app.organizations": """
        WITH gone AS (DELETE FROM app.organizations WHERE tenant_id = :tenant_id RETURNING 1) SELECT count(*) FROM gone
        """,
}


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
    """`keep`, `whole` or `done`; the organization is locked until the transaction ends."""
    return str(tx.value("SELECT platform.enter_organization()"))


def leave_organization(tx: Tx) -> str | None:
    """End the membership; the person's opaque id, None when it had ended before."""
    left = tx.value("SELECT platform.leave_organization()")
    return None if left is None else str(left)


def erase_personal(tx: Tx) -> list[int]:
    """Null the personal part of some of the person's audit events; their seqs."""
    return [int(seq) for seq in tx.value("SELECT app.erase_personal(:most)", most=EVENTS)]


def delete_some(tx: Tx) -> int:
    """Delete a batch of the organization's rows, children first, and count it; 0 when the organization is gone too."""
    for table, sql in WHOLE.items():
        gone = int(tx.value(sql, most=ROWS))
        if gone:
            count_erased(tx, table, gone)
            return gone
    tx.rows("SELECT platform.organization_done()")
    return 0


def count_erased(tx: Tx, table: str, rows: int) -> None:
    """Add deleted rows to the certificate's figures, in the transaction that deletes them."""
    tx.rows("SELECT platform.count_erased(:table, 'delete', :more)", table=table, more=rows)


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


def scan(tx: Tx, tables: list[str]) -> list[int]:
    """Rows of each table that still hold an identifier of the person; of app tables, the sealed organization's."""
    answers = tx.flight(*[("SELECT platform.scan_table(:wanted)", {"wanted": table}) for table in tables])
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


def claim_mail(tx: Tx) -> tuple[str, bytes] | None:
    """Address and receipt hash for the last mail, None when it has been sent or another step is sending it."""
    found = tx.row("SELECT email, receipt_hash FROM platform.claim_deletion_mail()")
    return (found[0], found[1]) if found else None


def release_mail(tx: Tx) -> None:
    """The sending failed: the next try may begin at once."""
    tx.rows("SELECT platform.release_deletion_mail()")


def mail_pending(tx: Tx) -> bool:
    """Whether the last mail has not been sent."""
    return bool(tx.value("SELECT platform.deletion_mail_pending()"))


def forget_subject(tx: Tx) -> None:
    """Null the address, the name and the reason."""
    tx.rows("SELECT platform.forget_subject()")
