"""The API as a program at the other end of the network sees it, and the mailbox as its owner does."""

import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

import requests

ANSWER_SECONDS = 30
POLL_SECONDS = 0.05
LONGEST_PAUSE = 1.0
VERIFICATION = re.compile(r"https?://\S+/verify-email#token=[\w.~-]+")
INVITATION = re.compile(r"https?://\S+/accept-invitation#token=[\w.~-]+")
SIGNED_URL = re.compile(r"https?://\S+[?&]X-Goog-Signature=[0-9a-f]+\S*")
RECEIPT = re.compile(r"https?://\S+#\S*receipt=[\w.~-]+\S*")
T = TypeVar("T")


class TooLate(Exception):
    """Something did not happen before its deadline; the message says what."""


def eventually(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """Ask until the answer is something, ever more slowly: every question counts in a rate limit. Raises TooLate."""
    deadline, pause = time.monotonic() + seconds, POLL_SECONDS
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TooLate(f"{what} did not happen within {seconds:.0f} s")
        time.sleep(pause)
        pause = min(pause * 1.3, LONGEST_PAUSE)


class Client:
    """HTTP to the gateway. No redirect is followed, no cookie is kept; `token` is sent when there is one."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.token: str | None = None
        self._session = requests.Session()
        self._session.trust_env = False

    def send(self, method: str, path: str, body: Any = None, *, token: str | None = None, **headers: str) -> Any:
        """The response to one request; `path` may be a whole URL, which gets no token."""
        whole = path.startswith("http")
        bearer = None if whole else token or self.token
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        self._session.cookies.clear()
        return self._session.request(
            method,
            path if whole else self.base + path,
            json=body,
            headers=headers,
            allow_redirects=False,
            timeout=ANSWER_SECONDS,
        )

    def get(self, path: str, **options: Any) -> Any:
        """GET."""
        return self.send("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        """POST JSON."""
        return self.send("POST", path, {} if body is None else body, **options)

    def every(self, path: str) -> list[Any]:
        """The items of all pages of a list."""
        items: list[Any] = []
        cursor = ""
        while True:
            page = self.get(f"{path}?limit=100{cursor}").json()
            items += page["items"]
            if not page["next_cursor"]:
                return items
            cursor = f"&cursor={page['next_cursor']}"


class Mailbox:
    """The mails of one address."""

    def __init__(self, inbox: str, address: str) -> None:
        self._client = Client(inbox)
        self._inbox, self._address = inbox, address

    def mails(self) -> list[dict[str, str]]:
        """Newest first."""
        found = self._client.get(f"{self._inbox}/messages").json()
        return [mail for mail in found if self._address in mail["to"]]

    def links(self, pattern: "re.Pattern[str]") -> list[str]:
        """The links of this kind in all mails, newest mail first."""
        return [link for mail in self.mails() for link in pattern.findall(mail["text"])]

    def link(self, pattern: "re.Pattern[str]", seconds: float = 60) -> str:
        """The newest link of this kind, once there is one. Raises TooLate."""
        return eventually(lambda: self.links(pattern), seconds, f"a mail with {pattern.pattern}")[0]


def fragment(link: str, name: str) -> str:
    """A value in the fragment of a link: `#a=1&name=value`."""
    found = re.search(rf"[#&]{name}=([^&\s]+)", link)
    return found[1] if found else ""
