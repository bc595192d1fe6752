"""Starlette + sse-starlette, redis pub/sub."""

import asyncio
from contextlib import asynccontextmanager

from hub import Hub
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tokens import REDIS_URL, channel


async def events(request):
    name = channel(request.headers.get("authorization", ""), request.path_params["session"])
    if name is None:
        return PlainTextResponse("unauthorized", 401)
    queue = await hub.join(name)

    async def stream():
        try:
            while True:
                yield ServerSentEvent(data=(await queue.get()).decode())
        finally:
            await hub.leave(name, queue)

    return EventSourceResponse(stream(), ping=15)


@asynccontextmanager
async def lifespan(_):
    global hub
    hub = Hub(REDIS_URL)
    task = asyncio.create_task(hub.run())
    yield
    task.cancel()


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/events/{session}", events),
        Route("/health", lambda r: PlainTextResponse("ok")),
    ],
)
