"""Turn key rings now: the code and the lease of the service `keys`, in its environment and by its own log-in."""

import uuid
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from functions.keys import policies, queries, running
from migrations.operator.desk import DENIED, DONE, FAILURE, REFUSED, SUCCESS, Answer, Desk, progress

LEASE_SECONDS = 900  # longer than a run takes; a killed one holds up the next for so long at most


class OwnDesk(Desk):
    """The desk of whoever turns keys: it says what it does, each time at once, and can do nothing else."""

    def __init__(self, noted: dict[str, str]) -> None:
        self._noted = noted
        self.request_id = str(uuid.uuid4())

    @contextmanager
    def transaction(self, how: str = "") -> Iterator[None]:
        """Nothing: there is no connection to share."""
        yield

    def record(self, done: str, kind: str, id: str | None = None, *, outcome: str = SUCCESS, **data: Any) -> None:
        """An event in the platform's chain. Raises Problem."""
        queries.record_act(done, {**self._noted, **data}, self.request_id, outcome)


@contextmanager
def opened(noted: dict[str, str]) -> Iterator[Desk]:
    """As migrations.operator.desk.opened, without the administrator's URL."""
    yield OwnDesk(noted)


def rotate(desk: Desk, chosen: Namespace) -> Answer:
    """What is due for each secret; with --now a new key each, which signs as soon as every reader has read it."""
    ids = sorted(set(chosen.secret)) or [id for id in policies.secret_ids() if id not in policies.not_rotated()]
    wrong = [_why_not(id) for id in ids if id not in policies.secret_ids() or id in policies.not_rotated()]
    if wrong:
        with desk.transaction():
            desk.record("key.rotated", "key", outcome=DENIED, now=chosen.now, result="unknown")
        return Answer(REFUSED, wrong, {"outcome": "unknown"})
    with desk.transaction():
        desk.record("key.rotation_started", "key", now=chosen.now, secrets=ids)
    try:
        with running.alone(LEASE_SECONDS):
            if chosen.now:
                progress("new keys are added; they sign when every reader has read them")
            done = running.hasten(ids) if chosen.now else running.advance(ids)
    except running.Busy:
        with desk.transaction():
            desk.record("key.rotated", "key", outcome=DENIED, now=chosen.now, result="busy")
        return Answer(REFUSED, ["another run is at it: nothing was done"], {"outcome": "busy"})
    return _told(desk, done, chosen.now)


def _told(desk: Desk, done: running.Done, now: bool) -> Answer:
    failed = [id for id, steps in done.items() if steps is None]
    changed = {id: steps for id, steps in done.items() if steps}
    outcome = FAILURE if failed else SUCCESS
    with desk.transaction():
        desk.record("key.rotated", "key", outcome=outcome, now=now, steps=changed, failed=failed)
    lines = [f"{id}: {', '.join(steps)}" for id, steps in changed.items()]
    lines += [f"{id}: failed, see the log above" for id in failed]
    document = {"outcome": outcome, "done": changed, "failed": failed}
    return Answer(REFUSED if failed else DONE, lines or ["nothing is due"], document)


def _why_not(id: str) -> str:
    return f"{id} is not rotated: {policies.not_rotated().get(id, 'there is no such secret')}"
