"""Round trips to PostgreSQL of one request: sent one after another, counted on the wire."""

import http.client
from collections.abc import Callable
from urllib.parse import urlsplit

from bench.flights import counted
from bench.harness.loading import Work
from bench.harness.targets import Target
from bench.parts.turns import running

REQUESTS = 40


def trips(
    server: int, make: Callable[[int], Target], requests: Callable[[Target], dict[str, Work]]
) -> dict[str, float]:
    """By operation. `make` gives a target whose database listens on that port instead of the server's."""
    found = {}
    with counted(server) as (port, flights):
        target = make(port)
        with running([target]):
            for operation, work in requests(target).items():
                connection = http.client.HTTPConnection(target.url.hostname or "", target.url.port, timeout=30)
                for number in range(2 * REQUESTS):
                    if number == REQUESTS:  # connections and statements are there by now
                        flights.begin()
                    _send(connection, work, number, target.name)
                found[operation] = flights.count / REQUESTS
                connection.close()
    return found


def _send(connection: http.client.HTTPConnection, work: Work, number: int, name: str) -> None:
    method, path, lines, body = work.requests[number % len(work.requests)]
    unique = f"trip-{id(work)}-{number}"
    pairs = (line.replace("{unique}", unique).partition(":") for line in lines)
    headers = {key: value.strip() for key, _, value in pairs} | ({"Content-Type": "application/json"} if body else {})
    connection.request(method, path, headers=headers, body=body.replace("{unique}", unique) or None)
    answer = connection.getresponse()
    answer.read()
    if answer.status != work.status:
        raise SystemExit(f"{name}: {method} {path} was answered {answer.status}")


def moved(target: Target, port: int) -> Target:
    """Ours, with its database behind another port."""
    part = urlsplit(target.env["DATABASE_URL"])
    place = part.netloc.rpartition(":")[0]
    target.env["DATABASE_URL"] = part._replace(netloc=f"{place}:{port}").geturl()
    return target
