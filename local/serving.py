"""What every stand-in does alike: read its layout, listen on loopback, check the caller's token, stop on SIGTERM."""

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from google.protobuf.empty_pb2 import Empty

from local import tls
from local.identity import Issuer, Refused
from local.layout import HOST, Layout

GRACE_SECONDS = 1.0
REASONS = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND"}
# google.rpc.Code of the HTTP statuses that have one of their own (google/rpc/code.proto); others by their class.
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 499: 1, 500: 13, 501: 12, 503: 14, 504: 4}
UNKNOWN, INTERNAL = 2, 13
NAMES = {code.value[0]: code.name for code in grpc.StatusCode}

Method = Callable[[Any, str], Any]  # (request, e-mail of the caller) → answer


class Failure(Exception):
    """A gRPC answer other than OK."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def arguments(description: str) -> argparse.ArgumentParser:
    """The parser with the argument that all stand-ins take; `--layout` is parsed into a Layout."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--layout", required=True, type=Layout.load, help="path of layout.json")
    return parser


async def stopped() -> None:
    """Return when the process is asked to stop."""
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, asked.set)
    await asked.wait()


@asynccontextmanager
async def http(application: web.Application, port: int) -> AsyncIterator[None]:
    """Serve an application on one loopback port for as long as the context lasts."""
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=GRACE_SECONDS)
    await runner.setup()
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield
    finally:
        await runner.cleanup()


@asynccontextmanager
async def rpc(
    layout: Layout, port: int, service: str, handlers: "dict[str, grpc.RpcMethodHandler[Any, Any]]"
) -> AsyncIterator[None]:
    """Serve one gRPC service over TLS on one loopback port for as long as the context lasts."""
    tls.ensure(layout.root)
    key, chain = (layout.path("tls", name).read_bytes() for name in ("server.key", "server.pem"))
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_secure_port(f"{HOST}:{port}", grpc.ssl_server_credentials([(key, chain)]))
    await server.start()
    try:
        yield
    finally:
        await server.stop(GRACE_SECONDS)


def guarded(issuer: Issuer, method: Method, request: Any, answer: Any = None) -> "grpc.RpcMethodHandler[Any, Any]":
    """A unary method that answers UNAUTHENTICATED without a good access token. `answer` None stands for Empty."""

    async def handle(message: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            metadata = dict(context.invocation_metadata() or ())
            caller = issuer.verify_access_token(str(metadata.get("authorization", "")))
            return method(message, caller)
        except Refused:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "Request had invalid authentication credentials.")
        except Failure as failure:
            await context.abort(failure.code, str(failure))

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=request.deserialize,
        response_serializer=Empty.SerializeToString if answer is None else answer.serialize,
    )


def refusal(status: int, message: str) -> web.Response:
    """An error in the shape of Google's REST methods."""
    error = {"code": status, "message": message, "status": REASONS[status]}
    return web.json_response({"error": error}, status=status)


def bearer(issuer: Issuer, handler: Callable[[web.Request, str], Awaitable[web.StreamResponse]]) -> Any:
    """A REST handler that gets the caller's e-mail, behind a 401 for requests without a good access token."""

    async def handle(request: web.Request) -> web.StreamResponse:
        try:
            caller = issuer.verify_access_token(request.headers.get("Authorization"))
        except Refused as error:
            return refusal(401, str(error))
        return await handler(request, caller)

    return handle


def rpc_status(code: int) -> dict[str, int | str]:
    """An HTTP status that a target answered, as google.rpc.Status."""
    number = CODES.get(code, INTERNAL if code >= 500 else UNKNOWN)
    return {"code": number, "message": f"{NAMES[number]}({number}): HTTP status code {code}"}


def page(items: list[Any], size: int, token: str, largest: int) -> tuple[list[Any], str]:
    """One page of a list and the token of the next; `size` 0 means `largest`. Raises Failure."""
    if size < 0 or not (token == "" or token.isdecimal()):
        raise Failure(grpc.StatusCode.INVALID_ARGUMENT, "The page size or token is not valid.")
    start = int(token or 0)
    end = start + min(size or largest, largest)
    return items[start:end], str(end) if end < len(items) else ""
