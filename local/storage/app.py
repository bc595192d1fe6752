"""The storage stand-in's routes and its one error boundary."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from local.identity import Issuer, Refused
from local.storage import buckets, objects, signed, uploads, xml
from local.storage.call import Call, Handler
from local.storage.problems import Problem
from local.storage.sessions import Sessions
from local.storage.store import Store

HOUR = 3600
BODY_AT_MOST = 1 << 20  # of JSON; media stream past it
BUCKET, OBJECT = "/storage/v1/b/([^/]+)", "/o/([^/]+)"
ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/storage/v1/b", buckets.insert),
    ("GET", "/storage/v1/b", buckets.list_all),
    ("GET", BUCKET, buckets.get),
    ("PATCH", BUCKET, buckets.patch),
    ("PUT", BUCKET, buckets.patch),
    ("DELETE", BUCKET, buckets.delete),
    ("POST", f"{BUCKET}/lockRetentionPolicy", buckets.lock),
    ("GET", f"{BUCKET}/o", objects.list_all),
    ("GET", BUCKET + OBJECT, objects.get),
    ("GET", f"/download{BUCKET}{OBJECT}", objects.download),
    ("DELETE", BUCKET + OBJECT, objects.delete),
    ("PATCH", BUCKET + OBJECT, objects.patch),
    ("PUT", BUCKET + OBJECT, objects.update),
    ("POST", f"{BUCKET}{OBJECT}/compose", objects.compose),
    ("POST", f"{BUCKET}{OBJECT}/rewriteTo/b/([^/]+){OBJECT}", objects.rewrite),
    ("POST", f"{BUCKET}{OBJECT}/copyTo/b/([^/]+){OBJECT}", objects.copy),
    ("POST", f"/(?:resumable/)?upload{BUCKET}/o", uploads.insert),
    ("PUT", f"/(?:resumable/)?upload{BUCKET}/o", uploads.resume),
    ("DELETE", f"/(?:resumable/)?upload{BUCKET}/o", uploads.cancel),
]
BY_SESSION = (uploads.resume, uploads.cancel)  # the address of a session is its credential
JSON_PATH = re.compile(r"/(?:(?:resumable/)?upload/|download/)?storage/v1/.*")
XML_PATH = re.compile(r"/([^/]+)/(.+)")
XML: dict[str, Callable[[Call, dict[str, str]], Awaitable[web.StreamResponse]]] = {
    "GET": xml.get,
    "HEAD": xml.get,
    "PUT": xml.put,
}


class Front:
    """Chooses the API, checks the caller, answers."""

    def __init__(self, store: Store, issuer: Issuer) -> None:
        self.store = store
        self.sessions = Sessions(store)
        self.issuer = issuer
        self._keys = lru_cache(issuer.account_public_key)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request."""
        path = request.raw_path.partition("?")[0]
        is_json = JSON_PATH.fullmatch(path) is not None
        try:
            return await (self._json(request, path) if is_json else self._xml(request, path))
        except Problem as problem:
            return problem.json() if is_json else problem.xml()

    async def _json(self, request: web.Request, path: str) -> web.StreamResponse:
        for method, pattern, handler in ROUTES:
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                if handler not in BY_SESSION:
                    self._check_token(request)
                return await handler(Call(request, self.store, self.sessions, tuple(map(unquote, match.groups()))))
        raise Problem(404, "notFound", "Not Found")

    async def _xml(self, request: web.Request, path: str) -> web.StreamResponse:
        match = XML_PATH.fullmatch(path)
        handler = XML.get(request.method)
        if match is None or handler is None:
            raise Problem(400, "invalid", "Only GET, HEAD and PUT of an object.", code="InvalidURI")
        call = Call(request, self.store, self.sessions, tuple(map(unquote, match.groups())))
        if "X-Goog-Signature" in request.query or "X-Goog-Algorithm" in request.query:
            return await handler(call, signed.verify(request, self._key))
        self._check_token(request)
        return await handler(call, dict(request.query))

    def _key(self, email: str) -> rsa.RSAPublicKey:
        return self._keys(email)

    def _check_token(self, request: web.Request) -> None:
        header = request.headers.get("Authorization")
        if header is None:
            message = "Anonymous caller does not have storage access."
            raise Problem(401, "required", message, location="Authorization", code="AccessDenied")
        try:
            self.issuer.verify_access_token(header)
        except Refused as error:
            raise Problem(401, "authError", "Invalid Credentials", location="Authorization") from error


def application(root: str | Path) -> web.Application:
    """The stand-in over `<root>/storage`."""
    store = Store(Path(root, "storage"))
    buckets.ensure(store)
    front = Front(store, Issuer(root))

    async def sweeping(_: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(_sweep_hourly(front))
        yield
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = web.Application(client_max_size=BODY_AT_MOST)
    app.router.add_route("*", "/{path:.*}", front.answer)
    app.cleanup_ctx.append(sweeping)
    return app


async def _sweep_hourly(front: Front) -> None:
    while True:
        await asyncio.to_thread(buckets.sweep, front.store, front.sessions)
        await asyncio.sleep(HOUR)
