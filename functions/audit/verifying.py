"""GET /v1/audit-events/verify and /keys: the check of the whole chain, and the keys to check our word with."""

import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from werkzeug.wrappers import Response

from common import access, anchors, certificate, chain, errors
from common.db import database
from common.http import Call, Json, Later, Table
from common.tokens import Claim
from functions.audit import chain_queries as queries
from functions.audit.schemas import PublicKeys, Verification

part = Table()
AT_ONCE = threading.BoundedSemaphore(3)  # whole chains, or pages of them, in this process: the desk has its threads too
TURN_SECONDS = 10
AWAY = "The anchors outside the database cannot be reached for the moment; without them nothing can be said."


@part.on(
    "GET", "/v1/audit-events/verify", needs="audit.view", body=None, answers=Verification, errors=("unavailable",)
)  # fmt: skip
def verify(call: Call) -> Later:
    """Check the whole chain: every hash and link, its head, its base, and that it contains the latest anchor."""
    return Later(partial(_verify, call.caller.claim, call.caller.tenant_id))


@part.on("GET", "/v1/audit-events/keys", needs=access.PUBLIC, body=None, answers=PublicKeys)
def get_keys(_call: Call) -> Json:
    """Read the public keys that anchors, checkpoints and the statements of exports are checked with."""
    return {"keys": certificate.public_keys(certificate.AUDIT_RING)}


def newest_anchor(organization_id: str) -> anchors.Anchor | None:
    """The latest anchor. Raises 503 when nobody knows."""
    try:
        return anchors.newest(organization_id)
    except anchors.Unreachable as error:
        raise unreachable() from error


def unreachable() -> errors.Problem:
    """503: the store of the anchors is away."""
    return errors.Problem("unavailable", AWAY, headers={"Retry-After": "30"})


@contextmanager
def turn() -> Iterator[None]:
    """Not more than a few read whole chains at once. Raises 503."""
    if not AT_ONCE.acquire(timeout=TURN_SECONDS):
        raise errors.Problem("unavailable", "Too many chains are read just now.", headers={"Retry-After": "30"})
    try:
        yield
    finally:
        AT_ONCE.release()


def _verify(claim: Claim, organization_id: str) -> Response:
    try:
        with turn():
            verdict = chain.verify(organization_id, partial(_snapshot, claim))
    except anchors.Unreachable as error:
        raise unreachable() from error
    return Response(json.dumps(verdict.shown()), content_type="application/json")


@contextmanager
def _snapshot(claim: Claim) -> Iterator[tuple[chain.Ends, Iterable[Any]]]:
    with database().transaction(claim, snapshot=True) as tx:
        ends = queries.select_ends(tx)
        yield ends, queries.chain(tx, ends.base.seq)
