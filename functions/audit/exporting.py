"""GET /v1/audit-events/export: the chain as NDJSON, in pages; the last ends with a signed statement about it all."""

import json
from datetime import UTC, datetime
from functools import partial
from typing import Any

from werkzeug.wrappers import Response

from common import anchors, certificate, chain, errors
from common.audit import STATEMENT
from common.db import Tx, database
from common.http import Call, Later, Table
from common.settings import settings
from functions.audit import chain_queries as queries
from functions.audit.schemas import ExportFrom
from functions.audit.verifying import newest_anchor, turn

part = Table()
PATH = "/v1/audit-events/export"
NDJSON = "application/x-ndjson"
PAGE_BYTES = 16 * 1024 * 1024
STATEMENT_BYTES = 256 * 1024  # kept free for the statement: its keys grow by a handful a year


@part.on(
    "GET", PATH, needs="audit.view", query=ExportFrom, body=None, answers=None, media=NDJSON, records=True,
    errors=("unavailable",),
)  # fmt: skip
def export(call: Call) -> Later:
    """Export the chain from an event on, a JSON object a line; reading it is an event itself.

    A page has 16 MiB at most and names the next one in its Link. The pages one after another, from the first event on,
    are the file that `python -m common.audit verify FILE` checks; it ends with a signed statement.
    """
    ends, last = queries.select_ends(call.tx), queries.select_last(call.tx)
    first = call.query["from_seq"] or ends.base.seq + 1
    _refuse_outside(first, ends, max(ends.head.seq, last))
    call.audit("audit.exported", from_seq=first)
    return Later(partial(_page, call, first))


def _refuse_outside(first: int, ends: chain.Ends, last: int) -> None:
    """422 for a page that begins where no event is. The one that records this request is the next of the chain."""
    if first <= ends.base.seq:
        dropped = f"Retention has dropped the events up to {ends.base.seq}: begin at {ends.base.seq + 1}."
        raise errors.invalid({"from_seq": [dropped]})
    if first > last + 1:
        raise errors.invalid({"from_seq": [f"The last event is {last}."]})


def _page(call: Call, first: int) -> Response:
    """The anchor is older than the snapshot, so that this contains it; `at` lies between both."""
    organization_id = call.caller.tenant_id
    anchor, at = newest_anchor(organization_id), datetime.now(UTC)
    with turn(), database().transaction(call.caller.claim, snapshot=True) as tx:
        ends = queries.select_ends(tx)
        _refuse_outside(first, ends, first)
        chunks, following = _chunks(tx, first)
    if following is None:
        database().settle()  # before the head is signed: no crash may take it back afterwards
        chunks.append(_statement(organization_id, ends, anchor, at))
    else:
        call.headers["Link"] = f'<{settings().public_url}{PATH}?from_seq={following}>; rel="next"'
    return Response(chunks, content_type=NDJSON)


def _chunks(tx: Tx, first: int) -> tuple[list[bytes], int | None]:
    """The lines of a page, and the seq that the next one begins with, None on the last one."""
    chunks: list[bytes] = []
    left, last, more = PAGE_BYTES - STATEMENT_BYTES, first - 1, True
    while more:
        chunk, reached, more = queries.select_lines(tx, last, left)
        if reached is None:
            if more and not chunks:
                raise ValueError("an event is larger than a page")
            break
        chunks.append(chunk)
        left, last = left - len(chunk), reached
    return chunks, last + 1 if more else None


def _statement(organization_id: str, ends: chain.Ends, anchor: anchors.Anchor | None, at: datetime) -> bytes:
    """The line that closes an export: without it, the file was cut."""
    facts: dict[str, Any] = {
        "kind": STATEMENT,
        "organization_id": organization_id,
        "base": ends.base._asdict(),
        "head": ends.head._asdict(),
        "anchored": chain.anchored(anchor),
        "checkpoint": ends.checkpoint,
        "keys": certificate.public_keys(certificate.AUDIT_RING),
        "at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return json.dumps(certificate.sign(facts, certificate.AUDIT_RING), separators=(",", ":")).encode() + b"\n"
