"""A running stack per worker, an HTTP client for its gateway, and a cast: Alice owns, Dan develops, Vera views.

Mallory belongs to another organization. Each test gets a fresh organization, so nothing is ever cleaned up.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt
import pg8000.native
import pytest
import requests

from local.identity import Issuer
from local.layout import Layout, service_account
from local.processes import die_with_parent
from tests.providers import Provider, running_provider

CHECKOUT = Path(__file__).parent.parent
READY_SECONDS = 120
REFUSED = '"denied by IAM"'  # local/grants.py
PASSWORD = "correct horse battery staple"  # pragma: allowlist secret
SETTINGS = {
    "CORS_ORIGINS": "https://app.example.org, https://admin.example.org",
    "SECURITY_CONTACT": "security@example.org",
    "INVITATION_PAUSE_SECONDS": "0",
    "TELEMETRY": "off",  # traces and metrics have a stack of their own
    "DELETION_GRACE_USER_SECONDS": "0",
    "ALERTS": "off",
    **{f"RATE_{name}": "1000000/minute" for name in ("ANONYMOUS", "USER", "IP", "ORGANIZATION")},
}


PATIENCE = 3


def wait_until(condition: Callable[[], Any], seconds: float = 30, what: str = "it") -> Any:
    """Poll until the condition is true and return its value; fail with `what` after the deadline.

    `seconds` is far more than a quiet machine needs. A busy one gets PATIENCE times as much, and the drainer of the
    outbox, who comes each minute, a chance to send what was not sent at once.
    """
    deadline = time.monotonic() + seconds * PATIENCE
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    pytest.fail(f"{what} did not happen within {seconds} s")


@contextmanager
def running_stack(folder: Path, only: Sequence[str] = (), **settings: str) -> Iterator[dict[str, Any]]:
    """A throw-away stack as `make run` starts it; its stack.json.

    A test that needs few services names them in `only`; `auth` and `retention` are always there, and all stand-ins.
    """
    log = (folder / "supervisor.log").open("wb")
    command = [sys.executable, "-m", "local.supervisor", "--ephemeral", *(("--only", *only) if only else ())]
    environment = {**os.environ, **SETTINGS, **settings, "TMPDIR": str(folder)}
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=environment,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=die_with_parent(),
    )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not (found := list(folder.glob("dev-context-stack-*/stack.json"))):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("the stack did not start:\n" + (folder / "supervisor.log").read_text()[-3000:])
            time.sleep(0.1)
        stack = json.loads(found[0].read_text())
        stack["path"] = str(found[0])
        stack["tried"] = set()  # what a test asked for to be refused: account, permission, resource
        yield stack
        denied = refused_by_iam(Path(stack["path"]).parent / "log") - stack["tried"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()
    assert denied == set(), "an account was refused what it asked for: functions/catalog.yaml grants too little"


def refused_by_iam(folder: Path) -> set[tuple[str, str, str]]:
    """Account, permission and resource of every refusal that the stand-ins of a stack have noted."""
    lines = (line for file in folder.glob("*.log*") for line in file.read_text(errors="replace").splitlines())
    found = (json.loads(line[line.index("{") :]) for line in lines if REFUSED in line)
    return {(entry["caller"], entry["permission"], entry["resource"]) for entry in found}


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """The outside provider of people and tokens that the stack knows."""
    with running_provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[dict[str, Any]]:
    with running_stack(tmp_path_factory.mktemp("stack"), **provider.settings()) as running:
        yield running


def pid_of(stack: dict[str, Any], service: str) -> int:
    """The present pid of a service: stack.json is kept current."""
    return int(json.loads(Path(stack["path"]).read_text())["pids"][service])


@dataclass
class Answer:
    """An answer of the API."""

    response: requests.Response

    @property
    def status_code(self) -> int:
        return self.response.status_code

    @property
    def headers(self) -> Any:
        return self.response.headers

    @property
    def text(self) -> str:
        return self.response.text

    @cached_property
    def json(self) -> Any:
        return self.response.json()


class Api:
    """HTTP to the gateway; no redirect is followed, no cookie is kept."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._session = requests.Session()
        self._session.trust_env = False

    def request(self, method: str, path: str, **options: Any) -> Answer:
        self._session.cookies.clear()
        url = path if path.startswith("http") else self.base + path
        return Answer(self._session.request(method, url, allow_redirects=False, timeout=30, **options))

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Answer:
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> Answer:
        return self.request("PUT", path, **options)

    def patch(self, path: str, **options: Any) -> Answer:
        return self.request("PATCH", path, **options)

    def delete(self, path: str, **options: Any) -> Answer:
        return self.request("DELETE", path, **options)


