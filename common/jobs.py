"""What both job services share: claim a job for a workflow's execution, prove that it is still ours, finish it.

A step is `POST /internal/<kind>s/<job id>/<step>` with `{"execution": id}`. The first one claims the job by
compare-and-set; every later one begins with `check_alive` and then works as `claim(job_id, tenant_id)`. A 409 tells the
workflow that the job is over, cancelled, or another execution's: it ends there without touching anything.
"""

from marshmallow import fields, validate

from common import errors
from common.db import database
from common.schemas import Schema
from common.tokens import Claim

LOST = "The job is over, cancelled, or in the hands of another execution."
FAILED, DONE = "failed", "done"


class Step(Schema):
    """The body of every step: the execution id of the workflow."""

    execution = fields.String(required=True, validate=validate.Length(min=1, max=128))


class Failure(Step):
    """The body of a `failed` step; `reason` is a code or a short text without personal data."""

    reason = fields.String(load_default="failed", validate=validate.Length(max=500))


def claim(job_id: str = "", tenant_id: str = "") -> Claim:
    """The system claim of a running job, in one of its organizations or in none; without a job it sees nothing."""
    return Claim("s", tenant_id, job_id)


def check_alive(job_id: str, execution: str) -> None:
    """Heartbeat and guard of every later step. Raises 409.

    In a short transaction of its own: it must not keep the job's row locked while the step works.
    """
    _or_lost(database().single(claim(), "SELECT platform.job_alive(:job, :execution)", job=job_id, execution=execution))


def finish(job_id: str, execution: str, outcome: str) -> None:
    """Last step: `done` or `failed`; saying it again is fine. Raises 409."""
    _or_lost(
        database().single(
            claim(),
            "SELECT platform.finish_job(:job, :execution, :outcome)",
            job=job_id,
            execution=execution,
            outcome=outcome,
        )
    )


def lost() -> errors.Problem:
    """409 for a step whose execution does not have the job."""
    return errors.conflict("conflict", LOST)


def _or_lost(rows: list[list[object]]) -> None:
    if not rows or rows[0][0] is not True:
        raise lost()
