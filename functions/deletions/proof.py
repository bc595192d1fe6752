"""The end of an erasure: its entry in the ledger, then its certificate. Neither is ever written twice."""

from datetime import datetime, timedelta
from typing import Any

from common import certificate, jobs, ledger
from common.db import database
from functions.deletions import proof_queries as queries
from functions.deletions.plan import PROOF, retained

STEP = "certificate"
BACKUP_DAYS = 7


def issue(job_id: str) -> None:
    """Sign what was done and write it down outside of the database; a certificate that exists stays."""
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        facts = queries.select_facts(tx)
        known = queries.select_ledger_facts(tx)
    issued = facts["certificate"] or certificate.sign(stated(facts, known["processors"]))
    if not known["written"]:
        issued = ledger.write(_entry(known, issued))["certificate"]
    with database().transaction(jobs.claim(job_id)) as tx:
        queries.insert_certificate(tx, issued)
        queries.note_ledger(tx)
        queries.progress(tx, STEP, "done")


def stated(facts: dict[str, Any], processors: list[dict[str, Any]]) -> dict[str, Any]:
    """What the certificate says, without personal data: API.md, and when the last backup that knew her is gone."""
    counts = facts["counts"]
    return {
        "deletion_id": facts["deletion_id"],
        "scope": facts["scope"],
        "completed_at": facts["completed_at"],
        "tables": [entry for entry in counts if entry["action"] != "keep"],
        "objects_deleted": facts["objects_deleted"],
        "processors": processors,
        "retained": retained([*counts, {"table": PROOF, "rows": 1, "action": "keep"}], facts["held"]),
        "scan": facts["scan"],
        "backups_expire_at": backups_expire_at(facts["completed_at"]),
    }


def backups_expire_at(completed_at: str) -> str:
    """Seven days later, in the same form."""
    return (datetime.fromisoformat(completed_at) + timedelta(days=BACKUP_DAYS)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _entry(known: dict[str, Any], issued: dict[str, Any]) -> dict[str, Any]:
    """What the ledger keeps: enough to erase again, and to prove again that it was done."""
    return {
        "deletion_id": known["deletion_id"],
        "scope": known["scope"],
        "subject_id": known["subject_id"],
        "organization_id": known["organization_id"],
        "organizations": known["organizations"],
        "holds": known["holds"],
        "received_at": known["received_at"],
        "completed_at": issued["completed_at"],
        "receipt_hash": known["receipt_hash"],
        "certificate": issued,
    }
