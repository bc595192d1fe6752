"""A run of the rotation, for Cloud Scheduler and for the operator alike, under the lease that keeps two runs apart."""

import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from pg8000.exceptions import DatabaseError

from common import errors, log, secrets
from common.settings import settings
from functions.keys import policies, queries
from functions.keys.rings import Policy
from functions.keys.rotating import Turn
from functions.keys.vault import Overtaken, Vault

Done = dict[str, list[str] | None]  # what was done to each secret, ids alone; None where it failed


class Busy(Exception):
    """Another run has the lease."""


@contextmanager
def alone(seconds: int) -> Iterator[None]:
    """The rotation is ours until the end, or for so many seconds if we die. Raises Busy."""
    run = str(uuid.uuid4())
    if not queries.begin_run(run, seconds):
        raise Busy
    try:
        yield
    finally:
        queries.end_run(run)


def advance(ids: Sequence[str]) -> Done:
    """Bring secrets as far as they may go today. One that fails stops no other one."""
    return {id: _turn(id, lambda policy: policy) for id in ids}


def hasten(ids: Sequence[str], wait: Callable[[float], object] = time.sleep) -> Done:
    """Give secrets a new key that signs as soon as every reader has read it, whatever the old one's age.

    A key that waited already is as well known as the ring that it stood in: it is thrown away.
    """
    settle = 2 * settings().secrets_cache_seconds
    done = {id: _turn(id, lambda policy: replace(policy, period=0, settle=settle, anew=True)) for id in ids}
    wait(settle + 1)
    for id, steps in done.items():
        if steps is not None:
            more = _turn(id, lambda policy: replace(policy, settle=settle))
            done[id] = steps + more if more and any(step.startswith("promoted ") for step in more) else None
    return done


def _turn(id: str, adjusted: Callable[[Policy], Policy]) -> list[str] | None:
    """What was done to a secret; None when it failed."""
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - slow to import, only where it is used

    try:
        policy = policies.policy(id)
        if policy is None:
            return []
        vault = Vault(secrets.client(), settings().project_id)
        steps = Turn(vault, id, adjusted(policy), int(time.time())).take()
    except (GoogleAPIError, DatabaseError, Overtaken, errors.Problem, LookupError, ValueError) as error:
        log.entry("ERROR", "a secret could not be rotated", secret=id, error=type(error).__name__)
        return None
    if steps:
        log.security("NOTICE", "keys rotated", secret=id, steps=steps)
    return steps
