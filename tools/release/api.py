"""One of Google's REST APIs: calls, and operations that take their time."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests
from google.auth.exceptions import GoogleAuthError

Resource = dict[str, Any]
ANSWER_SECONDS = (5, 60)  # to connect, to answer
LATER = frozenset({429, 500, 502, 503, 504})
LOOKS = 5  # so often something is asked for before it counts as out of reach; what writes is sent once


class Failed(Exception):
    """A step did not succeed; the text says which and why."""


class Missing(Failed):
    """404: there is no such thing."""


@dataclass(frozen=True)
class Api:
    """`endpoint` with its version; `session` brings the caller's access token. `poll`: seconds between two looks at an
    operation; `patience`: seconds after which one is given up.
    """

    session: requests.Session
    endpoint: str
    poll: float = 2.0
    patience: float = 3900.0  # longer than any job of the catalog

    def call(
        self, method: str, path: str, body: Resource | None = None, content_type: str = "application/json", **query: str
    ) -> Resource:
        """What it answers. Raises Failed."""
        tries = LOOKS if method == "GET" else 1
        for number in range(1, tries + 1):
            try:
                answer = self._send(method, path, body, content_type, query)
            except Failed:
                if number == tries:
                    raise
            else:
                if answer.status_code == 200:
                    found: Resource = answer.json()
                    return found
                if answer.status_code not in LATER or number == tries:
                    break
            time.sleep(self.poll * number)
        kind = Missing if answer.status_code == 404 else Failed
        raise kind(f"{method} {path}: {answer.status_code} {_message(answer)}")

    def _send(
        self, method: str, path: str, body: Resource | None, content_type: str, query: dict[str, str]
    ) -> requests.Response:
        """Raises Failed where nobody answers, also where no token is to be had."""
        url, headers = f"{self.endpoint}/{path}", {"Content-Type": content_type}
        try:
            return self.session.request(method, url, json=body, headers=headers, params=query, timeout=ANSWER_SECONDS)
        except (requests.RequestException, GoogleAuthError) as error:
            raise Failed(f"{method} {path}: {type(error).__name__}") from error

    def done(self, operation: Resource) -> Resource:
        """What a long-running operation made. Raises Failed."""
        operation = self.until(operation, lambda found: found.get("done", False))
        if "error" in operation:
            raise Failed(f"{operation['name']}: {operation['error'].get('message', operation['error'])}")
        made: Resource = operation.get("response", {})
        return made

    def until(self, found: Resource, done: Callable[[Resource], bool], path: str = "") -> Resource:
        """Look at a resource, by its name or a path, until it is done. Raises Failed when that takes too long."""
        path = path or found["name"]
        deadline = time.monotonic() + self.patience
        while not done(found):
            if time.monotonic() > deadline:
                raise Failed(f"{path}: not done after {self.patience:.0f} s")
            time.sleep(self.poll)
            found = self.call("GET", path)
        return found


def _message(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return answer.reason
