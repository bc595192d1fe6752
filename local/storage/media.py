"""Downloads: an object's bytes, whole or one range, a block at a time."""

import asyncio
import re
from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import BinaryIO

from aiohttp import web

from local.storage.content import BLOCK
from local.storage.problems import Problem
from local.storage.schema import Stored

RANGE = re.compile(r"bytes=(\d*)-(\d*)")
PASSED = {
    "contentEncoding": "Content-Encoding",
    "contentDisposition": "Content-Disposition",
    "contentLanguage": "Content-Language",
    "cacheControl": "Cache-Control",
}


def object_headers(stored: Stored) -> dict[str, str]:
    """The headers of a download."""
    md5 = f",md5={stored.md5}" if stored.md5 else ""
    modified = datetime.fromisoformat(stored.updated)
    headers = {
        "Content-Type": stored.meta.get("contentType", "application/octet-stream"),
        "ETag": f'"{stored.etag}"',
        "Last-Modified": format_datetime(modified, usegmt=True),
        "Accept-Ranges": "bytes",
        "X-Goog-Generation": str(stored.generation),
        "X-Goog-Metageneration": str(stored.metageneration),
        "X-Goog-Storage-Class": str(stored.meta.get("storageClass", "STANDARD")),
        "X-Goog-Stored-Content-Length": str(stored.size),
        "X-Goog-Stored-Content-Encoding": str(stored.meta.get("contentEncoding", "identity")),
        "X-Goog-Hash": f"crc32c={stored.crc32c}{md5}",
    }
    headers |= {f"X-Goog-Meta-{key}": str(value) for key, value in stored.meta.get("metadata", {}).items()}
    return headers | {header: str(stored.meta[key]) for key, header in PASSED.items() if key in stored.meta}


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte that a Range header asks for; None for all (RFC 9110: what is not understood is ignored).

    Raises Problem 416 when nothing of it exists.
    """
    match = RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first and last and int(first) > int(last):
        return None
    start = int(first) if first else max(0, size - int(last))
    end = min(int(last), size - 1) if first and last else size - 1
    if start >= size or (not first and int(last) == 0):
        raise Problem(416, "requestedRangeNotSatisfiable", "Request range not satisfiable", code="InvalidRange")
    return start, end


async def send(request: web.Request, stored: Stored, file: BinaryIO, extra: dict[str, str]) -> web.StreamResponse:
    """Answer with the bytes; `extra` headers win over the object's own. Closes the file."""
    with file:
        asked = byte_range(request.headers.get("Range"), stored.size)
        start, end = asked or (0, stored.size - 1)
        answer = web.StreamResponse(status=HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK)
        answer.headers.update(object_headers(stored) | extra)
        answer.content_length = end - start + 1
        if asked:
            answer.headers["Content-Range"] = f"bytes {start}-{end}/{stored.size}"
        await answer.prepare(request)
        if request.method != "HEAD":
            file.seek(start)
            left = end - start + 1
            while left and (block := await asyncio.to_thread(file.read, min(BLOCK, left))):
                await answer.write(block)
                left -= len(block)
        await answer.write_eof()
        return answer
