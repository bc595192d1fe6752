"""The whole audit chain, in order: literal SQL, one function per query. Times and sizes are bounded by batch."""

import json
from collections.abc import Iterator
from typing import Any

from common.audit import ORIGIN, Point
from common.chain import Ends, readable
from common.db import Tx

BATCH = 2000  # events that are checked at once; WITH TIES, so that no double hides between two batches
LINES = 500  # events that are copied at once


def select_ends(tx: Tx) -> Ends:
    """Base, head and checkpoint of the organization's chain; one that has no row yet has no event either."""
    row = tx.row(
        """
        SELECT h.base_seq, h.base_hash, h.seq, h.hash, h.checkpoint
        FROM app.audit_heads h WHERE h.tenant_id = :tenant_id
        """
    )
    if row is None:
        return Ends(ORIGIN, ORIGIN, None)
    return Ends(Point(row[0], row[1]), Point(row[2], row[3]), json.loads(row[4]) if row[4] else None)


def select_last(tx: Tx) -> int:
    """The highest seq that an event has, 0 without any: the head's, if nobody has tampered with the chain."""
    return int(tx.value("SELECT coalesce(max(e.seq), 0) FROM app.audit_events e WHERE e.tenant_id = :tenant_id"))


def chain(tx: Tx, base: int) -> Iterator[Any]:
    """Every event behind the base, also behind the head, in order; a batch in memory at a time."""
    seq: int | None = base
    while seq is not None:
        events, seq = tx.rows(
            """
            SELECT coalesce(json_agg(item ORDER BY seq), '[]'), CASE WHEN count(*) >= :batch THEN max(seq) END
            FROM (
                SELECT e.seq, app.audit_event_json(e) AS item FROM app.audit_events e
                WHERE e.tenant_id = :tenant_id AND e.seq > :seq
                ORDER BY e.seq FETCH FIRST (CAST(:batch AS integer)) ROWS WITH TIES
            ) AS batch
            """,
            seq=seq,
            batch=BATCH,
        )[0]
        yield from _parsed(tx, events)


def _parsed(tx: Tx, events: str) -> list[Any]:
    """A batch, at once if that can be; an event that cannot be read, which nobody of ours has written, is none."""
    try:
        return list(json.loads(events))
    except (ValueError, RecursionError):
        rows = tx.rows("SELECT t.item::text FROM json_array_elements(CAST(:events AS json)) AS t (item)", events=events)
        return [readable(row[0]) for row in rows]


def select_lines(tx: Tx, after: int, most: int) -> tuple[bytes, int | None, bool]:
    """Events behind seq `after`, a JSON object a line, at most so many bytes; the last seq, and whether more follow."""
    text, last, more = tx.rows(
        """
        SELECT coalesce(string_agg(line, '' ORDER BY seq) FILTER (WHERE size <= :most), ''),
               max(seq) FILTER (WHERE size <= :most), coalesce(max(size) > :most, false) OR count(*) >= :batch
        FROM (
            SELECT seq, line, sum(octet_length(line)) OVER (ORDER BY seq) AS size
            FROM (
                SELECT e.seq, app.audit_event_json(e)::text || E'\n' AS line FROM app.audit_events e
                WHERE e.tenant_id = :tenant_id AND e.seq > :after
                ORDER BY e.seq FETCH FIRST (CAST(:batch AS integer)) ROWS WITH TIES
            ) AS found
        ) AS sized
        """,
        after=after,
        most=most,
        batch=LINES,
    )[0]
    return text.encode(), last, more
