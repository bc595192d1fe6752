"""The steps of the workflow gdpr_erasure. Each may be called again at any moment, or by two executions at once.

Work is done in batches, each a transaction of its own with its count, so that a step which dies loses nothing and
counts nothing twice. A long step answers `more` after a while; `waiting` ends the execution: the job rests until
another is started for it. A step that a request does not have, or has done, answers `done`. The order stands in
workflows/gdpr_erasure.yaml: a person's own erasure has a child for each of her organizations, which has the rows there.
"""

import time
import uuid
from collections.abc import Callable

from common import errors, jobs, log, storage, tokens
from common.db import Tx, database
from common.http import Call, Json, Routes
from common.register import register
from functions.deletions import job_queries as queries
from functions.deletions import notice, processors, proof, scanning
from functions.deletions import state_queries as state
from functions.deletions.plan import unknown_tables
from functions.deletions.schemas import Outcome

routes = Routes("deletions-jobs")
STEP = "/internal/deletions/<uuid:job_id>"
WORKFLOWS = "service:workflows"
BATCH_SECONDS = 20.0
MORE, DONE, WAITING = {"outcome": "more"}, {"outcome": "done"}, {"outcome": "waiting"}


@routes.on("POST", f"{STEP}/claim", needs=WORKFLOWS, body=jobs.Step, answers=Outcome)
def claim(call: Call) -> Json:
    """Take the job for this execution: `claimed`, `early`, `waiting` for approval, `refused` for holds, or `lost`."""
    outcome = database().single(
        jobs.claim(),
        "SELECT platform.claim_deletion(:job, :execution, :request)",
        job=call.path["job_id"],
        execution=call.body["execution"],
        request=call.request_id,
    )[0][0]
    return {"outcome": outcome}


