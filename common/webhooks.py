"""Signed messages to and from processors (Art. 19 and 28 GDPR), as Standard Webhooks 1.0 has them.

PROCESSORS: {name: {url, secret}}; the secret's id in Secret Manager, its payload `whsec_` and base64 of 24 to 64 bytes,
several with white space between while they change: we sign with each and accept each.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hmac
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from common import log, secrets
from common.fetching import Unreachable, fetch, is_safe
from common.settings import document, settings

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
HEADERS = ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
MARK, VERSION = "whsec_", "v1"
SHORTEST_KEY, LONGEST_KEY = 24, 64  # bytes
TOLERANCE_SECONDS = 300


class Unsigned(Exception):
    """The message does not prove who sent it, or is too old."""


@dataclass(frozen=True)
class Processor:
    """One that processes personal data for us. `secret` is the id of the secret that we share with it."""

    name: str
    url: str
    secret: str


@cache
def processors() -> dict[str, Processor]:
    """The processors of PROCESSORS by name. Raises ValueError for a file that is not as it should be."""
    value = settings().processors
    known = document(value) or {}
    if not isinstance(known, dict):
        raise ValueError("PROCESSORS is not a mapping")
    return {str(name): _processor(name, entry) for name, entry in known.items()}


def _processor(name: Any, entry: Any) -> Processor:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"PROCESSORS {name}: the name must match {NAME.pattern}")
    if not isinstance(entry, dict) or set(entry) != {"url", "secret"}:
        raise ValueError(f"PROCESSORS {name}: url and secret are needed, and nothing else")
    url, secret = entry["url"], entry["secret"]
    if not isinstance(url, str) or not is_safe(url) or not isinstance(secret, str) or not secret:
        raise ValueError(f"PROCESSORS {name}: the url is not an https address, or the secret is no text")
    return Processor(name, url, secret)


def send(processor: Processor, message_id: str, body: bytes) -> int:
    """The status with which the processor takes a message. Raises Unreachable, also without a secret to sign with."""
    moment = str(int(time.time()))
    try:
        signatures = [f"{VERSION},{_sign(key, message_id, moment, body)}" for key in _keys(processor)]
    except ValueError as error:
        raise Unreachable(str(error)) from error
    headers = {ID: message_id, TIMESTAMP: moment, SIGNATURE: " ".join(signatures)}
    return fetch(processor.url, document=body, headers=headers)[0]


def sender(headers: Mapping[str, str], body: bytes) -> Processor:
    """The processor that signed a message, of these HEADERS, within the last five minutes. Raises Unsigned."""
    message_id, moment = headers.get(ID, ""), headers.get(TIMESTAMP, "")
    if not message_id or not moment.isascii() or not moment.isdecimal():
        raise Unsigned
    if len(moment) > 12 or abs(time.time() - int(moment)) > TOLERANCE_SECONDS:
        raise Unsigned
    given = [part[len(VERSION) + 1 :] for part in headers.get(SIGNATURE, "").split() if part.startswith(f"{VERSION},")]
    for processor in processors().values():
        try:
            known = [_sign(key, message_id, moment, body) for key in _keys(processor)]
        except ValueError as error:
            log.entry("ERROR", "a processor cannot be recognised", why=str(error))
            continue
        if any(hmac.compare_digest(mine.encode(), theirs.encode()) for mine in known for theirs in given):
            return processor
    raise Unsigned


def _sign(key: bytes, message_id: str, moment: str, body: bytes) -> str:
    content = f"{message_id}.{moment}.".encode() + body
    return base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def _keys(processor: Processor) -> list[bytes]:
    """The keys of the secret, the newest first as they stand there. Raises ValueError."""
    from google.api_core.exceptions import GoogleAPIError  # noqa: PLC0415 - slow to import, only where it is used
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    try:
        texts = secrets.read(processor.secret).decode().split()
    except (OSError, ValueError, GoogleAPIError, GoogleAuthError) as error:
        raise ValueError(f"the secret of processor {processor.name} cannot be read: {type(error).__name__}") from error
    keys = [_key(processor.name, text) for text in texts]
    if not keys:
        raise ValueError(f"the secret of processor {processor.name} is empty")
    return keys


def _key(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix(MARK), validate=True)
    except binascii.Error:
        key = b""
    if not text.startswith(MARK) or not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ValueError(f"the secret of processor {name} is not {MARK} and base64 of 24 to 64 bytes")
    return key
