"""Keys: literal SQL, one function per query. Each is a transaction of its own."""

import json

from common.db import database
from common.tokens import Claim

SYSTEM = Claim("s")


def begin_run(run: str, seconds: int) -> bool:
    """Whether the rotation is this run's alone for so long; False while another one has it."""
    rows = database().single(
        SYSTEM, "SELECT platform.begin_key_run(CAST(:run AS uuid), :seconds)", run=run, seconds=seconds
    )
    return bool(rows[0][0])


def end_run(run: str) -> None:
    """The run is over."""
    database().single(SYSTEM, "SELECT platform.end_key_run(CAST(:run AS uuid))", run=run)


def record_run(done: dict[str, list[str]], failed: list[str], request_id: str) -> None:
    """What a run did stands in the platform's audit chain."""
    database().single(
        SYSTEM,
        "SELECT platform.record_key_run(CAST(:done AS jsonb), CAST(:failed AS text[]), :request_id)",
        done=json.dumps(done),
        failed=failed,
        request_id=request_id,
    )


def record_act(done: str, data: dict[str, object], request_id: str, outcome: str) -> None:
    """What the operator does with keys (`key.rotation_started`, `key.rotated`) stands in the platform's chain too."""
    database().single(
        SYSTEM,
        "SELECT platform.record_key_act(:done, CAST(:data AS jsonb), :request_id, :outcome)",
        done=done,
        data=json.dumps(data),
        request_id=request_id,
        outcome=outcome,
    )


def select_context_kids(kids: list[str]) -> list[str]:
    """The ids of all context keys of the one login that has any of these."""
    rows = database().single(SYSTEM, "SELECT platform.context_kids(CAST(:kids AS text[]))", kids=kids)
    return [row[0] for row in rows]


def add_context_key(beside: list[str], kid: str, key: bytes) -> None:
    """Let the database accept one more key of the login whose keys are `beside`, for what that login may claim."""
    database().single(
        SYSTEM, "SELECT platform.add_context_key(CAST(:beside AS text[]), :kid, :key)", beside=beside, kid=kid, key=key
    )


def retire_context_key(kid: str, kept: list[str]) -> None:
    """The database accepts a key no more; another one of `kept` must be the same login's."""
    database().single(SYSTEM, "SELECT platform.retire_context_key(:kid, CAST(:kept AS text[]))", kid=kid, kept=kept)
