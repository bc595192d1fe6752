"""The targets, and whether the last measurement met them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench.results import Case, Cases, Spread

OURS, DJANGO, ASYNCPG, BARE = "dev_context", "django_drf", "fastapi_asyncpg", "ff_hello"
ARGON, COPY, DELETE = "argon2 alone", "COPY into ZIP", "batched DELETE"
CPU = ("server_cpu", "postgres_cpu")
SHAPES = ("1000x200", "10000x20")
FLAT = 1.25
Measure = Callable[[Cases], Spread | None]


@dataclass(frozen=True)
class Target:
    """One line of the table. `least`: the figure is to be reached, else not to be passed."""

    id: str
    work: str
    of: str
    limit: float
    measure: Measure
    least: bool = False

    def met(self, found: Spread) -> bool:
        """Whether the median holds."""
        return found.middle >= self.limit if self.least else found.middle <= self.limit


def ratio(cases: Cases, case: str, target: str, base: str, *metrics: str) -> Spread | None:
    """Of two targets of a case, None where one of them was not measured."""
    found = cases.get(case)
    if found is None or not found.has(target) or not found.has(base):
        return None
    return found.ratio(target, base, *metrics)


def value(cases: Cases, case: str, target: str, metric: str) -> Spread | None:
    """A figure itself."""
    found = cases.get(case)
    return Spread.of(found.values(target, metric)) if found and found.has(target) else None


def slowest_start(cases: Cases, base: str) -> Spread | None:
    """Of the function that takes longest to its first answer."""
    found = cases.get("cold start")
    if found is None:
        return None
    return max((found.ratio(name, base, "seconds") for name in found.said["functions"]), key=lambda each: each.middle)


def eager(cases: Cases) -> Spread | None:
    """How many functions import gRPC before they are asked for anything."""
    found = cases.get("cold start")
    return Spread.of([float(len(found.said["eager grpc"]))]) if found else None


def refused(cases: Cases) -> Spread | None:
    """Parallel refreshes that were taken for a theft, or not answered: the worst round."""
    found = cases.get("parallel refresh")
    if found is None:
        return None
    return Spread.of([max(run["asked"] - run["answered"] for run in found.rows[OURS])])


def _ends(case: Case | None) -> tuple[str, str] | None:
    """The smallest and the largest size of a case whose targets are numbers."""
    sizes = sorted((name for name in case.rows if name.isdecimal()), key=int) if case else []
    return (sizes[0], sizes[-1]) if len(sizes) > 1 else None


def grown(cases: Cases, case: str, *metrics: str) -> Spread | None:
    """The largest size to the smallest."""
    ends = _ends(cases.get(case))
    return ratio(cases, case, ends[1], ends[0], *metrics) if ends else None


def _served() -> list[Target]:
    limits = {"list": (0.30, 1.3), "get": (0.35, 1.5), "create": (0.45, math.nan)}
    names = {"list": "list 50", "get": "get one", "create": "create with audit and idempotency key"}
    found = []
    for operation, bounds in limits.items():
        for shape in SHAPES:
            for base, limit in zip((DJANGO, ASYNCPG), bounds, strict=True):
                if not math.isnan(limit):
                    measure = partial(_cpu, f"{operation} {shape}", base)
                    work = f"{names[operation]}, {shape.replace('x', ' × ')}"
                    found.append(Target(f"{operation}-{base}-{shape}", work, f"CPU of {base}", limit, measure))
    return found


def _cpu(case: str, base: str, cases: Cases) -> Spread | None:
    return ratio(cases, case, OURS, base, *CPU)


def _flat() -> list[Target]:
    words = {"tenants": "10 to 100,000 tenants", "rows": "10 thousand to 10 million rows"}
    return [
        Target(
            f"growth-{what}-{operation}",
            f"{operation}, {words[what]}",
            "CPU at the smallest",
            FLAT,
            partial(lambda case, cases: grown(cases, case, *CPU), f"growth {what} {operation}"),
        )
        for what in words
        for operation in ("list", "get", "create")
    ]


TARGETS = [
    *_served(),
    Target("login", "log-in", "CPU of Argon2 alone", 1.15, partial(_cpu, "login", ARGON)),
    Target("refresh", "rotating refresh", "CPU of Django's", 0.5, partial(_cpu, "refresh", DJANGO)),
    Target("parallel-refresh", "200 refreshes at once: false reuse", "count", 0, refused),
    Target(
        "isolation-list",
        "signed context + RLS, list 50, 1 M rows",
        "p50 without",
        1.15,
        lambda cases: ratio(cases, "isolation list", "with", "without", "transaction"),
    ),
    Target(
        "isolation-get",
        "signed context + RLS, get one, 1 M rows",
        "p50 without",
        1.15,
        lambda cases: ratio(cases, "isolation get", "with", "without", "transaction"),
    ),
    Target(
        "cold-bare", "cold start, the slowest function", "bare function", 2, lambda cases: slowest_start(cases, BARE)
    ),
    Target("cold-django", "cold start, the slowest function", "Django", 1, lambda cases: slowest_start(cases, DJANGO)),
    Target("eager", "functions that import gRPC eagerly", "count", 0, eager),
    Target(
        "export-copy",
        "export, records a second",
        "COPY into ZIP",
        0.5,
        lambda cases: ratio(cases, "export", OURS, COPY, "records_per_s"),
        least=True,
    ),
    Target(
        "export-django",
        "export, records a second",
        "Django, tuned",
        2,
        lambda cases: ratio(cases, "export", OURS, "django_values", "records_per_s"),
        least=True,
    ),
    Target(
        "export-fides",
        "export, records a second",
        "Fides",
        40,
        lambda cases: ratio(cases, "export", OURS, "fides", "records_per_s"),
        least=True,
    ),
    Target(
        "export-memory",
        "peak memory of an export, 10 thousand to 2 million rows",
        "the smallest",
        FLAT,
        lambda cases: grown(cases, "export memory", "peak_exports-jobs"),
    ),
    Target(
        "erasure", "erasure", "bare batched DELETE", 3, lambda cases: ratio(cases, "erasure", OURS, DELETE, "seconds")
    ),
    Target(
        "audit",
        "audit append, 50 writers in one organization",
        "writes without the chain",
        0.7,
        lambda cases: ratio(cases, "audit 1 organization", "with chain", "without chain", "rps"),
        least=True,
    ),
    Target(
        "streams-memory",
        "an open stream",
        "KiB",
        25,
        lambda cases: value(cases, "streams held", OURS, "kib_per_stream"),
    ),
    Target(
        "streams-cpu",
        "a delivery, with the append and PostgreSQL",
        "CPU of bare aiohttp",
        1.3,
        lambda cases: ratio(cases, "streams fan-out", OURS, "aiohttp_sse", "server_us", "postgres_us"),
    ),
    Target(
        "streams-p99",
        "p99 of an event to 1,000 watchers",
        "bare aiohttp",
        1.5,
        lambda cases: ratio(cases, "streams fan-out", OURS, "aiohttp_sse", "p99_ms"),
    ),
    *_flat(),
]
