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

from local import grants
from local.identity import Issuer, Refused
from local.storage import buckets, objects, signed, uploads, xml
from local.storage.call import Call, Handler, denied
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
NEEDED: dict[Handler, str] = {  # on the objects of every bucket that the path names; else a bucket is concerned
    objects.list_all: "list",
    objects.get: "get",
    objects.download: "get",
    objects.delete: "delete",
    objects.patch: "update",
    objects.update: "update",
    objects.compose: "update",
    objects.rewrite: "update",
    objects.copy: "update",
    uploads.insert: "create",
}
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
                caller = "" if handler in BY_SESSION else self._caller(request)
                call = Call(request, self.store, self.sessions, tuple(map(unquote, match.groups())), caller)
                if handler not in BY_SESSION:
                    _check(call, NEEDED.get(handler))
                return await handler(call)
        raise Problem(404, "notFound", "Not Found")

    async def _xml(self, request: web.Request, path: str) -> web.StreamResponse:
        match = XML_PATH.fullmatch(path)
        handler = XML.get(request.method)
        if match is None or handler is None:
            raise Problem(400, "invalid", "Only GET, HEAD and PUT of an object.", code="InvalidURI")
        query = dict(request.query)
        if "X-Goog-Signature" in query or "X-Goog-Algorithm" in query:
            query = signed.verify(request, self._key)
            caller = signed.signer(query)
        else:
            caller = self._caller(request)
        call = Call(request, self.store, self.sessions, tuple(map(unquote, match.groups())), caller)
        call.check("create" if request.method == "PUT" else "get", call.names[0])
        return await handler(call, query)

    def _key(self, email: str) -> rsa.RSAPublicKey:
        return self._keys(email)

    def _caller(self, request: web.Request) -> str:
        header = request.headers.get("Authorization")
        if header is None:
            message = "Anonymous caller does not have storage access."
            raise Problem(401, "required", message, location="Authorization", code="AccessDenied")
        try:
            return self.issuer.verify_access_token(header)
        except Refused as error:
            raise Problem(401, "authError", "Invalid Credentials", location="Authorization") from error


def _check(call: Call, permission: str | None) -> None:
    """What needs no right to objects needs one to buckets, which none of the stack's own accounts has."""
    if permission is None and call.caller in grants.known():
        raise denied(call.caller, "storage.buckets.*", "".join(call.names[:1]))
    for bucket in call.names[::2] if permission else ():
        call.check(permission or "", bucket)


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
