"""The session API as an ASGI application: every request through the same route table and boundary as a function's.

A request, the handshake of a stream or WebSocket too, becomes a werkzeug request and is answered in a thread, where its
transaction runs. What its answer asks for beyond itself (sessions/outcomes.py) is done here, after the commit.
Source: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
import json
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import Context
from io import BytesIO
from typing import Any

from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send
from werkzeug.wrappers import Request, Response

from common import answers, cookies, errors, log
from common.db import database
from common.settings import settings
from common.tokens import Claim
from sessions import fanout, queries, seats, socket, stream, watch
from sessions.bodies import Bodies
from sessions.hub import Hub
from sessions.main import routes
from sessions.outcomes import Appended, Ended, Opening, Place
from sessions.topic import Reader

SERVING = "/health/serving"  # for load balancers
PROBES = ("/health/", SERVING)
WAITING = 5000  # requests that may wait for a thread
VIEW = "session.view"


class Application:
    """One replica: its hub, its threads, and what it owes to whom it answers."""

    def __init__(self) -> None:
        size = max(settings().database_pool, 2)
        self.threads = ThreadPoolExecutor(size - 1, "request")  # a connection of the pool for each
        self.watcher = ThreadPoolExecutor(1, "watch")  # revocation does not wait behind requests
        self.hub = Hub(self.read)
        self.seats = seats.Seats()
        self.bodies = Bodies()
        self.waiting = 0

    @asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Follow the other replicas and the database for as long as the replica lives."""
        fan = fanout.Fanout(self.hub)
        self.hub.fan = fan
        watching = watch.Watch(self.hub, self.run_watch, self.run)
        tasks = [asyncio.create_task(each) for each in (self.hub.tick(), fan.run(), self.seats.run(), watching.run())]
        for task in tasks:
            task.add_done_callback(_stop)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def run(self, function: Callable[..., Any], *given: Any) -> Any:
        """Call a function that uses the database in a thread. Raises Problem 503 when too many wait.

        In an empty context: what the thread did before is another request's, its log entries and spans too.
        """
        if self.waiting >= WAITING:
            raise errors.Problem("unavailable", headers={"Retry-After": "1"})
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.threads, Context().run, function, *given)
        finally:
            self.waiting -= 1

    async def run_watch(self, function: Callable[..., Any], *given: Any) -> Any:
        """Call a function in the watcher's own thread."""
        return await asyncio.get_running_loop().run_in_executor(self.watcher, function, *given)

    async def read(self, claim: Claim, place: Place, after: int) -> tuple[int, list[bytes]]:
        """A page of the events of a session, for whom the claim means. Raises Problem."""
        found: tuple[int, list[bytes]] = await self.run(_page, claim, place, after)
        return found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request or handshake; a stream ends when its client leaves or its reader is cut."""
        kind = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
        response = await self._answered(scope, receive)
        if response is None:
            return
        if not isinstance(response, Opening):
            return await _send(send, response, kind)
        seat = await self.seats.take(response.place.tenant_id)
        if seat is None:
            return await _send(send, _full(response), kind)
        try:
            if scope["type"] == "websocket":
                await socket.serve(self, response, scope, receive, send)
            else:
                headers = _headers(response)
                reader = self.hub.join(response, scope["extensions"]["connection"].abort)
                response = None  # a stream lasts for hours, and with it what it holds on to
                await self._stream(reader, headers, scope, send)
        finally:
            self.seats.give_back(seat)

    async def _answered(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer of the route table, with what follows from it done; None when there is nobody to answer."""
        if scope["type"] == "http" and scope["path"] in PROBES and scope["method"] in cookies.SAFE:
            return _probed(scope, self.hub)
        body: bytes | None = b""
        try:
            if scope["type"] == "http":
                body = await self.bodies.take(receive)
            if body is None:
                return None
            response: Response = await self.run(_routed, scope, body)
        except errors.Problem as problem:
            return _refused(scope, problem)
        finally:
            self.bodies.give_back(body or b"")
        if isinstance(response, Appended):
            self.hub.tell(response.place, response.first_seq, response.events, response.traceparent)
        elif isinstance(response, Ended):
            self.hub.tell_end(response.place, response.code)
        return response

    async def _stream(self, reader: Reader, headers: list[tuple[bytes, bytes]], scope: Scope, send: Send) -> None:
        connection = scope["extensions"]["connection"]
        connection.when_lost = reader.gone
        if connection.lost:  # before there was a reader to tell: uvicorn sends on, to nobody, without a word
            reader.gone()

        async def put(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        try:
            headers.append((b"x-accel-buffering", b"no"))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            headers.clear()
            scope["headers"].clear()
            await stream.serve(self.hub, reader, put)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self.hub.part(reader)
            connection.part()


def _routed(scope: Scope, body: bytes) -> Response:
    """In the thread: requests that wait for one hold no environment."""
    return routes.answer(request_of(scope, body))


def _stop(task: "asyncio.Task[None]") -> None:
    """Without one of its tasks a replica is of no use: streams would go on whose access has ended."""
    if not task.cancelled():
        log.entry("CRITICAL", "a task of the replica has ended", error=type(task.exception()).__name__)
        signal.raise_signal(signal.SIGTERM)


def _page(claim: Claim, place: Place, after: int) -> tuple[int, list[bytes]]:
    with database().transaction(claim, read_only=True) as tx:
        if tx.granted.get("mfa") is False or VIEW not in tx.granted.get("permissions", ()):
            raise errors.Problem("permission_denied")
        return queries.page_behind(tx, place.session_id, after)


def request_of(scope: Scope, body: bytes) -> Request:
    """The ASGI scope as a werkzeug request; the caller's credential stands where the gateway puts it."""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": scope.get("method", "GET"),
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode("utf-8", "surrogateescape").decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": "sessions",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "context.websocket": scope["type"] == "websocket",
    }
    for name, value in scope["headers"]:
        key = name.decode("latin-1").upper().replace("-", "_")
        if b"_" in name or key == "X_FORWARDED_AUTHORIZATION":
            continue  # what the gateway would have dropped
        if key not in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            key = f"HTTP_{key}"
        text = value.decode("latin-1")
        between = "; " if key == "HTTP_COOKIE" else ","
        environ[key] = f"{environ[key]}{between}{text}" if key in environ else text
    credential = environ.pop("HTTP_AUTHORIZATION", None)
    if credential is None:  # an empty one is a bad one, and switches the cookies off like any other
        credential = _offered(environ)
    if credential is not None:
        environ["HTTP_" + settings().bearer_header.upper().replace("-", "_")] = credential
    return Request(environ)


