"""Log-in beside Argon2 alone and Django; rotating refresh, one after another and 200 at once with the same token."""

import asyncio
import functools
import http.client
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

from bench import results
from bench.harness import checks
from bench.harness.loading import Work
from bench.harness.site import ARGON2, Shape, Site, site
from bench.harness.targets import Target, fill
from bench.ours import NAME, Ours, ours
from bench.parts.sizes import Sizes
from bench.parts.trips import REQUESTS, moved, trips
from bench.parts.turns import rotated, running, turns
from bench.results import Run

PEOPLE = 500
CONNECTIONS = 6  # more would wait in the queue of a process that got them all
PARALLEL = 200
ARGON = "argon2 alone"
VERIFY = """
import json, sys, time
from argon2 import PasswordHasher
hasher = PasswordHasher(**json.loads(sys.argv[1]))
stored, done, end = hasher.hash("x"), 0, time.perf_counter() + float(sys.argv[2])
cpu = time.process_time()
while time.perf_counter() < end:
    hasher.verify(stored, "x")
    done += 1
print(json.dumps([done, time.process_time() - cpu]))
"""


def measure(sizes: Sizes, only: tuple[str, ...] = ("login", "refresh")) -> None:
    """Ours, Django (whose refresh tokens rotate, and without), and Argon2 in two processes."""
    sizes = replace(sizes, connections=CONNECTIONS)
    shape = Shape(20, 1) if sizes.small else Shape(1000, 200)
    people = min(PEOPLE, shape.tenants)
    with ours() as mine, site() as theirs:
        here, there = mine.database(shape), theirs.database(shape)
        flights = _flights(mine, theirs, here, there)
        names = ("django_drf", "django_stateless_refresh")
        targets = [mine.target("auth", here), *(theirs.target(name, there) for name in names)]
        with running(targets):
            for operation in only:
                print(operation, flush=True)
                if operation == "login":
                    rows = _log_ins(targets[:2], sizes, people)
                else:
                    rows = turns(
                        targets, sizes, functools.partial(checks.refreshes, people=min(people, 4 * CONNECTIONS))
                    )
                said = {"flights": {name: found[operation] for name, found in flights.items()}}
                results.record(operation, rows, small=sizes.small, postgres=mine.version, **said)
            if "refresh" in only:
                together = {target.name: [_together(target, number) for number in (1, 2, 3)] for target in targets[:2]}
                results.record("parallel refresh", together, small=sizes.small, postgres=mine.version)


def _log_ins(targets: list[Target], sizes: Sizes, people: int) -> dict[str, list[Run]]:
    """A round is Argon2 alone, then the targets."""
    rows: dict[str, list[Run]] = {ARGON: []}
    one = replace(sizes, rounds=1)
    for number in range(sizes.rounds):
        rows[ARGON].append(_argon(sizes.seconds))
        for name, runs in turns(
            rotated(targets, number), one, lambda t: checks.logins(t, range(1, people + 1))
        ).items():
            rows.setdefault(name, []).extend(runs)
    return rows


def _argon(seconds: float) -> Run:
    """Verifying alone, in two processes at once, as two workers would."""
    command = [sys.executable, "-c", VERIFY, json.dumps(ARGON2), str(seconds)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found = [json.loads(process.communicate()[0]) for process in both]
    done = sum(each[0] for each in found)
    return {"rps": done / seconds, "server_cpu": sum(each[1] for each in found) * 1000 / done, "postgres_cpu": 0.0}


def _flights(mine: Ours, theirs: Site, here: str, there: str) -> dict[str, dict[str, float]]:
    """Round trips to PostgreSQL of a log-in and of a refresh."""

    def requests(target: Target) -> dict[str, Work]:
        return {"login": checks.logins(target, [1]), "refresh": checks.refresh_each(target, 2 * REQUESTS)}

    def django(port: int) -> Target:
        return theirs.target("django_drf", there, PGPORT=str(port))

    own = trips(mine.layout.ports["postgres"], lambda port: moved(mine.target("auth", here), port), requests)
    return {NAME: own, "django_drf": trips(theirs.port, django, requests)}


def _together(target: Target, person: int) -> Run:
    """The same token from 200 connections at once: how each was answered."""
    spec = target.spec["refresh"]
    token = checks.refresh_token(target, person)
    body = json.dumps(fill(spec["body"], {"token": token})).encode()
    lines = [f"POST {spec['path']} HTTP/1.1", f"Host: {target.url.netloc}", *target.headers()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close", "", ""]
    statuses = asyncio.run(_all_at_once(target, "\r\n".join(lines).encode() + body))
    refused = statuses[http.client.UNAUTHORIZED]
    return {"answered": float(statuses[200]), "refused": float(refused), "asked": float(PARALLEL)}


async def _all_at_once(target: Target, request: bytes) -> Counter[int]:
    ends = [await asyncio.open_connection(target.url.hostname, target.url.port) for _ in range(PARALLEL)]
    for _, writer in ends:
        writer.write(request)

    async def status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        line = await reader.readline()
        writer.close()
        return int(line.split()[1]) if line else 0

    return Counter(await asyncio.gather(*(status(*end) for end in ends)))
