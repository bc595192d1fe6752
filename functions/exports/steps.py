"""The steps of the workflow gdpr_export. Each may be called again at any moment, or by two executions at once.

What a step makes in storage has a name of its own; the database takes the first that says it is done, the other deletes
what it made. The order of steps stands in workflows/gdpr_export.yaml.
"""

import time
import uuid
from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any

from common import errors, jobs, storage
from common.db import database
from common.http import Call, Json, Routes
from common.settings import settings
from functions.exports import copying, notice, package, phones, queries, writing
from functions.exports.queries import Part
from functions.exports.schemas import Claimed, Done, Plan

routes = Routes("exports-jobs")
STEP = "/internal/exports/<uuid:job_id>"
WORKFLOWS = "service:workflows"
HEARTBEAT_SECONDS = 30
TOGETHER = 8  # parts that are whole tables, in one call
ZIP_TYPE = "application/zip"


def _place(job_id: str, kind: str) -> str:
    """A new object name under the export's prefix."""
    return f"exports/{job_id}/{kind}/{uuid.uuid4().hex}"


@routes.on("POST", f"{STEP}/claim", needs=WORKFLOWS, body=jobs.Step, answers=Claimed, errors=("conflict",))
def claim(call: Call) -> Json:
    """Take the job for this execution, or learn that its objects are to be removed."""
    work = database().single(
        jobs.claim(),
        "SELECT platform.claim_export(:job, :execution)",
        job=call.path["job_id"],
        execution=call.body["execution"],
    )[0][0]
    if work is None:
        raise jobs.lost()
    return {"work": work}


@routes.on("POST", f"{STEP}/plan", needs=WORKFLOWS, body=jobs.Step, answers=Plan, errors=("conflict",))
def plan(call: Call) -> Json:
    """Divide the copy into parts, once; answers those that are not done."""
    job_id = call.path["job_id"]
    jobs.check_alive(job_id, call.body["execution"])
    with database().transaction(jobs.claim(job_id)) as tx:
        parts, request = queries.select_parts(tx), queries.select_request(tx)
    if not parts:
        parts = copying.of_platform(request["scope"])
        for organization in request["organizations"]:
            with database().transaction(jobs.claim(job_id, organization["id"]), read_only=True) as tx:
                parts += writing.parts(tx, organization["id"], copying.of_tenants(request["scope"]))
        with database().transaction(jobs.claim(job_id)) as tx:
            queries.insert_plan(tx, parts)
            parts = queries.select_parts(tx)
    return {"parts": grouped([part for part in parts if part.status != "done"])}


def grouped(parts: list[Part]) -> list[str]:
    """What the workflow calls: ranges one by one and first, whole tables, which are small, TOGETHER at a time."""
    ranges = [part.name for part in parts if part.ranged]
    tables = [part.name for part in parts if not part.ranged]
    return ranges + [",".join(tables[at : at + TOGETHER]) for at in range(0, len(tables), TOGETHER)]


@routes.on("POST", f"{STEP}/parts/<names>", needs=WORKFLOWS, body=jobs.Step, answers=Done, errors=("conflict",))
def copy_parts(call: Call) -> Json:
    """Stream one part after the other from COPY into storage; names are separated by commas."""
    job_id, execution = call.path["job_id"], call.body["execution"]
    jobs.check_alive(job_id, execution)
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        known = {part.name: part for part in queries.select_parts(tx)}
        request = queries.select_request(tx)
    names = call.path["names"].split(",")
    if not known.keys() >= set(names):
        raise errors.not_found()
    due = [known[name] for name in names if known[name].status != "done"]
    for _, together in groupby(due, key=lambda part: part.tenant_id):
        _copy(job_id, execution, list(together), request)
    return {"state": "done"}


def _copy(job_id: str, execution: str, parts: list[Part], request: dict[str, Any]) -> None:
    """Copy parts of one organization: read in one transaction, noted in another."""
    copies = copying.copies(request["scope"])
    with database().transaction(jobs.claim(job_id, parts[0].tenant_id or ""), read_only=True) as tx:
        shapes = queries.select_shapes(tx, [part.table_name for part in parts])
        copied = []
        for part in parts:
            if part.table_name == phones.TABLE:
                phones.reveal(tx)
            copy, shape = copies[part.table_name], shapes[part.table_name]
            copied.append(writing.store(tx, copy, shape, request["format"], part, _place(job_id, "parts")))
    with database().transaction(jobs.claim(job_id)) as tx:
        counted = queries.finish_parts(tx, execution, copied)
    _yield_to_another(
        job_id, execution, [part.object_name for part, counts in zip(copied, counted, strict=True) if not counts]
    )