def _offered(environ: dict[str, Any]) -> str | None:
    """The token that a browser's WebSocket offers as a subprotocol, as the header that it cannot set."""
    if environ["context.websocket"]:
        for offered in environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "").split(","):
            name, _, token = offered.strip().partition(".")
            if name == "bearer" and token:
                return f"Bearer {token}"
    return None


def _headers(response: Response) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in response.headers]


async def _send(send: Send, response: Response, kind: str) -> None:
    body = b"" if response.status_code == 204 else response.get_data()
    start: Message = {"type": f"{kind}.start", "status": response.status_code, "headers": _headers(response)}
    await send(start)
    await send({"type": f"{kind}.body", "body": body, "more_body": False})


def _probed(scope: Scope, hub: Hub) -> Response:
    """Whether the process lives, and whether new streams may come here; without a thread, so that a database that
    hangs does not look like replicas that do.
    """
    draining = hub.draining and scope["path"] == SERVING
    status = {"status": "draining" if draining else "ok"}
    response = Response(json.dumps(status), 503 if draining else 200, content_type="application/json")
    return answers.finish(request_of(scope, b""), response, str(uuid.uuid4()), {})


def _refused(scope: Scope, problem: errors.Problem) -> Response:
    """The answer to a request that never came to the route table, with the headers that every answer carries."""
    shown = str(uuid.uuid4())
    return answers.finish(request_of(scope, b""), answers.problem_document(problem, shown), shown, {})


def _full(opening: Opening) -> Response:
    """429: the organization has as many open streams as it may."""
    detail = f"The organization has {settings().streams_per_organization} open streams, which is all it may have."
    problem = errors.Problem("rate_limited", detail, headers={"Retry-After": "10"})
    log.security("INFO", "no seat for a stream", organization_id=opening.place.tenant_id)
    response = answers.problem_document(problem, opening.headers["X-Request-Id"])
    response.headers.extend((name, value) for name, value in opening.headers if name not in response.headers)
    return response


class Served(Starlette):
    """Starlette's application with the replica in the place of its routes and middleware.

    Those would stand between every stream and its connection for hours: 3 KiB each, and two calls more per delivery.
    """

    def __init__(self) -> None:
        self.replica = Application()
        super().__init__(lifespan=self.replica.lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Requests and handshakes go to the replica."""
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
        else:
            await self.replica(scope, receive, send)
