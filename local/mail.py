"""The mail catcher: SMTP in, a Maildir, and an inbox for people (a page) and tests (JSON)."""

import argparse
import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session

from local.browsers import at_home, harden
from local.layout import HOST, Layout
from local.maildir import Mail, Maildir

HERE = Path(__file__).parent
LARGEST = 10 << 20
LISTED = 1000
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; form-action 'none'"
)
STATIC = {
    "/": ("inbox.html", "text/html"),
    "/inbox.css": ("inbox.css", "text/css"),
    "/inbox.js": ("inbox.js", "text/javascript"),
}


class Catcher:
    """aiosmtpd's handler."""

    def __init__(self, maildir: Maildir) -> None:
        self.maildir = maildir

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Store with the envelope as the delivery headers that any mail server adds; 250 only when it is on disk."""
        headers = [f"Return-Path: <{envelope.mail_from}>", *(f"Delivered-To: {to}" for to in envelope.rcpt_tos)]
        content: Any = envelope.content
        data = "".join(line + "\r\n" for line in headers).encode() + bytes(content)
        key = await asyncio.to_thread(self.maildir.add, data)
        return f"250 2.0.0 OK: stored as {key}"


class Inbox:
    """The HTTP side."""

    def __init__(self, maildir: Maildir) -> None:
        self.maildir = maildir

    async def list_all(self, request: web.Request) -> web.Response:
        """GET /messages?limit= → `[{id, to, from, subject, date, text}]`, newest first."""
        limit = request.query.get("limit", str(LISTED))
        if not limit.isascii() or not limit.isdigit():
            raise web.HTTPBadRequest(text="limit is a number")
        mails = await asyncio.to_thread(self.maildir.newest, int(limit))
        return web.json_response([mail.json() for mail in mails])

    async def get(self, request: web.Request) -> web.Response:
        """GET /messages/{id}: the same, and `html`."""
        mail = self._mail(request)
        return web.json_response({**mail.json(), "html": mail.html})

    async def html(self, request: web.Request) -> web.Response:
        """GET /messages/{id}/html: the HTML part, which can run, load and send nothing; links open a new window."""
        page = f'<!doctype html><base target="_blank">{self._mail(request).html}'
        headers = {"Content-Security-Policy": MAIL_POLICY}
        return web.Response(text=page, content_type="text/html", headers=headers)

    async def delete(self, request: web.Request) -> web.Response:
        """DELETE /messages/{id}"""
        if not await asyncio.to_thread(self.maildir.delete, request.match_info["id"]):
            raise web.HTTPNotFound
        return web.Response(status=204)

    async def static(self, request: web.Request) -> web.Response:
        """The page, its style and its script."""
        name, kind = STATIC[request.path]
        headers = {"Content-Security-Policy": PAGE_POLICY}
        return web.Response(text=(HERE / name).read_text(), content_type=kind, charset="utf-8", headers=headers)

    def _mail(self, request: web.Request) -> Mail:
        mail = self.maildir.get(request.match_info["id"])
        if mail is None:
            raise web.HTTPNotFound
        return mail


def application(layout: Layout) -> web.Application:
    """The inbox; while it runs, the SMTP side runs too."""
    maildir = Maildir(layout.path("mail"))
    inbox = Inbox(maildir)

    async def catching(_: web.Application) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: SMTP(Catcher(maildir), data_size_limit=LARGEST, enable_SMTPUTF8=True, hostname="localhost"),
            HOST,
            layout.ports["smtp"],
        )
        yield
        server.close()

    app = web.Application(middlewares=[at_home])  # mails hold secrets of one person
    app.add_routes([web.get(path, inbox.static) for path in STATIC])
    app.router.add_get("/messages", inbox.list_all)
    app.router.add_get("/messages/{id}", inbox.get)
    app.router.add_get("/messages/{id}/html", inbox.html)
    app.router.add_delete("/messages/{id}", inbox.delete)
    app.on_response_prepare.append(harden)
    app.cleanup_ctx.append(catching)
    return app


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", required=True, help="path of layout.json")
    layout = Layout.load(parser.parse_args().layout)
    app = application(layout)
    web.run_app(app, host=HOST, port=layout.ports["mail"], shutdown_timeout=0.5, print=None, access_log=None)


if __name__ == "__main__":
    main()