@routes.on("POST", f"{STEP}/plan", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def plan(call: Call) -> Json:
    """Check that the database knows every table about people of the register, before anything is touched."""
    if not _begin(call, "plan"):
        return DONE
    job_id = call.path["job_id"]
    with database().transaction(jobs.claim(job_id)) as tx:
        state.ensure_receipt(tx, tokens.digest(tokens.mac("mail-key", "deletion_receipt", job_id)))
        known = queries.known_tables(tx)
    if unknown := unknown_tables(known):
        log.entry("CRITICAL", "the database does not know these tables", tables=unknown)
        raise errors.Problem("internal_error")
    return _end(call, "plan", len(register().about_people(of_tenant=True) + register().about_people(of_tenant=False)))


@routes.on("POST", f"{STEP}/freeze", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def freeze(call: Call) -> Json:
    """Freeze account, membership or organization. `last_owner` ends the job with everything untouched."""
    if not _begin(call, "freeze"):
        return {"outcome": "frozen"}
    with database().transaction(jobs.claim(call.path["job_id"])) as tx:
        outcome = queries.freeze_subject(tx)
        if outcome == "frozen":
            queries.progress(tx, "freeze", "done", 1)
    return {"outcome": outcome}


@routes.on("POST", f"{STEP}/revoke", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def revoke(call: Call) -> Json:
    """End the log-ins and API keys: hers, hers in the organization, or everybody's in it."""
    if _begin(call, "revoke"):
        with database().transaction(jobs.claim(call.path["job_id"])) as tx:
            queries.progress(tx, "revoke", "done", queries.revoke_subject(tx))
    return DONE


@routes.on("POST", f"{STEP}/organizations", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def organizations(call: Call) -> Json:
    """Open the part of a person's own erasure in each of her organizations, by that organization's policy."""
    job_id = call.path["job_id"]
    if not _begin(call, "organizations"):
        return DONE
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        tenants = queries.select_tenants(tx)
    for tenant_id in tenants:
        jobs.check_alive(job_id, call.body["execution"])
        with database().transaction(jobs.claim(job_id, tenant_id)) as tx:
            child = state.open_child(tx, str(uuid.uuid4()))
            _tell_of_child(tx, call, child)
            queries.progress(tx, "organizations", "running", int(child.outcome != "none"))
        state.send([child.message] if child.message else [])
    return _end(call, "organizations")


@routes.on("POST", f"{STEP}/rows", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def rows(call: Call) -> Json:
    """Erase the rows of one organization; `more` when there is more to do."""
    if not _begin(call, "rows"):
        return DONE
    tenant_id = _brief(call).tenant_id or ""
    deadline = time.monotonic() + BATCH_SECONDS
    over = _repeat(call, tenant_id, lambda tx: _erase_in_organization(tx, call), deadline)
    return _end(call, "rows") if over else MORE


@routes.on("POST", f"{STEP}/objects", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def objects(call: Call) -> Json:
    """Delete the files of the exports that hold what is erased."""
    if not _begin(call, "objects"):
        return DONE
    return _end(call, "objects", len(_delete_objects(call.path["job_id"])))


@routes.on("POST", f"{STEP}/account", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def account(call: Call) -> Json:
    """Delete what the platform itself holds, the account last; `more` when there is more to do."""
    if not _begin(call, "account"):
        return DONE

    def batch(tx: Tx) -> bool:
        erased = queries.erase_account(tx)
        queries.progress(tx, "account", "running", erased)
        if erased == 0:
            state.note_held(tx)
        return erased == 0

    return _end(call, "account") if _repeat(call, "", batch, time.monotonic() + BATCH_SECONDS) else MORE


@routes.on("POST", f"{STEP}/children", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def children(call: Call) -> Json:
    """Go on once every child is over; `waiting` until then: the last one wakes this job."""
    job_id = call.path["job_id"]
    if not _begin(call, "children"):
        return DONE
    with database().transaction(jobs.claim(job_id)) as tx:
        outcome = state.await_children(tx, call.body["execution"])
    if outcome == "lost":
        raise jobs.lost()
    if outcome == "waiting":
        return WAITING
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        refused = state.select_refused(tx)
    for tenant_id in refused:
        with database().transaction(jobs.claim(job_id, tenant_id)) as tx:
            state.note_held(tx)
    return _end(call, "children")


@routes.on("POST", f"{STEP}/processors", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def tell_processors(call: Call) -> Json:
    """Tell the processors (Art. 19); `waiting` ends the execution: another one begins when the next try is due."""
    if not _begin(call, "processors"):
        return DONE
    return {"outcome": processors.tell(call.path["job_id"], call.body["execution"])}


@routes.on("POST", f"{STEP}/scan", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict", "unavailable"))
def scan(call: Call) -> Json:
    """Search tables, storage and logs once more; what the platform itself still holds is a defect."""
    job_id = call.path["job_id"]
    if not _begin(call, "scan"):
        return DONE
    _delete_objects(job_id)  # what an export that was running has put there since
    tenant_id = _brief(call).tenant_id
    names = [table.name for table in register().tables.values() if table.of_tenant is (tenant_id is not None)]
    numbers = scanning.numbers(job_id)
    with database().transaction(jobs.claim(job_id, tenant_id or ""), read_only=True) as tx:
        found = dict(zip(names, queries.scan(tx, names, numbers), strict=True))
        held = {entry["table"]: entry["rows"] for entry in queries.select_facts(tx)["held"]}
    # What a hold kept that was lifted meanwhile is the follow-up's, which begins at the end of this erasure.
    left = [name for name, hits in found.items() if hits > held.get(name, 0)]
    if tenant_id is None and left:
        log.entry("CRITICAL", "an erasure left rows", tables=left)
        raise errors.Problem("internal_error")
    outside = scanning.outside(job_id)
    hits = sum(found.values()) + outside.hits
    with database().transaction(jobs.claim(job_id)) as tx:
        queries.note_scan(tx, len(names) + outside.places, hits)
        queries.progress(tx, "scan", "done", hits)
    return DONE


@routes.on("POST", f"{STEP}/certificate", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict",))
def issue_certificate(call: Call) -> Json:
    """Write the ledger, and sign what was done; a certificate that exists stays."""
    if _begin(call, "certificate"):
        proof.issue(call.path["job_id"])
    return DONE


@routes.on(
    "POST", f"{STEP}/notify", needs=WORKFLOWS, body=jobs.Step, answers=Outcome, errors=("conflict", "unavailable")
)
def notify(call: Call) -> Json:
    """Mail the receipt to the address that was kept for this, and forget it."""
    if not _begin(call, "notify"):
        return DONE
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
    _finish(call, jobs.DONE, None)
    return DONE


@routes.on("POST", f"{STEP}/failed", needs=WORKFLOWS, body=jobs.Failure, answers=Outcome, errors=("conflict",))
def failed(call: Call) -> Json:
    """The workflow gave up: the erasure has failed, and says so."""
    log.entry("ERROR", "an erasure failed", job_id=call.path["job_id"], reason=call.body["reason"])
    _finish(call, jobs.FAILED, call.body["reason"])
    return {"outcome": "failed"}


def _tell_of_child(tx: Tx, call: Call, child: state.Child) -> None:
    """Her organization learns that it has a part in the erasure, or that a hold keeps all of it."""
    request, part = call.request_id, {"scope": "user", "channel": "child"}
    if child.outcome == "opened":
        tx.audit("deletion.requested", "deletion", child.job_id, request_id=request, data=part)
    elif child.outcome == "refused":
        held = {"scope": "user", "channel": "child", "reason": "legal_hold"}
        tx.audit("deletion.refused", "deletion", child.job_id, request_id=request, outcome="denied", data=held)


def _finish(call: Call, outcome: str, reason: str | None) -> None:
    if not state.end(call.path["job_id"], call.body["execution"], outcome, reason, call.request_id):
        raise jobs.lost()


def _begin(call: Call, step: str) -> bool:
    """Whether there is something to do: the request has this step, and has not done it."""
    jobs.check_alive(call.path["job_id"], call.body["execution"])
    with database().transaction(jobs.claim(call.path["job_id"])) as tx:
        return state.begin_step(tx, step) == "run"


def _brief(call: Call) -> state.Brief:
    with database().transaction(jobs.claim(call.path["job_id"]), read_only=True) as tx:
        return state.select_brief(tx)


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
    queries.progress(tx, "rows", "running", erased.rows + len(events))
    if erased.rows or events:
        return False
    state.note_held(tx)
    queries.organization_done(tx)
    return True


def _prefixes(job_id: str) -> list[str]:
    """The folders in storage of the exports that hold what is erased."""
    with database().transaction(jobs.claim(job_id)) as tx:
        return [f"exports/{export_id}/" for export_id in queries.select_exports(tx)]


def _delete_objects(job_id: str) -> list[str]:
    """Delete the objects of those exports; their number is noted before the first one goes."""
    names = [name for prefix in _prefixes(job_id) for name in storage.names(prefix)]
    with database().transaction(jobs.claim(job_id)) as tx:
        queries.note_objects(tx, len(names))
    for name in names:
        storage.delete(name)
    return names
