"""The steps of the workflow gdpr_erasure. Each may be called again at any moment, or by two executions at once.

Work is done in batches, each a transaction of its own with its count, so that a step which dies loses nothing and
counts nothing twice. A long step answers `more` after a while. The order stands in workflows/gdpr_erasure.yaml.
"""

import time
from collections.abc import Callable

from common import errors, jobs, log, storage
from common.db import Tx, database
from common.http import Call, Json, Routes
from common.register import register
from functions.deletions import job_queries as queries
from functions.deletions import notice, processors, proof, scanning
from functions.deletions.plan import unknown_tables
from functions.deletions.schemas import Outcome

routes = Routes("deletions-jobs")
STEP = "/internal/deletions/<uuid:job_id>"
WORKFLOWS = "service:workflows"
BATCH_SECONDS = 20.0
MORE, DONE = {"outcome": "more"}, {"outcome": "done"}


@routes.on("POST", f"{STEP}/claim", needs=WORKFLOWS, body=jobs.Step, answers=Outcome)
def claim(call: Call) -> Json:
    """Take the job for this execution: `claimed`, `early` while the grace period lasts, or `lost`."""
    outcome = database().single(
        jobs.claim(),
        "SELECT platform.claim_deletion(:job, :execution)",
        job=call.path["job_id"],
        execution=call.body["execution"],
    )[0][0]
    return {"outcome": outcome}


