"""Sentry's ingestion, and a list of what it was told; served by local/telemetry.py on its port.

`POST /api/1/envelope/` takes what the services send, by the key of their DSN. `GET /events` shows the newest events,
`GET /events/<id>` one with everything that was sent: what leaves the house can be read here. The newest stay.
Source: https://develop.sentry.dev/sdk/data-model/envelopes/
"""

import gzip
import json
import re
import secrets
import sqlite3
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from local.durable import database, locked
from local.keys import SENTRY_DSN, SENTRY_PROJECT
from local.layout import Layout
from local.serving import refusal

MOST_EVENTS, SLACK, MOST = 2_000, 100, 500
GZIP = b"\x1f\x8b"
KEY = re.compile(r"\bsentry_key=([0-9a-f]+)")
SCHEMA = """
CREATE TABLE IF NOT EXISTS events (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE, document TEXT);
"""

Json = dict[str, Any]


class Store:
    """Events on disk, with the whole envelope that brought each."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            self.connection = database(folder / "events.db", SCHEMA)

    def close(self) -> None:
        """End."""
        self.connection.close()

    def add(self, header: Json, items: list[tuple[Json, Json]]) -> None:
        """Keep what an envelope brought; an event that was sent twice is one."""
        for item, event in items:
            _told(event)  # who reads the list can, or it is refused
            id = str(event.get("event_id") or header.get("event_id") or secrets.token_hex(16))
            document = json.dumps({"header": header, "item": item, "event": event})
            row = "INSERT INTO events (id, document) VALUES (?, ?) ON CONFLICT DO NOTHING"
            self.connection.execute(row, (id, document))
        kept = self.connection.execute("SELECT count(*) FROM events").fetchone()[0]
        if kept > MOST_EVENTS + SLACK:
            oldest = "DELETE FROM events WHERE place <= (SELECT max(place) FROM events) - ?"
            self.connection.execute(oldest, (MOST_EVENTS,))

    def one(self, id: str) -> Json | None:
        """An event with its envelope."""
        row = self.connection.execute("SELECT document FROM events WHERE id = ?", (id,)).fetchone()
        return json.loads(row[0]) if row else None

    def newest(self, limit: int) -> list[Json]:
        """A line for each of the newest events, the newest first."""
        rows: list[sqlite3.Row] = self.connection.execute(
            "SELECT document FROM events ORDER BY place DESC LIMIT ?", (limit,)
        ).fetchall()
        return [_told(json.loads(row[0])["event"]) for row in rows]


def _told(event: Json) -> Json:
    """What a list says of an event. `at`: seconds since 1970."""
    tags, trace = event.get("tags") or {}, event.get("contexts", {}).get("trace", {})
    errors = event.get("exception", {}).get("values", [])
    frames = errors[-1].get("stacktrace", {}).get("frames", []) if errors else []
    ours = [frame for frame in frames if frame.get("in_app")] or frames
    return {
        "id": event.get("event_id"),
        "type": event.get("type", "error"),
        "level": event.get("level"),
        "at": event.get("timestamp"),
        "service": tags.get("service"),
        "title": errors[-1].get("type") if errors else event.get("logentry", {}).get("message"),
        "place": "{filename}:{lineno}".format(**ours[-1]) if ours else None,
        "transaction": event.get("transaction"),
        "release": event.get("release"),
        "user": (event.get("user") or {}).get("id"),
        "organization": tags.get("organization"),
        "request_id": tags.get("request_id"),
        "trace_id": trace.get("trace_id"),
    }


def parsed(body: bytes) -> tuple[Json, list[tuple[Json, Json]]]:
    """Header and items of an envelope; an item without a length ends with its line. Raises ValueError."""
    head, _, rest = body.partition(b"\n")
    items = []
    while rest.strip():
        line, _, rest = rest.partition(b"\n")
        item = json.loads(line)
        length = item.get("length")
        payload, rest = (rest[:length], rest[length:]) if isinstance(length, int) else rest.partition(b"\n")[::2]
        items.append((item, json.loads(payload)))
        rest = rest.removeprefix(b"\n")
    return json.loads(head), items


def add_routes(made: web.Application, layout: Layout, store: Store) -> None:
    """The routes of Sentry: what is sent needs the key of the DSN, what people read stays on loopback."""

    async def envelope(request: web.Request) -> web.StreamResponse:
        """An event or a transaction."""
        given = KEY.search(request.headers.get("X-Sentry-Auth", ""))
        dsn = layout.path("secrets", SENTRY_DSN, "latest")
        known = urlsplit(dsn.read_text()).username if dsn.exists() else None
        if given is None or given[1] != known or request.match_info["project"] != SENTRY_PROJECT:
            return refusal(403, "event submission rejected")
        body = await request.read()
        try:
            store.add(*parsed(gzip.decompress(body) if body.startswith(GZIP) else body))  # aiohttp may have done it
        except (OSError, EOFError, zlib.error, ValueError, LookupError, AttributeError, TypeError):
            return refusal(400, "invalid envelope")
        return web.json_response({})

    async def events(request: web.Request) -> web.StreamResponse:
        """The newest events, the newest first."""
        limit = request.query.get("limit", "100")
        return web.json_response({"events": store.newest(min(int(limit) if limit.isdecimal() else 100, MOST))})

    async def event(request: web.Request) -> web.StreamResponse:
        """One event, as it was sent."""
        found = store.one(request.match_info["id"])
        return web.json_response(found) if found else refusal(404, "There is no such event.")

    made.router.add_post("/api/{project}/envelope/", envelope)
    made.router.add_get("/events", events)
    made.router.add_get("/events/{id:[0-9a-f]{32}}", event)