@routes.on("POST", f"{STEP}/assemble", needs=WORKFLOWS, body=jobs.Step, answers=Done, errors=("conflict",))
def assemble(call: Call) -> Json:
    """Make one ZIP of all parts; the export is ready then."""
    job_id, execution = call.path["job_id"], call.body["execution"]
    jobs.check_alive(job_id, execution)
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        request, parts = queries.select_request(tx), queries.select_parts(tx)
        shapes = queries.select_shapes(tx, list(copying.copies(request["scope"])))
    if request["object_name"] is not None:
        return {"state": "ready"}
    if not parts or any(part.status != "done" for part in parts):
        raise errors.conflict("conflict", "A part is missing.")
    place = _place(job_id, "package")
    with storage.uploading(place, ZIP_TYPE) as sink:
        package.write(sink, request, parts, shapes, partial(_blocks, job_id, execution))
    with database().transaction(jobs.claim(job_id, request["organization_id"])) as tx:
        counts = queries.finish_package(
            tx,
            execution,
            object_name=place,
            size=sink.size,
            sha256=sink.sha256,
            seconds=settings().export_file_seconds,
        )
        if counts:
            tx.audit("export.completed", "export", job_id, request_id=call.request_id)
    _yield_to_another(job_id, execution, [] if counts else [place])
    return {"state": "ready"}


def _blocks(job_id: str, execution: str, name: str) -> Iterator[bytes]:
    """An object's blocks, with a heartbeat every now and then: a large package takes longer than silence may last."""
    beaten = time.monotonic()
    for block in storage.blocks(name):
        if time.monotonic() - beaten > HEARTBEAT_SECONDS:
            jobs.check_alive(job_id, execution)
            beaten = time.monotonic()
        yield block


def _yield_to_another(job_id: str, execution: str, places: list[str | None]) -> None:
    """Delete what does not count: another call was first, or the job is lost, and then it is a 409."""
    if not places:
        return
    for place in filter(None, places):
        storage.delete(place)
    jobs.check_alive(job_id, execution)


@routes.on("POST", f"{STEP}/notify", needs=WORKFLOWS, body=jobs.Step, answers=Done, errors=("conflict", "unavailable"))
def notify(call: Call) -> Json:
    """Mail the requester that the package is there; once, or twice when a crash fell between sending and noting it."""
    job_id, execution = call.path["job_id"], call.body["execution"]
    jobs.check_alive(job_id, execution)
    return {"state": notice.send(job_id, call.request_id)}


@routes.on("POST", f"{STEP}/finish", needs=WORKFLOWS, body=jobs.Step, answers=Done, errors=("conflict",))
def finish(call: Call) -> Json:
    """Delete the parts, and packages that a crash left uncounted, and end the job."""
    job_id = call.path["job_id"]
    jobs.check_alive(job_id, call.body["execution"])
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        kept = queries.select_request(tx)["object_name"]
    _keep_only(job_id, kept)
    jobs.finish(job_id, call.body["execution"], jobs.DONE)
    return {"state": "done"}


@routes.on("POST", f"{STEP}/failed", needs=WORKFLOWS, body=jobs.Failure, answers=Done, errors=("conflict",))
def failed(call: Call) -> Json:
    """The workflow gave up: the export has failed, unless it was ready already; what it made is deleted."""
    job_id, execution = call.path["job_id"], call.body["execution"]
    jobs.check_alive(job_id, execution)
    with database().transaction(jobs.claim(job_id), read_only=True) as tx:
        organization_id = queries.select_request(tx)["organization_id"]
    with database().transaction(jobs.claim(job_id, organization_id)) as tx:
        state = queries.fail_export(tx, job_id, execution, call.body["reason"])
        if state == "failed":
            tx.audit("export.failed", "export", job_id, request_id=call.request_id, outcome="failure")
    if state is None:
        raise jobs.lost()
    if state == "failed":
        _remove(job_id)
    else:  # only its mail could not be sent: the package stays
        storage.delete_all(f"exports/{job_id}/parts/")
    return {"state": state}


@routes.on("POST", f"{STEP}/remove", needs=WORKFLOWS, body=jobs.Step, answers=Done, errors=("conflict",))
def remove(call: Call) -> Json:
    """Delete the objects of an export that is over."""
    job_id = call.path["job_id"]
    work = database().single(
        jobs.claim(),
        "SELECT platform.claim_export(:job, :execution)",
        job=job_id,
        execution=call.body["execution"],
    )[0][0]
    if work == "export":
        raise jobs.lost()
    if work == "remove":
        _remove(job_id)
    return {"state": "removed"}


def _keep_only(job_id: str, kept: str) -> None:
    for name in storage.names(f"exports/{job_id}/"):
        if name != kept:
            storage.delete(name)


def _remove(job_id: str) -> None:
    storage.delete_all(f"exports/{job_id}/")
    database().single(jobs.claim(), "SELECT platform.export_removed(:job)", job=job_id)