@routes.on("POST", f"{STEP}/plan", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def plan(call: Call) -> Json:
    """Check that the database knows every table about people of the register, before anything is touched."""
    _begin(call, "plan")
    with database().transaction(jobs.claim(call.path["job_id"]), read_only=True) as tx:
        known = queries.known_tables(tx)
    if unknown := unknown_tables(known):
        log.entry("CRITICAL", "the database does not know these tables", tables=unknown)
        raise errors.Problem("internal_error")
    return _end(call, "plan", len(register().about_people(of_tenant=True) + register().about_people(of_tenant=False)))


@routes.on("POST", f"{STEP}/freeze", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def freeze(call: Call) -> Json:
    """Freeze the account: nobody logs in any more. `last_owner` ends the job with the account untouched."""
    _begin(call, "freeze")
    with database().transaction(jobs.claim(call.path["job_id"])) as tx:
        outcome = queries.freeze_subject(tx)
        if outcome == "frozen":
            queries.progress(tx, "freeze", "done", 1)
    return {"outcome": outcome}


@routes.on("POST", f"{STEP}/revoke", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def revoke(call: Call) -> Json:
    """End every log-in of the person."""
    _begin(call, "revoke")
    with database().transaction(jobs.claim(call.path["job_id"])) as tx:
        queries.progress(tx, "revoke", "done", queries.revoke_subject(tx))
    return DONE


@routes.on("POST", f"{STEP}/organizations", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def organizations(call: Call) -> Json:
    """Leave each organization, or erase it with its only member; `more` when there is more to do."""
    job_id = call.path["job_id"]
    _begin(call, "organizations")
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        tenants = queries.select_tenants(tx)
    deadline = time.monotonic() + BATCH_SECONDS
    for tenant_id in tenants:
        if not _repeat(call, tenant_id, lambda tx: _erase_in_organization(tx, call), deadline):
            return MORE
    return _end(call, "organizations")


@routes.on("POST", f"{STEP}/objects", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def objects(call: Call) -> Json:
    """Delete the files of the person's exports."""
    _begin(call, "objects")
    return _end(call, "objects", len(_delete_objects(call.path["job_id"])))


@routes.on("POST", f"{STEP}/account", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def account(call: Call) -> Json:
    """Delete what the platform itself holds, the account last; `more` when there is more to do."""
    _begin(call, "account")

    def batch(tx: Tx) -> bool:
        erased = queries.erase_account(tx)
        queries.progress(tx, "account", "running", erased)
        return erased == 0

    return _end(call, "account") if _repeat(call, "", batch, time.monotonic() + BATCH_SECONDS) else MORE


@routes.on("POST", f"{STEP}/processors", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def tell_processors(call: Call) -> Json:
    """Tell the processors (Art. 19); `waiting` ends the execution: another one begins when the next try is due."""
    _begin(call, "processors")
    return {"outcome": processors.tell(call.path["job_id"], call.body["execution"])}


@routes.on("POST", f"{STEP}/scan", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict", "unavailable"))
def scan(call: Call) -> Json:
    """Search every table of the register and storage once more; what the platform itself still holds is a defect."""
    job_id = call.path["job_id"]
    _begin(call, "scan")
    _delete_objects(job_id)  # what an export that was running has put there since
    of_tenant = [table.name for table in register().tables.values() if table.of_tenant]
    own = [table.name for table in register().tables.values() if not table.of_tenant]
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        tenants = queries.select_tenants(tx)
        found = dict(zip(own, queries.scan(tx, own), strict=True))
    if any(found.values()):
        log.entry("CRITICAL", "an erasure left rows", tables=[name for name, hits in found.items() if hits])
        raise errors.Problem("internal_error")
    outside = scanning.outside(job_id)
    hits, places = outside.hits, len(own) + outside.places
    for tenant_id in tenants:
        with database().transaction(jobs.claim(job_id, tenant_id), read_only=True) as tx:
            hits += sum(queries.scan(tx, of_tenant))
            places += len(of_tenant)
    with database().transaction(jobs.claim(job_id)) as tx:
        queries.note_scan(tx, places, hits)
        queries.progress(tx, "scan", "done", hits)
    return DONE


@routes.on("POST", f"{STEP}/certificate", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def issue_certificate(call: Call) -> Json:
    """Write the ledger, and sign what was done; a certificate that exists stays."""
    _begin(call, "certificate")
    proof.issue(call.path["job_id"])
    return DONE


@routes.on(
    "POST", f"{STEP}/notify", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict", "unavailable")
)
def notify(call: Call) -> Json:
    """Mail the receipt to the address that was kept for this, and forget it."""
    _begin(call, "notify")
    notice.send(call.path["job_id"])
    return _end(call, "notify")


@routes.on("POST", f"{STEP}/finish", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def finish(call: Call) -> Json:
    """The erasure is complete; an address to which no mail could be sent is forgotten too."""
    job_id, execution = call.path["job_id"], call.body["execution"]
    jobs.check_alive(job_id, execution)
    with database().transaction(jobs.claim(job_id)) as tx:
        if queries.mail_pending(tx):
            log.entry("ERROR", "the last mail of an erasure could not be sent", job_id=job_id)
            queries.progress(tx, "notify", "failed")
            queries.forget_subject(tx)
    _finish(job_id, execution, jobs.DONE, None)
    return DONE


@routes.on("POST", f"{STEP}/failed", needs=WORKFLOWS, body=jobs.Failure, answers=Outcome, errors=("conflict",))
def failed(call: Call) -> Json:
    """The workflow gave up: the erasure has failed, and says so."""
    log.entry("ERROR", "an erasure failed", job_id=call.path["job_id"], reason=call.body["reason"])
    _finish(call.path["job_id"], call.body["execution"], jobs.FAILED, call.body["reason"])
    return {"outcome": "failed"}


def _finish(job_id: str, execution: str, outcome: str, reason: str | None) -> None:
    rows = database().single(
        jobs.claim(),
        "SELECT platform.finish_deletion(:job, :execution, :outcome, :reason)",
        job=job_id,
        execution=execution,
        outcome=outcome,
        reason=reason,
    )
    if rows[0][0] is not True:
        raise jobs.lost()


def _begin(call: Call, step: str) -> None:
    jobs.check_alive(call.path["job_id"], call.body["execution"])
    with database().transaction(jobs.claim(call.path["job_id"])) as tx:
        queries.progress(tx, step, "running")


def _end(call: Call, step: str, rows: int = 0) -> dict[str, str]:
    with database().transaction(jobs.claim(call.path["job_id"])) as tx:
        queries.progress(tx, step, "done", rows)
    return DONE


def _repeat(call: Call, tenant_id: str, batch: Callable[[Tx], bool], deadline: float) -> bool:
    """Run batches, each in a transaction of its own, until one says that nothing is left; False when time is up."""
    job_id = call.path["job_id"]
    while time.monotonic() < deadline:
        jobs.check_alive(job_id, call.body["execution"])
        with database().transaction(jobs.claim(job_id, tenant_id)) as tx:
            over = batch(tx)
        if over:
            return True
    return False


def _erase_in_organization(tx: Tx, call: Call) -> bool:
    """One batch in the sealed organization; True when nothing is left to do there."""
    mode = queries.enter_organization(tx)
    if mode == "done":
        return True
    erased = queries.erase_batch(tx, mode)
    job_id = call.path["job_id"]
    data = {"deletion_id": job_id}
    if erased.left is not None:
        tx.audit("member.erased", "member", erased.left, request_id=call.request_id, data=data)
    events = [] if erased.rows or mode == "whole" else queries.erase_personal(tx)
    if events:
        tx.audit("personal.erased", "deletion", job_id, request_id=call.request_id, data={"events": events})
    queries.progress(tx, "organizations", "running", erased.rows + len(events))
    if erased.rows or events:
        return False
    queries.organization_done(tx)
    return True


def _prefixes(job_id: str) -> list[str]:
    """The folders of the person's exports in storage."""
    with database().transaction(jobs.claim(job_id)) as tx:
        return [f"exports/{export_id}/" for export_id in queries.select_exports(tx)]


def _delete_objects(job_id: str) -> list[str]:
    """Delete the objects of the person's exports; their number is noted before the first one goes."""
    names = [name for prefix in _prefixes(job_id) for name in storage.names(prefix)]
    with database().transaction(jobs.claim(job_id)) as tx:
        queries.note_objects(tx, len(names))
    for name in names:
        storage.delete(name)
    return names
