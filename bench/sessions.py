"""One replica of the session API beside bare aiohttp and sse-starlette: an event to 1,000 watchers, 5,000 open streams.

Ours is `python -m sessions.server` as it stands, on a PostgreSQL and a Valkey of its own; an event is published by
appending it through the API, so that our age and our CPU hold the request, its transaction and the disk, while the
peers only hear of a PUBLISH. Each is started anew for every round, and opened directly: no gateway.
"""

import sys
import time
import uuid
from typing import Any

import jwt

from bench import results
from bench.alone import admin_url, alone, connection, listener, postgres_pid
from bench.harness.realtime import watch
from bench.harness.site import Site, cache, site
from bench.harness.targets import Target
from bench.machine import CHECKOUT, VAR
from bench.ours import NAME, PLENTY
from bench.parts.sizes import Sizes
from bench.parts.turns import rotated
from bench.results import Run
from bench.tokens import signing_key
from local.layout import HOST, Layout
from local.stack import function_environment

BASE = "aiohttp_sse"
PEERS = (BASE, "starlette_sse")
DAY = 86_400
SCENARIOS = {"streams fan-out": "1x1000@20", "streams held": "1x5000@1"}
SMALL = {"streams fan-out": "1x50@20", "streams held": "1x100@1"}
SEED = (
    "INSERT INTO app.organizations (tenant_id, slug, name) VALUES (:tenant, 'watched', 'Watched')",
    "INSERT INTO identity.accounts (id, email, display_name) VALUES (:person, 'person@example.com', 'Person')",
    "INSERT INTO app.members (tenant_id, user_id, role) VALUES (:tenant, :person, 'developer')",
    "INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at)"
    " VALUES (:login, :person, :tenant, '{pwd}', now() + interval '1 day')",
    "INSERT INTO app.projects (tenant_id, id, name, created_by) VALUES (:tenant, :project, 'Watched', :person)",
    "INSERT INTO app.sessions (tenant_id, id, project_id, title, created_by, closes_at)"
    " VALUES (:tenant, :session, :project, 'Watched by many', :person, now() + interval '1 day')",
    "VACUUM ANALYZE",
)


class Watched:
    """A session, and who watches it."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.ids = {name: str(uuid.uuid4()) for name in ("tenant", "person", "login", "project", "session")}
        with connection(admin_url(layout)) as admin:
            for sql in SEED:
                admin.run(sql, **{name: value for name, value in self.ids.items() if f":{name}" in sql})

    def token(self, _number: int = 1, _role: str = "member") -> tuple[str, str]:
        """(tenant, access token) of the one who watches."""
        kid, key = signing_key({"jwt_keyring": self._layout.path("keys", "jwt-keyring.json")})
        ids, now, api = self.ids, int(time.time()), self._layout.url("gateway")
        claims: dict[str, Any] = {"iss": api, "aud": api, "sub": ids["person"], "account_id": ids["person"]}
        claims |= {"sid": ids["login"], "tenant_id": ids["tenant"], "client_id": "first-party", "amr": ["pwd"]}
        claims |= {"jti": str(uuid.uuid4()), "iat": now, "nbf": now, "exp": now + DAY, "auth_time": now}
        return ids["tenant"], jwt.encode(claims, key, "HS256", headers={"typ": "at+jwt", "kid": kid})

    def target(self) -> Target:
        """What the local stack would start, with room for the measurement."""
        layout = self._layout
        port, path = layout.ports["sessions-1"], f"/v1/sessions/{self.ids['session']}"
        edge = layout.path("mounts", "sessions", "edge-key").read_text().split()[0]
        env = function_environment(layout, "sessions", {"TELEMETRY": "off"}) | PLENTY
        env |= {"HOST": HOST, "PORT": str(port), "DRAIN_SECONDS": "0", "STREAMS_PER_ORGANIZATION": "1000000"}
        env |= {"SESSION_IDLE_SECONDS": str(DAY)}
        body = '{"events":[{"type":"tick","data":{payload}}]}'
        spec: dict[str, Any] = {"base_url": f"http://{HOST}:{port}", "probe": {"path": "/health/"}}
        header = ["Authorization: Bearer {token}", f"X-Edge-Key: {edge}", f"X-Client-Ip: {HOST}"]
        spec |= {"auth": {"header": header}}
        spec["events"] = {"path": f"{path}/stream", "publish": {"kind": "http", "path": f"{path}/events", "body": body}}
        command = [sys.executable, "-m", "sessions.server"]
        found = Target(NAME, spec, command, CHECKOUT, env, layout.path("log-sessions"), self.token)
        found.postgres = postgres_pid(layout)
        return found


def measure(sizes: Sizes) -> None:
    """Both scenarios."""
    with alone(VAR / "sessions", valkey=True) as layout, site() as theirs, cache(theirs) as (pid, port):
        own, watched = (listener(layout.ports["valkey"]), layout.ports["valkey"]), Watched(layout)
        with connection(admin_url(layout)) as admin:
            version = str(admin.run("SHOW server_version")[0][0])
        targets = [watched.target(), *(_peer(theirs, name, port) for name in PEERS)]
        for case, scenario in (SMALL if sizes.small else SCENARIOS).items():
            rows: dict[str, list[Run]] = {target.name: [] for target in targets}
            for number in range(sizes.rounds):
                for target in rotated(targets, number):
                    valkey = own if target.name == NAME else (pid, port)
                    rows[target.name].append(watch(target, scenario, 2 * sizes.seconds, valkey))
                print(f"{case} {number + 1} of {sizes.rounds}", flush=True)
            results.record(case, rows, small=sizes.small, postgres=version, scenario=scenario)


def _peer(theirs: Site, name: str, port: int) -> Target:
    target = theirs.target(f"realtime/{name}", "postgres", REDIS_URL=f"redis://127.0.0.1:{port}/0")
    target.postgres = 0
    return target
