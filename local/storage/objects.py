"""Objects in the JSON API: metadata, media, list, patch, delete, compose, rewrite and copy."""

import asyncio
import base64
import binascii
import secrets
from typing import Any

from aiohttp import web

from local.storage.call import Call
from local.storage.conditions import Conditions
from local.storage.content import BLOCK, Hashes, Sink
from local.storage.media import send
from local.storage.problems import invalid
from local.storage.schema import Stored, writable
from local.storage.store import Change, Draft, Store

LAST = "\U0010ffff"
PAGE = 1000
COMPOSED_AT_MOST = 32


async def get(call: Call) -> web.StreamResponse:
    """GET /storage/v1/b/{bucket}/o/{object}, with alt=media the bytes."""
    bucket, name = call.pair
    if call.query.get("alt") == "media":
        stored, file = await asyncio.to_thread(call.store.open, bucket, name, call.generation, call.conditions)
        return await send(call.request, stored, file, {})
    stored = await asyncio.to_thread(call.store.get, bucket, name, call.generation, call.conditions)
    return web.json_response(call.resource(stored))


async def download(call: Call) -> web.StreamResponse:
    """GET /download/storage/v1/b/{bucket}/o/{object}?alt=media"""
    stored, file = await asyncio.to_thread(call.store.open, *call.pair, call.generation, call.conditions)
    return await send(call.request, stored, file, {})


async def list_all(call: Call) -> web.StreamResponse:
    """GET /storage/v1/b/{bucket}/o?prefix=&delimiter=&startOffset=&endOffset=&maxResults=&pageToken="""
    (bucket,) = call.names
    call.store.bucket(bucket)
    items, prefixes, token = await asyncio.to_thread(_listed, call.store, bucket, dict(call.query))
    body: dict[str, Any] = {"kind": "storage#objects"}
    if items:
        body["items"] = [call.resource(stored) for stored in items]
    if prefixes:
        body["prefixes"] = prefixes
    if token:
        body["nextPageToken"] = base64.urlsafe_b64encode(token.encode()).decode()
    return web.json_response(body)


def _listed(store: Store, bucket: str, query: dict[str, str]) -> tuple[list[Stored], list[str], str]:
    """Objects, prefixes and the name at which the next page starts ("" for none)."""
    prefix, delimiter, end = query.get("prefix", ""), query.get("delimiter", ""), query.get("endOffset", "")
    limit = _limit(query)
    cursor = max(prefix, query.get("startOffset", ""), _token(query.get("pageToken", "")))
    items: list[Stored] = []
    prefixes: list[str] = []
    while page := store.page(bucket, cursor, PAGE):
        for stored in page:
            if not stored.name.startswith(prefix) or (end and stored.name >= end):
                return items, prefixes, ""
            if stored.name < cursor:  # inside a prefix that is listed already
                continue
            if len(items) + len(prefixes) == limit:
                return items, prefixes, stored.name
            cut = stored.name.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                items.append(stored)
                cursor = stored.name + "\x00"
            else:
                prefixes.append(stored.name[: cut + len(delimiter)])
                cursor = prefixes[-1] + LAST
    return items, prefixes, ""


def _limit(query: dict[str, str]) -> int:
    value = query.get("maxResults", str(PAGE))
    if not value.isdigit() or int(value) < 1:
        raise invalid("Invalid value for maxResults.")
    return min(int(value), PAGE)


def _token(value: str) -> str:
    try:
        return base64.urlsafe_b64decode(value).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise invalid("Invalid page token.") from error


async def delete(call: Call) -> web.StreamResponse:
    """DELETE /storage/v1/b/{bucket}/o/{object}"""
    await asyncio.to_thread(call.store.delete, *call.pair, call.generation, call.conditions)
    return web.Response(status=204)