@pytest.fixture
def api(stack: dict[str, Any]) -> Iterator[Api]:
    client = Api(stack["api"])
    yield client
    client._session.close()


def database(url: str) -> pg8000.native.Connection:
    """A plain connection to a libpq URL."""
    part = urlsplit(url)
    return pg8000.native.Connection(
        unquote(part.username or ""),
        password=unquote(part.password or ""),
        host=part.hostname or "",
        port=part.port or 5432,
        database=part.path.lstrip("/"),
        ssl_context=False,
    )


@pytest.fixture
def admin(stack: dict[str, Any]) -> Iterator[pg8000.native.Connection]:
    """The superuser: for looking behind the product, never for what the product does."""
    with database(stack["postgres"]["admin"]) as connection:
        yield connection


class Person(dict[str, str]):
    """Request headers of a person who is logged in, and who they are."""

    def __init__(self, user_id: str, tenant_id: str, email: str, name: str, session_id: str, token: str) -> None:
        super().__init__(Authorization=f"Bearer {token}")
        self.user_id, self.tenant_id, self.email, self.name = user_id, tenant_id, email, name
        self.session_id, self.token = session_id, token


@cache
def hashed(password: str) -> str:
    """A password as accounts have it; the same text for all who have it, since the work is what takes time."""
    from argon2 import PasswordHasher

    return PasswordHasher(memory_cost=19_456, time_cost=2, parallelism=1).hash(password)


class People:
    """Makes accounts, organizations and log-ins behind the product's back: what a test starts from."""

    def __init__(self, stack: dict[str, Any], connection: pg8000.native.Connection) -> None:
        self._admin = connection
        self._issuer = stack["api"]
        ring = json.loads(Path(stack["jwt_keyring"]).read_text())
        self._kid, self._key = ring["active"], ring["keys"][ring["active"]]

    def create(self, role: str = "owner", tenant_id: str | None = None, *, password: str | None = None) -> Person:
        """A person with this role, in an organization of their own unless one is given."""
        user_id, session_id = str(uuid.uuid4()), str(uuid.uuid4())
        email, name = f"{role}-{user_id[:8]}@example.org", f"{role.title()} {user_id[:8]}"
        if tenant_id is None:
            tenant_id = self.organization()
        self._admin.run(
            "INSERT INTO identity.accounts (id, email, display_name, password_hash) VALUES (:id, :email, :name, :hash)",
            id=user_id,
            email=email,
            name=name,
            hash=hashed(password) if password else None,
        )
        self.join(user_id, tenant_id, role)
        return self.log_in(Person(user_id, tenant_id, email, name, session_id, ""))

    def organization(self) -> str:
        """A new organization without members."""
        tenant_id = str(uuid.uuid4())
        self._admin.run(
            "INSERT INTO app.organizations (tenant_id, slug, name) VALUES (:id, :slug, :name)",
            id=tenant_id,
            slug=f"org-{tenant_id[:8]}",
            name=f"Organization {tenant_id[:8]}",
        )
        return tenant_id

    def join(self, user_id: str, tenant_id: str, role: str) -> None:
        """Make somebody a member."""
        self._admin.run(
            "INSERT INTO app.members (tenant_id, user_id, role) VALUES (:tenant, :user, :role)",
            tenant=tenant_id,
            user=user_id,
            role=role,
        )

    def log_in(self, person: Person, *, tenant_id: str | None = None, age_seconds: int = 0) -> Person:
        """The person with a new login session, `age_seconds` after the last proof of identity."""
        session_id = str(uuid.uuid4())
        tenant = tenant_id or person.tenant_id
        self._admin.run(
            "INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at, auth_time)"
            " VALUES (:id, :account, :tenant, '{pwd}', now() + interval '1 day',"
            " now() - make_interval(secs => :age))",
            id=session_id,
            account=person.user_id,
            tenant=tenant,
            age=age_seconds,
        )
        claims: dict[str, Any] = {"sub": person.user_id, "account_id": person.user_id}
        claims |= {"tenant_id": tenant, "sid": session_id}
        token = self.token(auth_time=int(time.time()) - age_seconds, **claims)
        return Person(person.user_id, tenant, person.email, person.name, session_id, token)

    def token(self, *, headers: dict[str, Any] | None = None, key: Any = None, **claims: Any) -> str:
        """An access token with these claims over the usual ones, by the stack's own key unless another is given."""
        now = int(time.time())
        usual = {
            "iss": self._issuer,
            "aud": self._issuer,
            "client_id": "first-party",
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "jti": str(uuid.uuid4()),
            "amr": ["pwd"],
            "auth_time": now,
        }
        head = {"typ": "at+jwt", "kid": self._kid, **(headers or {})}
        return jwt.encode({**usual, **claims}, key or self.secret, head.get("alg", "HS256"), headers=head)

    @property
    def secret(self) -> bytes:
        """The raw bytes of the active HS256 key."""
        import base64

        return base64.urlsafe_b64decode(self._key["key"] + "=" * (-len(self._key["key"]) % 4))


