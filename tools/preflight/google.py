"""The project's APIs, read and never written, with the caller's own credentials."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from google.api_core.exceptions import Forbidden, GoogleAPICallError, NotFound
from google.auth.exceptions import GoogleAuthError

ANSWER_SECONDS = (5, 30)
APIS = {
    "run": "https://run.googleapis.com",
    "sqladmin": "https://sqladmin.googleapis.com",
    "monitoring": "https://monitoring.googleapis.com",
    "logging": "https://logging.googleapis.com",
    "analysis": "https://containeranalysis.googleapis.com",
}


class Unanswered(Exception):
    """Nobody could be asked, or gave no answer: why."""


@dataclass(frozen=True)
class Google:
    """One project. `session` brings the access token; `secrets` is Google's client of Secret Manager."""

    project: str
    region: str
    session: requests.Session
    secrets: Any
    endpoints: Mapping[str, str] = field(default_factory=dict)

    def ask(self, api: str, path: str, body: dict[str, Any] | None = None, **query: Any) -> dict[str, Any]:
        """What an API answers. Raises Unanswered, also where the caller may not ask."""
        url = f"{self.endpoints.get(api, APIS[api])}/{path}"
        method = "GET" if body is None else "POST"
        try:
            answer = self.session.request(method, url, params=query, json=body, timeout=ANSWER_SECONDS)
        except (requests.RequestException, GoogleAuthError) as error:
            raise Unanswered(f"{url}: {type(error).__name__}") from error
        if answer.status_code != 200:
            raise Unanswered(f"{url}: {answer.status_code}")
        found: dict[str, Any] = answer.json()
        return found

    def secret_state(self, id: str) -> str:
        """ENABLED, DISABLED, DESTROYED of a secret's newest version, or MISSING; its payload is not read."""
        name = f"projects/{self.project}/secrets/{id}/versions/latest"
        try:
            return str(self.secrets.get_secret_version(name=name).state.name)
        except NotFound:
            return "MISSING"
        except Forbidden as error:
            raise Unanswered("Secret Manager: the caller may not look (roles/secretmanager.viewer)") from error
        except (GoogleAPICallError, GoogleAuthError) as error:
            raise Unanswered(f"Secret Manager: {type(error).__name__}") from error
