"""Pages on loopback for the person at this machine: no other web site reads them, embeds them or keeps them busy."""

from collections.abc import Awaitable, Callable

from aiohttp import web

NAMES = ("127.0.0.1", "localhost", "[::1]")  # else a page of the world could reach this one under a name of its own
OWN = ("none", "same-origin")  # of Sec-Fetch-Site; programs send none

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def at_home(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse another name (DNS rebinding), and all that a page of another site does but lead here.

    Source: https://www.w3.org/TR/fetch-metadata/
    """
    name = request.host.rpartition(":")[0] if request.host[-1:].isdigit() and ":" in request.host else request.host
    if name not in NAMES:
        raise web.HTTPMisdirectedRequest(text="this page answers to localhost alone\n")
    leads = request.method == "GET" and request.headers.get("Sec-Fetch-Dest") == "document"
    if request.headers.get("Sec-Fetch-Site", "none") not in OWN and not leads:
        raise web.HTTPForbidden(text="another site may lead here, and load nothing\n")
    return await handler(request)


async def harden(_request: web.Request, response: web.StreamResponse) -> None:
    """Headers of every answer."""
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    response.headers["Cache-Control"] = "no-store"