@pytest.fixture
def people(stack: dict[str, Any], admin: pg8000.native.Connection) -> People:
    return People(stack, admin)


@pytest.fixture
def alice(people: People) -> Person:
    return people.create("owner", password=PASSWORD)


@pytest.fixture
def dan(people: People, alice: Person) -> Person:
    return people.create("developer", alice.tenant_id)


@pytest.fixture
def vera(people: People, alice: Person) -> Person:
    return people.create("viewer", alice.tenant_id)


@pytest.fixture
def mallory(people: People) -> Person:
    return people.create("owner")


class Inbox:
    """The mail catcher's messages."""

    def __init__(self, api: Api, base: str) -> None:
        self._api, self._base = api, base

    def messages(self, address: str) -> list[dict[str, Any]]:
        """What arrived for an address, newest first."""
        found = self._api.get(f"{self._base}/messages").json
        listed = found["messages"] if isinstance(found, dict) else found
        return [message for message in listed if address in str(message["to"])]

    def wait_for(
        self, address: str, subject: str = "", seconds: float = 30, meanwhile: Callable[[], Any] | None = None
    ) -> dict[str, Any]:
        """The newest message for an address whose subject contains the words; until then `meanwhile` is called."""

        def arrived() -> Any:
            if meanwhile:
                meanwhile()
            return next((m for m in self.messages(address) if subject.lower() in m["subject"].lower()), None)

        message: dict[str, Any] = wait_until(arrived, seconds, f"a mail {subject!r} to {address}")
        return message


@pytest.fixture
def inbox(stack: dict[str, Any], api: Api) -> Inbox:
    return Inbox(api, stack["mail"])


@pytest.fixture
def drain(stack: dict[str, Any], api: Api) -> Callable[[], Answer]:
    """Send what the outbox holds now, which else Cloud Scheduler has done every minute."""
    layout = Layout.load(Path(stack["path"]).parent / "layout.json")
    url = layout.run_url("retention")
    token = Issuer(layout.root).identity_token(service_account("scheduler"), url)
    return partial(api.post, f"{url}/internal/outbox/drain", headers={"Authorization": f"Bearer {token}"})


def last_audit_event(admin: pg8000.native.Connection, person: Person, action: str | None = None) -> dict[str, Any]:
    """The newest event of the person's organization; of this action, where others may come in between."""
    rows = admin.run(
        "SELECT to_json(e) FROM app.audit_events e"
        " WHERE tenant_id = :tenant AND (CAST(:action AS text) IS NULL OR action = :action) ORDER BY seq DESC LIMIT 1",
        tenant=person.tenant_id,
        action=action,
    )
    event: dict[str, Any] = rows[0][0]
    return event