async def patch(call: Call) -> web.StreamResponse:
    """PATCH /storage/v1/b/{bucket}/o/{object}: null removes a field or a metadata key."""
    changes = await call.json()

    def merged(meta: dict[str, Any]) -> dict[str, Any]:
        custom = changes.get("metadata", {})
        if custom is not None:
            custom = _texts({**meta.get("metadata", {}), **custom}) or None
        return writable({**meta, **changes, "metadata": custom})

    return await _patched(call, merged)


async def update(call: Call) -> web.StreamResponse:
    """PUT /storage/v1/b/{bucket}/o/{object}: the metadata given is all the metadata."""
    asked = writable(await call.json())
    return await _patched(call, lambda _: asked)


async def _patched(call: Call, change: Change) -> web.StreamResponse:
    bucket, name = call.pair
    changed = await asyncio.to_thread(call.store.patch, (bucket, name), call.generation, call.conditions, change)
    return web.json_response(call.resource(changed))


def _texts(custom: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in custom.items() if value is not None}


async def compose(call: Call) -> web.StreamResponse:
    """POST /storage/v1/b/{bucket}/o/{object}/compose: up to 32 objects of one bucket into one."""
    bucket, name = call.pair
    asked = await call.json()
    parts = asked.get("sourceObjects", [])
    if not 1 <= len(parts) <= COMPOSED_AT_MOST:
        raise invalid("The number of source components provided must be between 1 and 32.")
    call.conditions.check_write(call.store.find(bucket, name))
    stored = await asyncio.to_thread(_composed, call.store, (bucket, name), asked, parts, call.conditions)
    return web.json_response(call.resource(stored))


def _composed(
    store: Store, target: tuple[str, str], asked: dict[str, Any], parts: list[dict[str, Any]], conditions: Conditions
) -> Stored:
    bucket, name = target
    sink = Sink(store.drafts / secrets.token_hex(16), Hashes())
    components, meta = 0, writable(asked.get("destination", {}))
    try:
        for part in parts:
            wanted = Conditions.of({key: str(value) for key, value in part.get("objectPreconditions", {}).items()})
            generation = int(part["generation"]) if part.get("generation") is not None else None
            source, file = store.open(bucket, str(part.get("name", "")), generation, wanted)
            meta.setdefault("contentType", source.meta.get("contentType", "application/octet-stream"))
            components += source.components or 1
            with file:
                while block := file.read(BLOCK):
                    sink.write(block)
        sink.sync()
        draft = Draft(sink.path, sink.hashes.size, "", sink.hashes.crc32c, components)
        return store.put(bucket, name, meta, draft, conditions)
    finally:
        sink.close()
        sink.path.unlink(missing_ok=True)


async def rewrite(call: Call) -> web.StreamResponse:
    """POST …/o/{object}/rewriteTo/b/{bucket}/o/{object}: always done in one call."""
    stored = await _copied(call)
    size = str(stored.size)
    answer = {"kind": "storage#rewriteResponse", "totalBytesRewritten": size, "objectSize": size, "done": True}
    return web.json_response({**answer, "resource": call.resource(stored)})


async def copy(call: Call) -> web.StreamResponse:
    """POST …/o/{object}/copyTo/b/{bucket}/o/{object}"""
    return web.json_response(call.resource(await _copied(call)))


async def _copied(call: Call) -> Stored:
    source_bucket, source_name, bucket, name = call.names
    asked = writable(await call.json())
    generation = call.query.get("sourceGeneration")
    wanted = Conditions.of(call.query, "ifSource")
    wanted_generation = int(generation) if generation and generation.isdigit() else None
    source = await asyncio.to_thread(call.store.get, source_bucket, source_name, wanted_generation, wanted)
    path = call.store.drafts / secrets.token_hex(16)
    try:
        await asyncio.to_thread(call.store.copy_bytes, source, path)
        draft = Draft(path, source.size, source.md5, source.crc32c, source.components)
        meta = {**source.meta, **asked}
        return await asyncio.to_thread(call.store.put, bucket, name, meta, draft, call.conditions)
    finally:
        path.unlink(missing_ok=True)
