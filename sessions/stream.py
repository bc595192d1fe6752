"""A stream of server-sent events: what the hub has for its reader, until one of both ends it.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from secrets import randbelow

from common import errors
from sessions.hub import CUTS, PARDON_SECONDS, Hub
from sessions.topic import FLUSHED, GONE, Behind, Chunk, Reader

RETRY_MS = 1000
SPREAD_MS = 2000  # streams of a replica that goes do not all come back in the same moment
HEARTBEAT = b": \n\n"
CATCHING_UP = 64  # streams that read from the database at a time
FINAL = frozenset({"session_closed", "not_found", "permission_denied"})  # nothing to come back for

Put = Callable[[bytes], Awaitable[None]]
_catching_up = asyncio.Semaphore(CATCHING_UP)


def begin() -> bytes:
    """What every stream starts with: how soon to come back when it breaks off."""
    return b"retry: %d\n: open\n\n" % RETRY_MS


def farewell(reader: Reader) -> bytes:
    """The last words: why it ends, and behind which event to go on."""
    body = json.dumps({"code": reader.code, "resume_after": reader.position}, separators=(",", ":"))
    retry = "" if reader.code in FINAL else f"retry: {RETRY_MS + randbelow(SPREAD_MS)}\n"
    return f"{retry}event: end\ndata: {body}\n\n".encode()


async def next_chunk(hub: Hub, reader: Reader) -> Chunk | None:
    """The next events for a reader, None when there are none yet. Cuts it when it cannot go on."""
    while True:
        try:
            chunk = reader.topic.after(reader.position)
        except Behind:
            if _too_slow(reader):
                reader.cut("slow_reader")
                return None
            chunk = await _from_database(hub, reader)
            if chunk is None and not is_over(reader):
                continue  # what follows the hole may be here already
            return chunk
        if chunk is None:
            reader.live = True
        return chunk


def _too_slow(reader: Reader) -> bool:
    """A burst may leave anybody behind for once: she reads the rest from the database, and is to come up soon."""
    now = asyncio.get_running_loop().time()
    recently = reader.fell is not None and now - reader.fell < PARDON_SECONDS
    if reader.live:
        reader.live, reader.fell = False, now
        return recently
    return reader.fell is not None and not recently


async def _from_database(hub: Hub, reader: Reader) -> Chunk | None:
    """A page of what a resumed stream has missed."""
    kept = reader.topic.first_kept
    try:
        async with _catching_up:
            first, events = await hub.read(reader.claim, reader.place, reader.position)
    except errors.Problem as problem:
        reader.cut(problem.code if problem.code in CUTS else "unavailable")
        return None
    if events:
        return Chunk(first, events)
    reader.position = max(reader.position, kept - 1)  # what lay between has gone: for its age, or with its author
    return None


def is_over(reader: Reader) -> bool:
    """Whether the stream ends now: at once, or when everything that was said has been delivered."""
    return reader.code is not None and (reader.code not in FLUSHED or reader.position >= reader.topic.tip)


async def serve(hub: Hub, reader: Reader, put: Put) -> None:
    """Send events and heartbeats until the stream ends; `put` waits while the client takes nothing."""
    loop = asyncio.get_running_loop()

    async def send(data: bytes) -> None:
        reader.sending = loop.time()
        await put(data)
        reader.sending = None

    await send(begin())
    while not is_over(reader):
        chunk = await next_chunk(hub, reader)
        if chunk is not None:
            await send(chunk.frames)
            reader.position = chunk.last_seq
        elif reader.beat:
            reader.beat = False
            await send(HEARTBEAT)
        elif not is_over(reader):
            await reader.changed()
    if reader.code != GONE:
        await send(farewell(reader))
