"""A stand-in for Twilio: the Messages endpoint; every accepted message becomes a line of `sms.jsonl`."""

import argparse
import asyncio
import json
import os
import re
import secrets
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from aiohttp import BasicAuth, hdrs, web

from local.layout import HOST, Layout

API = "/2010-04-01/Accounts/{sid}/Messages.json"
E164 = re.compile(r"\+[1-9]\d{6,14}")
LONGEST = 1600
SEGMENT = 153  # characters of one part of a long GSM-7 message


class Book:
    """The JSON-lines file. A line is whole and on disk before anyone hears of it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        data = path.read_bytes()
        os.ftruncate(self._file, data.rfind(b"\n") + 1)  # a kill may have left half a line, never acknowledged
        os.fsync(self._file)

    def add(self, to: str, body: str) -> None:
        """Append `{"to", "body", "at"}`."""
        line = json.dumps({"to": to, "body": body, "at": datetime.now(UTC).isoformat()}, ensure_ascii=False)
        os.write(self._file, line.encode() + b"\n")
        os.fsync(self._file)


class Api:
    """POST …/Messages.json."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self._turn = asyncio.Lock()

    async def send(self, request: web.Request) -> web.Response:
        """201 with the queued message, or Twilio's error."""
        if not authenticated(request.headers.get(hdrs.AUTHORIZATION)):
            return error(401, 20003, "Authenticate")
        form = {key: str(value) for key, value in (await request.post()).items()}
        if problem := invalid(form):
            return problem
        async with self._turn:
            await asyncio.to_thread(self.book.add, form["To"], form["Body"])
        return web.json_response(message(request.match_info["sid"], form), status=201)


def authenticated(header: str | None) -> bool:
    """Whether there is any account (or key) and any token: which pair is right, only Twilio knows."""
    try:
        given = BasicAuth.decode(header or "")
    except ValueError:
        return False
    return bool(given.login and given.password)


def invalid(form: dict[str, str]) -> web.Response | None:
    """Twilio's answer to a form that it would not accept. Source: Twilio's error and warning dictionary."""
    to, body = form.get("To", ""), form.get("Body", "")
    if not to:
        return error(400, 21604, "A 'To' phone number is required.")
    if not E164.fullmatch(to):
        return error(400, 21211, f"Invalid 'To' Phone Number: {to[:5]}XXXX")
    if not form.get("From") and not form.get("MessagingServiceSid"):
        return error(400, 21603, "A 'From' phone number is required.")
    if not body:
        return error(400, 21602, "Message body is required.")
    if len(body) > LONGEST:
        return error(400, 21617, f"The concatenated message body exceeds the {LONGEST} character limit")
    return None


def error(status: int, code: int, text: str) -> web.Response:
    """`{"code", "message", "more_info", "status"}`."""
    body = {"code": code, "message": text, "more_info": f"https://www.twilio.com/docs/errors/{code}", "status": status}
    headers = {"WWW-Authenticate": 'Basic realm="Twilio API"'} if status == 401 else {}
    return web.json_response(body, status=status, headers=headers)


def message(account: str, form: dict[str, str]) -> dict[str, Any]:
    """The Message resource as Twilio answers it right after accepting."""
    sid = "SM" + secrets.token_hex(16)
    at = format_datetime(datetime.now(UTC))
    return {
        "account_sid": account,
        "api_version": "2010-04-01",
        "body": form["Body"],
        "date_created": at,
        "date_sent": None,
        "date_updated": at,
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": form.get("From"),
        "messaging_service_sid": form.get("MessagingServiceSid"),
        "num_media": "0",
        "num_segments": str(-(-len(form["Body"]) // SEGMENT)),
        "price": None,
        "price_unit": None,
        "sid": sid,
        "status": "queued" if form.get("From") else "accepted",
        "subresource_uris": {"media": f"/2010-04-01/Accounts/{account}/Messages/{sid}/Media.json"},
        "to": form["To"],
        "uri": f"/2010-04-01/Accounts/{account}/Messages/{sid}.json",
    }


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layout", required=True, help="path of layout.json")
    layout = Layout.load(parser.parse_args().layout)
    app = web.Application()
    app.router.add_post(API, Api(Book(layout.path("sms.jsonl"))).send)
    web.run_app(app, host=HOST, port=layout.ports["sms"], shutdown_timeout=0.5, print=None, access_log=None)


if __name__ == "__main__":
    main()
