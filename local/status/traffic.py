"""Requests of the last minutes from the gateway's access log: how many, how they ended, how long they took."""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

STEP_SECONDS = 10
STEPS = 90  # a quarter of an hour
ROUTES = 9
EDGE = "gateway"
FRONT = "run:"
STREAMS = "/v1/sessions/"  # an open stream lasts for as long as somebody looks: that is no answering time
PROBES = "/health"
RECENT = 500  # answers of fronts that may yet turn out to be those to probes


@dataclass
class Bucket:
    """What ended within one step. Times are milliseconds."""

    good: int = 0
    refused: int = 0
    failed: int = 0
    times: Counter[int] = field(default_factory=Counter)  # how many took so long: few numbers for many requests
    services: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)  # 5xx by service
    service_times: dict[str, Counter[int]] = field(default_factory=dict)
    routes: dict[str, "Route"] = field(default_factory=dict)


@dataclass
class Route:
    """One method and path template."""

    count: int = 0
    failed: int = 0
    times: Counter[int] = field(default_factory=Counter)


def percentile(times: Counter[int], share: float) -> int | None:
    """The time that this share of the requests did not exceed (nearest rank); None of none."""
    rank = max(1, math.ceil(share * times.total()))
    for took in sorted(times):
        rank -= times[took]
        if rank <= 0:
            return took
    return None


class Traffic:
    """Buckets by the moment at which a request ended."""

    def __init__(self) -> None:
        self.buckets: dict[int, Bucket] = {}
        self.recent: dict[str, tuple[Bucket, str, int, int]] = {}  # by request id, what a front answered

    def take(self, log: str, line: bytes) -> None:
        """Count a line if it is one of a request: of the gateway, or of a replica of the session API."""
        gateway = log == EDGE and b'"listener"' in line
        if not gateway and not (log.startswith("sessions-") and b'"message":"request"' in line):
            return
        try:
            entry = json.loads(line)
            moment = datetime.fromisoformat(entry["at" if gateway else "time"]).timestamp()
            status, took = int(entry["status"]), int(entry.get("milliseconds") or 0)
        except (ValueError, LookupError, TypeError):
            return
        if gateway:
            self._listened(entry, moment + took / 1000, status, took)
        elif PROBES not in str(entry.get("route")):
            self._bucket(moment).services[log] += 1
            self._bucket(moment).broken[log] += status >= 500

    def _bucket(self, moment: float) -> Bucket:
        return self.buckets.setdefault(int(moment // STEP_SECONDS), Bucket())

    def _listened(self, entry: dict[str, Any], moment: float, status: int, took: int) -> None:
        listener, route = str(entry.get("listener")), str(entry.get("route"))
        bucket = self._bucket(moment)
        if listener.startswith(FRONT):
            name = listener.removeprefix(FRONT)
            bucket.services[name] += 1
            bucket.broken[name] += status >= 500
            bucket.service_times.setdefault(name, Counter())[took] += 1
            self._remember(str(entry.get("request_id")), (bucket, name, status, took))
        elif listener == EDGE and route.startswith(PROBES):
            self._forget(str(entry.get("request_id")))
        elif listener == EDGE:
            self._at_the_edge(bucket, f"{entry.get('method')} {route}", status, took)

    def _remember(self, id: str, answered: tuple[Bucket, str, int, int]) -> None:
        self.recent[id] = answered
        if len(self.recent) > RECENT:
            del self.recent[next(iter(self.recent))]

    def _forget(self, id: str) -> None:
        """A probe: what a front has answered to it counts for nothing either. The gateway ends after the front."""
        if found := self.recent.pop(id, None):
            bucket, name, status, took = found
            bucket.services[name] -= 1
            bucket.broken[name] -= status >= 500
            bucket.service_times[name][took] -= 1

    def _at_the_edge(self, bucket: Bucket, name: str, status: int, took: int) -> None:
        bucket.good += status < 400
        bucket.refused += 400 <= status < 500
        bucket.failed += status >= 500
        bucket.services[EDGE] += 1
        bucket.broken[EDGE] += status >= 500
        route = bucket.routes.setdefault(name, Route())
        route.count += 1
        route.failed += status >= 500
        if STREAMS not in name:
            for times in (bucket.times, route.times, bucket.service_times.setdefault(EDGE, Counter())):
                times[took] += 1

    def shown(self, now: float) -> dict[str, Any]:
        """Series of `STEPS` steps, the present one last, and the busiest routes. Forgets what is older."""
        last = int(now // STEP_SECONDS)
        for old in [each for each in self.buckets if each <= last - STEPS]:
            del self.buckets[old]
        row = [self.buckets.get(each, Bucket()) for each in range(last - STEPS + 1, last + 1)]
        return {
            "step": STEP_SECONDS,
            "end": (last + 1) * STEP_SECONDS,
            "good": [each.good for each in row],
            "refused": [each.refused for each in row],
            "failed": [each.failed for each in row],
            "p50": [percentile(each.times, 0.5) for each in row],
            "p95": [percentile(each.times, 0.95) for each in row],
            "services": _services(row),
            "routes": _routes(row),
        }


def _services(row: list[Bucket]) -> dict[str, Any]:
    """By service: requests of each step, and of the whole time 5xx and the time that 95 % did not exceed."""
    names = sorted({name for each in row for name in each.services if each.services[name]})
    return {
        name: {
            "counts": [each.services[name] for each in row],
            "failed": sum(each.broken[name] for each in row),
            "p95": percentile(sum((each.service_times.get(name, Counter()) for each in row), Counter()), 0.95),
        }
        for name in names
    }


def _routes(row: list[Bucket]) -> list[dict[str, Any]]:
    """The busiest routes of the whole time."""
    together: dict[str, Route] = {}
    for each in row:
        for name, part in each.routes.items():
            route = together.setdefault(name, Route())
            route.count += part.count
            route.failed += part.failed
            route.times += part.times
    busiest = sorted(together.items(), key=lambda item: -item[1].count)[:ROUTES]
    return [
        {
            "route": name,
            "count": route.count,
            "failed": route.failed,
            "p50": percentile(route.times, 0.5),
            "p95": percentile(route.times, 0.95),
        }
        for name, route in busiest
    ]
