"""A Maildir whose messages are on disk before they are acknowledged, and messages as people and tests read them."""

import itertools
import os
import re
import time
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage
from functools import lru_cache
from pathlib import Path

ID = re.compile(r"\d+\.M\d+P\d+Q\d+\.local")
_COUNT = itertools.count(1)


@dataclass(frozen=True)
class Mail:
    """One message; `text` and `html` are empty when it has no such part."""

    id: str
    to: str
    sender: str
    subject: str
    date: str
    text: str
    html: str

    def json(self) -> dict[str, str]:
        """What `/messages` lists."""
        return {
            "id": self.id,
            "to": self.to,
            "from": self.sender,
            "subject": self.subject,
            "date": self.date,
            "text": self.text,
        }


class Maildir:
    """`tmp`, `new` and `cur` under one folder (maildir(5)); a reader may move messages to `cur`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for left in (folder / "tmp").iterdir():
            left.unlink()

    def add(self, data: bytes) -> str:
        """Store a message and return its id; on return it is on disk."""
        at = time.time_ns() // 1000
        key = f"{at // 1_000_000}.M{at % 1_000_000:06}P{os.getpid()}Q{next(_COUNT):09}.local"
        fresh = self.folder / "tmp" / key
        with fresh.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(self.folder / "new" / key)
        self._sync()
        return key

    def newest(self, limit: int) -> list[Mail]:
        """At most `limit` messages, newest first."""
        paths = [path for name in ("new", "cur") for path in (self.folder / name).iterdir()]
        paths.sort(key=lambda path: path.name, reverse=True)
        return [mail for path in paths[:limit] if (mail := _read(path))]

    def get(self, key: str) -> Mail | None:
        """One message, or None."""
        path = self._path(key)
        return _read(path) if path else None

    def delete(self, key: str) -> bool:
        """Remove a message; whether it was there."""
        path = self._path(key)
        if path is None:
            return False
        path.unlink(missing_ok=True)
        self._sync()
        return True

    def _path(self, key: str) -> Path | None:
        if not ID.fullmatch(key):
            return None
        for path in (self.folder / "new" / key, *(self.folder / "cur").glob(f"{key}*")):
            if path.exists():
                return path
        return None

    def _sync(self) -> None:
        for name in ("new", "cur"):
            folder = os.open(self.folder / name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _read(path: Path) -> Mail | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # deleted or moved since it was listed
        return None
    return _parsed(path.name.partition(":")[0], data)


@lru_cache(512)
def _parsed(key: str, data: bytes) -> Mail:
    message = message_from_bytes(data, policy=policy.default)
    return Mail(
        id=key,
        to=_header(message, "To") or ", ".join(str(one) for one in message.get_all("Delivered-To", [])),
        sender=_header(message, "From"),
        subject=_header(message, "Subject"),
        date=_header(message, "Date"),
        text=_part(message, "plain"),
        html=_part(message, "html"),
    )


def _header(message: EmailMessage, name: str) -> str:
    """A header, or as it was sent where Python's parser fails at it: one odd mail must not hide the others."""
    try:
        return str(message.get(name, ""))
    except (LookupError, AttributeError, TypeError, ValueError, MessageError):
        raw = [str(value) for known, value in message.raw_items() if known.lower() == name.lower()]
        return raw[0].encode(errors="replace").decode(errors="replace")


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    if part is None:
        return ""
    try:
        return str(part.get_content()).replace("\r\n", "\n")
    except (LookupError, UnicodeError):  # a charset that Python does not know
        payload = part.get_payload(decode=True)
        return payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
