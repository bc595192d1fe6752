"""Who is in the drill: people with log-ins, whoever writes all the time, and whoever is erased and when."""

import base64
import json
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pg8000.native
import requests

from local.demo.client import RECEIPT, Client, Mailbox, eventually, fragment

TOKEN_SECONDS = 6 * 3600
WRITE_PAUSE = 0.1
ERASURE_SECONDS = 300


class Refused(Exception):
    """The API answered something else than it should; the message says what."""


@dataclass
class Person:
    """Somebody in one organization, with an access token."""

    user_id: str
    tenant_id: str
    email: str
    name: str
    client: Client
    project: str = ""

    def post(self, path: str, body: dict[str, Any], status: int) -> dict[str, Any]:
        """POST; the document of the answer. Raises Refused at another status."""
        answer = self.client.post(path, body)
        if answer.status_code != status:
            raise Refused(f"POST {path}: {answer.status_code} {answer.text[:300]}")
        document: dict[str, Any] = answer.json()
        return document


class People:
    """Makes accounts and log-ins as the stack's own key signs them."""

    def __init__(self, stack: dict[str, Any], admin: pg8000.native.Connection) -> None:
        self._stack, self._admin = stack, admin
        ring = json.loads(Path(stack["jwt_keyring"]).read_text())
        self._kid = ring["active"]
        self._key = base64.urlsafe_b64decode(ring["keys"][self._kid]["key"] + "==")

    def create(self, role: str, tenant_id: str = "") -> Person:
        """A person with a project and a task, in an organization of their own unless one is given."""
        user_id, session_id, mark = str(uuid.uuid4()), str(uuid.uuid4()), uuid.uuid4().hex[:10]
        email, name = f"{role}-{mark}@example.org", f"{role.title()} Drill-{mark}"
        if not tenant_id:
            tenant_id = str(uuid.uuid4())
            self._insert("app.organizations", tenant_id=tenant_id, slug=f"org-{mark}", name=f"Organization {mark}")
        self._insert("identity.accounts", id=user_id, email=email, display_name=name)
        self._insert("app.members", tenant_id=tenant_id, user_id=user_id, role=role)
        self._admin.run(
            "INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at)"
            " VALUES (:id, :account, :tenant, '{pwd}', now() + interval '1 day')",
            id=session_id,
            account=user_id,
            tenant=tenant_id,
        )
        client = Client(self._stack["api"])
        client.token = self._token(user_id, tenant_id, session_id)
        person = Person(user_id, tenant_id, email, name, client)
        person.project = person.post("/v1/projects", {"name": f"Work of {user_id}"}, 201)["id"]
        person.post(f"/v1/projects/{person.project}/tasks", {"title": "A task", "assignee_id": user_id}, 201)
        return person

    def _insert(self, table: str, **values: str) -> None:
        names = ", ".join(values)
        places = ", ".join(f":{name}" for name in values)
        self._admin.run(f"INSERT INTO {table} ({names}) VALUES ({places})", **values)  # noqa: S608 - names of ours

    def _token(self, user_id: str, tenant_id: str, session_id: str) -> str:
        now = int(time.time())
        claims = {
            **{"iss": self._stack["api"], "aud": self._stack["api"], "sub": user_id, "account_id": user_id},
            **{"tenant_id": tenant_id, "sid": session_id, "client_id": "first-party", "jti": str(uuid.uuid4())},
            **{"iat": now, "nbf": now, "exp": now + TOKEN_SECONDS, "amr": ["pwd"], "auth_time": now},
        }
        return jwt.encode(claims, self._key, "HS256", headers={"typ": "at+jwt", "kid": self._kid})


class Written(NamedTuple):
    """A row that the API has promised: its id, when it was asked for and when it was answered (time.time())."""

    id: str
    asked: float
    answered: float


class Writer(threading.Thread):
    """Somebody who writes task after task until told to stop, and remembers each that was promised."""

    def __init__(self, person: Person) -> None:
        super().__init__(daemon=True)
        self.person = person
        self.rows: list[Written] = []
        self._over = threading.Event()

    def run(self) -> None:
        """Write; what is refused while the database goes is not promised, and not counted."""
        while not self._over.wait(WRITE_PAUSE):
            asked = time.time()
            try:
                made = self.person.post(f"/v1/projects/{self.person.project}/tasks", {"title": "A row"}, 201)
            except (Refused, requests.RequestException):
                continue
            self.rows.append(Written(made["id"], asked, time.time()))

    def wait_for_more(self, count: int) -> None:
        """Return when so many more rows were promised."""
        until = len(self.rows) + count
        eventually(lambda: len(self.rows) >= until, 60, "more rows")

    def stop(self) -> None:
        """End after the present row."""
        self._over.set()
        self.join()


class Cast:
    """Everybody, what they are erased by, and the receipts that came by mail."""

    def __init__(self, stack: dict[str, Any], admin: pg8000.native.Connection) -> None:
        people = People(stack, admin)
        self.inbox = stack["mail"]
        self.olga, self.mallory, self.wanda = (people.create("owner") for _ in range(3))
        self.early = people.create("developer", self.olga.tenant_id)  # erased before the moment
        self.dan = people.create("developer", self.olga.tenant_id)  # everywhere, after it
        self.alone = people.create("owner")  # her organization goes with her
        self.frida = people.create("developer", self.mallory.tenant_id)  # from this organization; her account stays
        self.gustav = people.create("owner")  # his organization goes; he stays
        export = self.alone.post("/v1/exports", {"scope": "me", "format": "json"}, 202)["id"]
        path = f"/v1/exports/{export}"
        eventually(lambda: self.alone.client.get(path).json()["status"] == "ready", ERASURE_SECONDS, "an export")

    def early_requests(self) -> list[str]:
        """Ask for the erasures before the moment; the ids of the requests."""
        return [self._ask(self.early, scope="me")]

    def late_requests(self) -> list[str]:
        """Ask for those after it."""
        return [
            self._ask(self.alone, scope="me"),
            self._ask(self.dan, scope="me"),
            self._ask(self.mallory, scope="user", user_id=self.frida.user_id),
            self._ask(self.gustav, scope="organization"),
        ]

    def _ask(self, person: Person, **body: str) -> str:
        return str(person.post("/v1/deletions", dict(body), 202)["id"])

    @property
    def erased(self) -> list[Person]:
        """Whoever is erased as a person."""
        return [self.early, self.alone, self.dan]

    def receipt(self, person: Person) -> str:
        """The receipt of the last mail that ever goes to this address."""
        return fragment(Mailbox(self.inbox, person.email).link(RECEIPT), "receipt")

    def mails(self) -> int:
        """How many mails the erased have had."""
        return sum(len(Mailbox(self.inbox, person.email).mails()) for person in self.erased)
