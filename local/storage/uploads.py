"""Uploads of the JSON API: simple, multipart and resumable."""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from aiohttp import BodyPartReader, web

from local.storage.call import Call
from local.storage.conditions import Conditions
from local.storage.content import BLOCK, Hashes, Sink, pour
from local.storage.problems import Problem, invalid
from local.storage.schema import Stored, writable
from local.storage.sessions import Session
from local.storage.store import Draft, Store

GRANULE = 256 * 1024
CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
CANCELLED = 499
Expected = dict[str, str]


async def insert(call: Call) -> web.StreamResponse:
    """POST /upload/storage/v1/b/{bucket}/o?uploadType=media|multipart|resumable"""
    kind = call.query.get("uploadType")
    if kind == "media":
        return await _simple(call)
    if kind == "multipart":
        return await _multipart(call)
    if kind == "resumable":
        return await _begin(call)
    raise invalid("Unknown uploadType.")


async def _simple(call: Call) -> web.StreamResponse:
    meta = {"contentType": call.request.headers.get("Content-Type", "application/octet-stream")}
    name = _name(call.query.get("name"))
    target = (call.names[0], name)
    call.check_new(*target)
    expected = expected_hashes(call.request.headers.get("x-goog-hash", ""))
    body = call.request.content.iter_chunked(BLOCK)
    return web.json_response(call.resource(await receive(call.store, target, meta, call.conditions, body, expected)))


async def _multipart(call: Call) -> web.StreamResponse:
    """Two parts: the resource as JSON, then the bytes."""
    try:
        reader = await call.request.multipart()
        first, resource = await reader.next(), {}
        if isinstance(first, BodyPartReader):
            resource = json.loads(await first.read())
        second = await reader.next()
    except (AssertionError, ValueError) as error:
        raise invalid("Malformed multipart body.") from error
    if not isinstance(second, BodyPartReader) or not isinstance(resource, dict):
        raise invalid("Malformed multipart body.")
    meta = {"contentType": second.headers.get("Content-Type", "application/octet-stream"), **writable(resource)}
    target = (call.names[0], _name(call.query.get("name") or resource.get("name")))
    call.check_new(*target)
    expected = resource_hashes(resource)
    stored = await receive(call.store, target, meta, call.conditions, _part(second), expected)
    return web.json_response(call.resource(stored))


async def _part(part: BodyPartReader) -> AsyncIterator[bytes]:
    while data := await part.read_chunk(GRANULE):
        yield data


async def receive(
    store: Store,
    target: tuple[str, str],
    meta: dict[str, Any],
    conditions: Conditions,
    body: AsyncIterator[bytes],
    expected: Expected,
) -> Stored:
    """One upload in one request. Raises Problem 404, 412, or 400 when a hash differs."""
    store.bucket(target[0])
    conditions.check_write(store.find(*target))
    sink = Sink(store.drafts / secrets.token_hex(16), Hashes())
    try:
        await pour(body, sink)
        check_hashes(sink.hashes, expected)
        await asyncio.to_thread(sink.sync)
        draft = Draft(sink.path, sink.hashes.size, sink.hashes.md5, sink.hashes.crc32c)
        return await asyncio.to_thread(store.put, *target, meta, draft, conditions)
    finally:
        sink.close()
        sink.path.unlink(missing_ok=True)


async def _begin(call: Call) -> web.StreamResponse:
    """The first request of a resumable upload: answers with the session's address."""
    resource = await call.json()
    headers = call.request.headers
    content_type = headers.get("X-Upload-Content-Type", "application/octet-stream")
    meta = {"contentType": content_type, **writable(resource)}
    name = _name(call.query.get("name") or resource.get("name"))
    call.check_new(call.names[0], name)
    length = headers.get("X-Upload-Content-Length")
    if length is not None and not length.isdigit():
        raise invalid("Invalid X-Upload-Content-Length.")
    total = int(length) if length is not None else None
    session = await asyncio.to_thread(
        call.sessions.begin, call.names[0], name, meta | {"expected": resource_hashes(resource)}, call.conditions, total
    )
    location = f"{call.origin}{call.request.path}?uploadType=resumable&upload_id={session.id}"
    return web.Response(headers={"Location": location, "X-GUploader-UploadID": session.id})


async def resume(call: Call) -> web.StreamResponse:
    """PUT to a session: a chunk, or `Content-Range: bytes */…` to ask how much has arrived."""
    key = call.query.get("upload_id", "")
    async with call.sessions.turn(key):
        session = await asyncio.to_thread(call.sessions.get, key)
        if session.state == "cancelled":
            return web.Response(status=CANCELLED)
        if session.state == "done":
            stored = call.store.get(session.bucket, session.name, session.generation, Conditions())
            return web.json_response(call.resource(stored))
        start, total = _content_range(call.request, session)
        if start is None and total != session.received:
            return _incomplete(session.received)
        return await _chunk(call, session, session.received if start is None else start, total)


