"""What the watcher of open streams costs, and how soon it cuts: `python -m bench.watching`.

One replica's hub and watcher in this process, 5,000 readers of 5,000 people in five organizations, PostgreSQL durable,
no TLS. The numbers stand in docs/decisions/0022-revocation-by-a-feed.md.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pg8000.native

from bench.alone import admin_url, alone, connection, cpu_seconds, postgres_pid
from bench.machine import VAR
from common.settings import settings
from common.tokens import Claim
from local.layout import Layout
from local.stack import function_environment
from sessions.hub import Hub
from sessions.outcomes import Opening, Place
from sessions.topic import Reader
from sessions.watch import Watch

READERS, ORGANIZATIONS = 5000, 5
SECONDS = 30.0
SEED = (
    "INSERT INTO app.organizations (tenant_id, slug, name)"
    " SELECT id, 'org-' || id, 'Organization' FROM unnest(CAST(:tenants AS uuid[])) AS id",
    "INSERT INTO app.projects (tenant_id, id, name, created_by)"
    " SELECT id, id, 'Project', id FROM unnest(CAST(:tenants AS uuid[])) AS id",
    "INSERT INTO identity.accounts (id, email, display_name)"
    " SELECT id, id || '@example.com', 'Person' FROM unnest(CAST(:people AS uuid[])) AS id",
    "INSERT INTO app.members (tenant_id, user_id, role)"
    " SELECT tenant, id, 'viewer' FROM unnest(CAST(:places AS uuid[]), CAST(:people AS uuid[])) AS p (tenant, id)",
    "INSERT INTO identity.login_sessions (id, account_id, tenant_id, amr, expires_at) SELECT id, id, tenant, '{pwd}',"
    " now() + interval '1 day' FROM unnest(CAST(:places AS uuid[]), CAST(:people AS uuid[])) AS p (tenant, id)",
    "INSERT INTO app.sessions (tenant_id, id, project_id, title, created_by, closes_at) SELECT tenant, id, tenant, 'S',"
    " id, now() + interval '1 day' FROM unnest(CAST(:places AS uuid[]), CAST(:people AS uuid[])) AS p (tenant, id)",
)


class Fan:
    """No other replica; whether it works decides how often the watcher asks for the sessions."""

    def __init__(self, up: bool) -> None:
        self.up = up

    def follow(self, place: Place) -> None:
        """Nothing."""

    leave = follow

    def tell(self, place: Place, *_rest: Any) -> None:
        """Nothing."""

    tell_end = tell


class Replica:
    """A hub with a reader per person, each of a session of its own, or all of one organization of the same."""

    def __init__(self, people: list[tuple[str, str]], *, up: bool, apart: bool) -> None:
        self._threads = ThreadPoolExecutor(2)
        self.hub = Hub(self._read)
        self.hub.fan = Fan(up)
        first: dict[str, str] = {}
        for tenant, person in people:
            place = Place(tenant, person if apart else first.setdefault(tenant, person))
            claim = Claim("u", tenant, person, person)
            self.hub.join(Opening(place, claim, after=0, tip=0, closed=False, expires_at=None), _nothing)
        self.watch = Watch(self.hub, self.run, self.run)

    async def run(self, function: Callable[..., Any], *given: Any) -> Any:
        """A call in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *given)

    async def _read(self, *_given: Any) -> tuple[int, list[bytes]]:
        return 1, []

    def of(self, tenant: str) -> list[Reader]:
        """The readers of an organization."""
        return [reader for reader in self.hub.readers() if reader.place.tenant_id == tenant]


def _nothing() -> None:
    """No connection to break off."""


async def watched(layout: Layout, people: list[tuple[str, str]], *, up: bool, apart: bool) -> str:
    """CPU per second of this process and of PostgreSQL while nothing happens but the checks of once a minute."""
    replica = Replica(people, up=up, apart=apart)
    task = asyncio.create_task(replica.watch.run())
    await asyncio.sleep(5)  # everybody has been asked about once
    before = time.perf_counter(), time.process_time(), cpu_seconds(postgres_pid(layout))
    await asyncio.sleep(SECONDS)
    after = time.perf_counter(), time.process_time(), cpu_seconds(postgres_pid(layout))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    wall, own, theirs = (late - early for early, late in zip(before, after, strict=True))
    return f"{own / wall * 1000:.1f} ms + {theirs / wall * 1000:.1f} ms of PostgreSQL a second"


async def suspended(admin: pg8000.native.Connection, people: list[tuple[str, str]], tenant: str) -> list[float]:
    """From the commit of a suspension to the last cut of 1,000 streams, in milliseconds, some times over."""
    found: list[float] = []
    for _ in range(20):
        replica = Replica(people, up=True, apart=False)
        task = asyncio.create_task(replica.watch.run())
        await asyncio.sleep(5.2 + len(found) / 40)  # at each place between two looks
        admin.run("UPDATE app.organizations SET suspended_at = now() WHERE tenant_id = :t", t=tenant)
        began = time.perf_counter()
        while any(reader.code is None for reader in replica.of(tenant)):
            await asyncio.sleep(0.005)
        found.append((time.perf_counter() - began) * 1000)
        if any(reader.code for reader in replica.hub.readers() if reader.place.tenant_id != tenant):
            raise SystemExit("a stream of another organization was cut")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        admin.run("UPDATE app.organizations SET suspended_at = NULL WHERE tenant_id = :t", t=tenant)
    return sorted(found)


def main() -> None:
    """Measure and print."""
    tenants = [str(uuid.uuid4()) for _ in range(ORGANIZATIONS)]
    people = [(tenants[n % ORGANIZATIONS], str(uuid.uuid4())) for n in range(READERS)]
    with alone(VAR / "watching") as layout, connection(admin_url(layout)) as admin:
        os.environ.update(function_environment(layout, "sessions", {"TELEMETRY": "off"}))
        settings.cache_clear()
        known = {"tenants": tenants, "people": [each[1] for each in people], "places": [each[0] for each in people]}
        for sql in SEED:
            admin.run(sql, **{name: value for name, value in known.items() if f":{name} " in sql})
        admin.run("VACUUM ANALYZE")
        found = asyncio.run(suspended(admin, people, tenants[0]))
        middle = found[len(found) // 2]
        print(f"1,000 streams of a suspended organization: {found[0]:.0f} to {found[-1]:.0f} ms, median {middle:.0f}")
        for up, apart in ((True, False), (True, True), (False, True)):
            line = asyncio.run(watched(layout, people, up=up, apart=apart))
            sessions = READERS if apart else ORGANIZATIONS
            print(f"{READERS} readers of {sessions} sessions, Valkey {'there' if up else 'away'}: {line}")


if __name__ == "__main__":
    main()
