"""The two people of the demo, with names that occur nowhere else, so that a search for them means something."""

import secrets
from dataclasses import dataclass, field
from typing import Any

from local.demo.client import Client, Mailbox

MARK_BYTES = 5


@dataclass
class Person:
    """Somebody with a mailbox, an organization, and what they have typed: `typed` maps an id to a name and a text."""

    nick: str
    name: str
    email: str
    password: str
    organization: str
    api: Client
    mailbox: Mailbox
    refresh_token: str = ""
    answer: dict[str, Any] = field(default_factory=dict)
    typed: dict[str, tuple[str, str]] = field(default_factory=dict)
    projects: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    export: dict[str, Any] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def logged_in(self, answer: dict[str, Any]) -> None:
        """Take the tokens of a token answer."""
        self.answer = answer
        self.api.token, self.refresh_token = answer["access_token"], answer["refresh_token"]
        self.secrets += [answer["access_token"], answer["refresh_token"]]

    @property
    def user_id(self) -> str:
        """The account's id."""
        return str(self.answer["user"]["id"])


def person(stack: dict[str, Any], nick: str, surname: str, name: str | None = None) -> Person:
    """A new person of this stack; every run has its own marks in name, address, password and organization."""
    mark = secrets.token_hex(MARK_BYTES)
    email = f"{nick.lower()}.{mark}@example.org"
    made = Person(
        nick,
        name or f"{nick} {surname}-{mark}",
        email,
        secrets.token_urlsafe(24),
        f"{surname} & {mark} Company",
        Client(stack["api"]),
        Mailbox(stack["mail"], email),
    )
    made.secrets.append(made.password)
    return made