def _content_range(request: web.Request, session: Session) -> tuple[int | None, int | None]:
    """Offset of the chunk (None: a question) and the total if known (-1: wherever this body ends)."""
    header = request.headers.get("Content-Range")
    if header is None:
        return 0, -1 if session.total is None else session.total
    match = CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise invalid("Failed to parse Content-Range header.")
    first, last, size = match.groups()
    total = session.total if size == "*" else int(size)
    if None not in (session.total, total) and session.total != total:
        raise invalid("The total size differs from the size that was announced.")
    if first is None:
        return None, None if size == "*" else total
    length = request.content_length
    if length is not None and length != int(last) - int(first) + 1:
        raise invalid("Content-Length does not fit Content-Range.")
    return int(first), total


async def _chunk(call: Call, session: Session, start: int, total: int | None) -> web.StreamResponse:
    if start > session.received:
        message = (
            f"Invalid request.  According to the Content-Range header, the upload offset is {start} byte(s), "
            f"which exceeds already uploaded size of {session.received} byte(s)."
        )
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "backendError", message)
    sink = await asyncio.to_thread(call.sessions.sink, session)
    try:
        await pour(_new_bytes(call.request, session.received - start), sink)
        size = sink.hashes.size
        if total is not None and total not in (-1, size):
            if size > total:
                raise invalid("More bytes than the total size.")
            total = None
        if total is not None:
            return web.json_response(call.resource(await _finish(call, session, sink)))
        kept = size - size % GRANULE
        if kept != size:  # a chunk in the middle counts in steps of 256 KiB
            await asyncio.to_thread(sink.cut, kept)
        await asyncio.to_thread(call.sessions.keep, session, sink)
        return _incomplete(kept)
    finally:
        sink.close()


async def _new_bytes(request: web.Request, known: int) -> AsyncIterator[bytes]:
    """The body without the bytes that had arrived before."""
    async for data in request.content.iter_chunked(BLOCK):
        if known < len(data):
            yield data[known:]
        known = max(0, known - len(data))


async def _finish(call: Call, session: Session, sink: Sink) -> Stored:
    """The last byte is here. A hash or precondition that does not hold ends the session."""
    expected = session.meta.pop("expected", {}) | expected_hashes(call.request.headers.get("x-goog-hash", ""))
    try:
        check_hashes(sink.hashes, expected)
        return await asyncio.to_thread(call.sessions.finish, session, sink)
    except Problem:
        await asyncio.to_thread(call.sessions.cancel, session)
        raise


def _incomplete(received: int) -> web.Response:
    """308 Resume Incomplete; without Range when nothing has arrived."""
    headers = {"Range": f"bytes=0-{received - 1}"} if received else {}
    return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers=headers)


async def cancel(call: Call) -> web.StreamResponse:
    """DELETE a session: 499, as Google answers."""
    key = call.query.get("upload_id", "")
    async with call.sessions.turn(key):
        session = await asyncio.to_thread(call.sessions.get, key)
        if session.state == "open":
            await asyncio.to_thread(call.sessions.cancel, session)
    return web.Response(status=CANCELLED)


def expected_hashes(header: str) -> Expected:
    """`crc32c=…,md5=…` of an x-goog-hash header."""
    pairs = [item.strip().partition("=") for item in header.split(",") if "=" in item]
    return {key: value for key, _, value in pairs if key in ("md5", "crc32c")}


def resource_hashes(resource: dict[str, Any]) -> Expected:
    """The hashes that an object resource announces."""
    fields = (("md5", "md5Hash"), ("crc32c", "crc32c"))
    return {key: str(resource[field]) for key, field in fields if resource.get(field)}


def check_hashes(hashes: Hashes, expected: Expected) -> None:
    """Raises Problem 400 when what arrived is not what the client meant to send."""
    for kind, found in (("md5", hashes.md5), ("crc32c", hashes.crc32c)):
        if kind in expected and expected[kind] != found:
            label = kind.upper()
            message = f'Provided {label} hash "{expected[kind]}" doesn\'t match calculated {label} hash "{found}".'
            raise invalid(message)


def _name(value: object) -> str:
    """An object's name: 1 to 1024 bytes of UTF-8, without line ends. Raises Problem 400."""
    name = value if isinstance(value, str) else ""
    if not name:
        raise Problem(400, "required", "Required")
    if len(name.encode(errors="replace")) > 1024 or re.search(r"[\r\n\x00]", name) or name in (".", ".."):
        raise invalid(f"Disallowed object name: {name[:64]!r}")
    return name
