"""`python -m local.status`: the status page of a stack, on its port `status`."""

import argparse
import asyncio
import json
import time
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from local.browsers import at_home, harden
from local.layout import HOST, Layout
from local.standing import told
from local.status import neighbours
from local.status.tail import last_lines
from local.status.watcher import Watcher

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FILES = {path.name: KINDS[path.suffix] for path in PAGE.iterdir() if path.suffix in KINDS}
QUIET_SECONDS = 10.0
LOG_LINES = 60


class Page:
    """The routes."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.watcher = Watcher(layout)

    def about(self) -> dict[str, Any]:
        """Where this stack is, and what time it is there."""
        api, mail = self.layout.url("gateway"), self.layout.url("mail")
        links = {"api": api, "docs": f"{api}/docs", "openapi": f"{api}/v1/openapi.json", "mail": mail}
        return {"now": time.time(), "root": self.layout.root, "links": links}

    async def state(self, _request: web.Request) -> web.StreamResponse:
        """GET /state: everything that the page shows, as JSON."""
        return web.json_response({"about": self.about(), **await self.watcher.look()})

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /events: the same as server-sent events; after the first only the sections that are new."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionError):
            async with self.watcher.watched(), aclosing(self.watcher.changes(QUIET_SECONDS)) as changes:
                async for fresh in changes:
                    text = json.dumps({"about": self.about(), **fresh}, separators=(",", ":"))
                    await response.write(f"data: {text}\n\n".encode())
        return response

    async def log(self, request: web.Request) -> web.StreamResponse:
        """GET /log/{service}: the last lines of its log."""
        name = request.match_info["service"]
        stack = told(Path(self.layout.root))
        if stack is None or name not in {each.name for each in stack.services}:
            raise web.HTTPNotFound
        lines = await asyncio.to_thread(last_lines, self.layout.path("log", f"{name}.log"), LOG_LINES)
        return web.json_response({"service": name, "lines": lines})

    async def trace(self, request: web.Request) -> web.StreamResponse:
        """GET /traces/{id}: its spans in the order of a waterfall."""
        found = await asyncio.to_thread(neighbours.trace, self.layout, request.match_info["id"])
        if found is None:
            raise web.HTTPNotFound
        return web.json_response(found)

    async def run(self, request: web.Request) -> web.StreamResponse:
        """POST /schedule/{job}/run: now. Only from this page: another origin cannot add a header."""
        if request.headers.get("X-Status-Page") != "run":
            raise web.HTTPForbidden(text="the header X-Status-Page: run is missing\n")
        status = await asyncio.to_thread(neighbours.run_now, self.layout, request.match_info["job"])
        if status == 404:
            raise web.HTTPNotFound
        return web.json_response({}, status=202 if status == 200 else 502)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """The page and its parts."""
        name = request.match_info.get("name", "index.html")
        if name not in FILES:
            raise web.HTTPNotFound
        return web.Response(text=(PAGE / name).read_text(), content_type=FILES[name], charset="utf-8")

    def application(self) -> web.Application:
        """All of it."""
        app = web.Application(middlewares=[at_home])
        app.router.add_get("/", self.file)
        app.router.add_get("/status", self.file)
        app.router.add_get("/page/{name}", self.file)
        app.router.add_get("/state", self.state)
        app.router.add_get("/events", self.events)
        app.router.add_get("/log/{service}", self.log)
        app.router.add_get("/traces/{id:[0-9a-f]{32}}", self.trace)
        app.router.add_post("/schedule/{job:[a-z0-9-]+}/run", self.run)
        app.on_response_prepare.append(harden)
        app.on_response_prepare.append(confine)
        return app


async def confine(_request: web.Request, response: web.StreamResponse) -> None:
    """What the page may load and run."""
    response.headers["Content-Security-Policy"] = POLICY


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", required=True, type=Layout.load, help="path of layout.json")
    layout = parser.parse_args().layout
    app = Page(layout).application()
    web.run_app(app, host=HOST, port=layout.ports["status"], shutdown_timeout=0.2, print=None, access_log=None)


if __name__ == "__main__":
    main()
