"""aiohttp with a hand-written event stream, redis pub/sub; the frame is built once per event."""

import asyncio
import os
import sys

import uvloop
from aiohttp import web
from hub import Hub
from tokens import REDIS_URL, channel


async def events(request):
    name = channel(request.headers.get("Authorization", ""), request.match_info["session"])
    if name is None:
        return web.Response(status=401, text="unauthorized")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    hub = request.app["hub"]
    queue = await hub.join(name)
    try:
        await response.prepare(request)
        await response.write(b": ok\n\n")
        while True:
            try:
                data = await asyncio.wait_for(queue.get(), 15)
            except TimeoutError:
                await response.write(b": ping\n\n")
                continue
            await response.write(b"data: " + data + b"\n\n")
    except ConnectionResetError:
        pass
    finally:
        await hub.leave(name, queue)
    return response


async def hub_context(app):
    app["hub"] = Hub(REDIS_URL)
    task = asyncio.create_task(app["hub"].run())
    yield
    task.cancel()


async def health(_):
    return web.Response(text="ok")


def main():
    app = web.Application()
    app.cleanup_ctx.append(hub_context)
    app.router.add_get("/events/{session}", events)
    app.router.add_get("/health", health)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(os.environ.get("PORT", sys.argv[-1])),
        loop=uvloop.new_event_loop(),
        access_log=None,
        print=None,
        backlog=4096,
        shutdown_timeout=1,
    )


if __name__ == "__main__":
    main()
