"""What happens in a stack before its picture is taken: two people, work, exports, an erasure, a wrong password."""

import secrets
import sys
from io import StringIO
from typing import Any

from local.demo import erasure, story
from local.demo.client import Client, Mailbox
from local.demo.console import Console
from local.demo.people import Person

PEOPLE = (("Ada", "Ada Berg", "Berg Maps"), ("Noor", "Noor Salim", "Salim Shipping"))
WORDS = ("Draw the coast", "Measure the rivers", "Name the islands", "Print the first sheet")


def live(stack: dict[str, Any]) -> None:
    """Make the stack look lived in. Raises Broken or TooLate when it does not work."""
    console = Console(StringIO())
    people = [made(stack, *each) for each in PEOPLE]
    for person in people:
        story.register(console, person)
        work(person)
    for person in people:
        story.export(console, person)
    people[0].api.post(
        "/v1/auth/login", {"email": people[0].email, "password": "not the password"}
    )  # pragma: allowlist secret
    people[1].api.get(f"/v1/projects/{people[0].projects[0]}")  # of another organization: 404
    leave(console, people[1])
    if console.failed:
        sys.stderr.write("".join(f"did not hold: {line}\n" for line in console.failed))


def made(stack: dict[str, Any], nick: str, name: str, organization: str) -> Person:
    """A new person whose address is new in a stack that runs for long, too."""
    email = f"{nick.lower()}.{secrets.token_hex(2)}@example.org"
    mailbox = Mailbox(stack["mail"], email)
    return Person(nick, name, email, secrets.token_urlsafe(24), organization, Client(stack["api"]), mailbox)


def work(person: Person) -> None:
    """A project with tasks, read now and then."""
    project = person.api.post("/v1/projects", {"name": "Atlas"}).json()
    person.projects.append(project["id"])
    path = f"/v1/projects/{project['id']}/tasks"
    for title in WORDS:
        person.api.post(path, {"title": title})
        person.api.get(path)
        person.api.get("/v1/auth/me")
        person.api.get("/v1/audit-events?limit=5")


def leave(console: Console, person: Person) -> None:
    """Asking to be erased, with the password, whether a log-in is still fresh or not."""
    erasure.step_up(console, person)
    person.api.post("/v1/deletions", {"scope": "me"})
