"""An interface of the cloud on loopback, as far as a step asks it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.loopback import serving


@contextmanager
def answering(answers: dict[str, dict[str, str]], status: int = 200) -> Iterator[tuple[str, list[Message]]]:
    """Somebody on loopback who answers so; where, and with which headers each request came."""
    asked: list[Message] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers)
            text = json.dumps(answers[f"{self.command} {self.path}"]).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with serving(Handler) as url:
        yield url, asked
