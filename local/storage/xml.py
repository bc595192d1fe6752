"""The XML API's GET, HEAD and PUT of an object, for signed URLs (or a bearer token)."""

import asyncio
import base64

from aiohttp import web

from local.storage.call import Call, generation_of
from local.storage.conditions import Conditions
from local.storage.content import BLOCK
from local.storage.media import object_headers, send
from local.storage.uploads import expected_hashes, receive

META = "x-goog-meta-"
KEPT = {
    "Content-Type": "contentType",
    "Content-Encoding": "contentEncoding",
    "Content-Disposition": "contentDisposition",
    "Content-Language": "contentLanguage",
    "Cache-Control": "cacheControl",
}
OVERRIDES = {"response-content-type": "Content-Type", "response-content-disposition": "Content-Disposition"}


async def get(call: Call, query: dict[str, str]) -> web.StreamResponse:
    """GET and HEAD: the bytes, under the type and disposition that the signer chose."""
    conditions = Conditions.of_headers(call.request.headers)
    stored, file = await asyncio.to_thread(call.store.open, *call.pair, generation_of(query), conditions)
    extra = {header: query[key] for key, header in OVERRIDES.items() if query.get(key)}
    if stored.md5:
        extra["ETag"] = f'"{base64.b64decode(stored.md5).hex()}"'
    return await send(call.request, stored, file, extra)


async def put(call: Call, _: dict[str, str]) -> web.StreamResponse:
    """PUT: the body becomes the object."""
    headers = call.request.headers
    meta: dict[str, object] = {key: headers[header] for header, key in KEPT.items() if header in headers}
    low = {name.lower(): value for name, value in headers.items()}
    custom = {name.removeprefix(META): value for name, value in low.items() if name.startswith(META)}
    if custom:
        meta["metadata"] = custom
    expected = expected_hashes(headers.get("x-goog-hash", ""))
    if "Content-MD5" in headers:
        expected["md5"] = headers["Content-MD5"]
    bucket, name = call.pair
    call.check_new(bucket, name)
    body = call.request.content.iter_chunked(BLOCK)
    conditions = Conditions.of_headers(headers)
    stored = await receive(call.store, (bucket, name), meta, conditions, body, expected)
    kept = {key: value for key, value in object_headers(stored).items() if key.startswith(("ETag", "X-Goog-"))}
    return web.Response(headers=kept)
