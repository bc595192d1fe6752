"""Our functions as targets of the harness: the processes of the stack, on a PostgreSQL and a Valkey of their own.

They are loaded directly, as the peers are: the headers that the gateway adds (edge key, client address, the moved
Authorization) come with the request, and every check of them runs. No gateway, scheduler or drainer works beside them.
"""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from bench.alone import admin_url, alone, connection, listener, postgres_pid, process, wait_for
from bench.harness.site import Shape
from bench.harness.targets import Target, identifier
from bench.machine import CHECKOUT, VAR
from bench.seed import seed
from bench.tokens import signing_key
from local import postgres, services
from local.layout import HOST, Layout

DAY = 86_400
HELPERS = ("metadata", "secrets", "kms", "tasks")  # what a function may call
PLENTY = {f"RATE_{name}": "1000000000/hour" for name in ("ANONYMOUS", "USER", "IP", "ORGANIZATION", "EVENTS")}
ENVIRONMENT = {"TELEMETRY": "off", "INVITATIONS_PER_HOUR": "1000000", **PLENTY}
NAME = "dev_context"
CLIENT = "203.0.113.7"
PROBE = {"path": "/health/ready"}
PROJECT = {"name": "Benchmark project {unique}", "description": "Created under load: scope, owners and dates."}
SPECS: dict[str, dict[str, Any]] = {
    "projects": {
        "probe": {"path": "/v1/projects?limit=50"},
        "list": {
            "path": "/v1/projects?limit=50",
            "items_key": "items",
            "item_marker": '"created_by"',
            "time_key": "created_at",
        },
        "get": {"path": "/v1/projects/{id}"},
        "create": {
            "path": "/v1/projects",
            "body": PROJECT,
            "invalid": {"name": "", "status": "nonsense"},
            "header": ["Idempotency-Key: {unique}"],
            "audit_sql": "SELECT count(*) FROM app.audit_events WHERE resource_id = '{id}'",
        },
    },
    "auth": {
        "login": {
            "path": "/v1/auth/login",
            "body": {"email": "{email}", "password": "{password}"},
            "header": ["Cookie: __Host-device={device}"],
        },
        "refresh": {
            "path": "/v1/auth/refresh",
            "body": {"refresh_token": "{token}"},
            "token_key": "refresh_token",
        },
    },
}


@dataclass
class Ours:
    """The place of our functions."""

    layout: Layout
    log: Path
    valkey: int = 0  # its pid

    @cached_property
    def table(self) -> dict[str, services.Service]:
        """The stack's own lines: commands and environments."""
        return {service.name: service for service in services.table(self.layout, ENVIRONMENT)}

    def url(self, database: str = postgres.DATABASE) -> str:
        """The superuser's libpq URL of a database."""
        return admin_url(self.layout).replace(f"/{postgres.DATABASE}", f"/{database}")

    @cached_property
    def version(self) -> str:
        """Of PostgreSQL."""
        with connection(self.url()) as admin:
            return str(admin.run("SHOW server_version")[0][0])

    def database(self, shape: Shape) -> str:
        """A database with the schema, these contents, and the rights of the first one; its name."""
        name = f"context_{shape.name}"
        with connection(self.url("postgres")) as admin:
            if admin.run("SELECT FROM pg_database WHERE datname = :name", name=name):
                return name
            admin.run(f"CREATE DATABASE {name} TEMPLATE {postgres.DATABASE}")
            admin.run(
                "UPDATE pg_database SET datacl = (SELECT datacl FROM pg_database WHERE datname = :first)"
                " WHERE datname = :name",
                first=postgres.DATABASE,
                name=name,
            )
            admin.run(
                "INSERT INTO pg_db_role_setting SELECT n.oid, setrole, setconfig"
                " FROM pg_db_role_setting JOIN pg_database o ON o.oid = setdatabase, pg_database n"
                " WHERE o.datname = :first AND n.datname = :name",
                first=postgres.DATABASE,
                name=name,
            )
        seed(self.url(name), shape.tenants, shape.projects)
        return name

    def target(
        self, service: str, database: str = postgres.DATABASE, *, processes: int = 2, name: str = NAME, port: int = 0
    ) -> Target:
        """A function with that database, as the stack starts it; on another port, where one is given."""
        variable = f"PROCESSES_{service.replace('-', '_').upper()}"
        table = services.table(self.layout, ENVIRONMENT | {variable: str(processes)})
        found = next(each for each in table if each.name == service)
        (own,) = found.ports
        given = dict(found.environment)
        given |= {"DATABASE_URL": urlsplit(given["DATABASE_URL"])._replace(path=f"/{database}").geturl()}
        spec = {"base_url": f"http://{HOST}:{port or own}", "auth": {"header": self.header}, "probe": PROBE}
        spec |= SPECS.get(service, {})
        command = [str(port) if port and word == str(own) else word for word in found.command]
        target = Target(name, spec, command, CHECKOUT, given, self.log / f"{name}-{service}.log")
        target.mint = self.token if service in SPECS else None  # others need not know who calls
        target.postgres, target.valkey = postgres_pid(self.layout), self.valkey
        return target

    @cached_property
    def header(self) -> list[str]:
        """What the gateway makes of a request's headers."""
        edge = self.layout.path("mounts", "projects", "edge-key", "latest").read_text().split()[0]
        return ["X-Forwarded-Authorization: Bearer {token}", f"X-Edge-Key: {edge}", f"X-Client-Ip: {CLIENT}"]

    @cached_property
    def ports(self) -> list[int]:
        """Those of services that do not run here."""
        return [port for name, port in self.layout.ports.items() if name.startswith("run:")]

    def token(self, number: int, role: str) -> tuple[str, str]:
        """(tenant, access token) of a seeded log-in session."""
        who = "viewer" if role == "viewer" else "user"
        tenant, user, session = (identifier(f"{name}{number}") for name in ("tenant", who, f"session-{who}"))
        kid, key = signing_key({"jwt_keyring": self.layout.path("keys", "jwt-keyring.json")})
        now, api = int(time.time()), self.layout.url("gateway")
        claims: dict[str, Any] = {"iss": api, "aud": api, "sub": user, "account_id": user, "tenant_id": tenant}
        claims |= {"client_id": "first-party", "sid": session, "jti": str(uuid.uuid4()), "amr": ["pwd"]}
        times = {"iat": now, "nbf": now, "exp": now + DAY, "auth_time": now}
        return tenant, jwt.encode(claims | times, key, "HS256", headers={"typ": "at+jwt", "kid": kid})


@contextmanager
def ours(folder: Path = VAR / "ours") -> Iterator[Ours]:
    """A new database with its schema, Valkey, and what functions call; gone afterwards."""
    with alone(folder, valkey=True) as layout, ExitStack() as left:
        found = Ours(layout, folder / "logs")
        found.log.mkdir()
        for name in HELPERS:
            line = found.table[name]
            log = left.enter_context((found.log / f"{name}.log").open("wb"))
            running = left.enter_context(process(list(line.command), log, env=dict(line.environment)))
            for port in line.ports:
                wait_for(port, running)
        found.valkey = listener(layout.ports["valkey"])
        yield found
