"""Made-up measurements: no test measures anything."""

from collections.abc import Callable
from typing import Any

import pytest

from bench.results import Case, Cases, Run

MACHINE = {"cores": 2, "cpu": "A <fast> one", "memory_gib": 8, "kernel": "6.1", "python": "3.11", "load": 0.5}
Made = Callable[..., Case]


@pytest.fixture
def case() -> Made:
    """A case of rows, measured some time."""

    def make(rows: dict[str, list[Run]], **more: Any) -> Case:
        return Case(rows, "2026-01-01 00:00", "0123456789ab", MACHINE, **more)

    return make


@pytest.fixture
def cases(case: Made) -> Cases:
    """A list that costs a quarter of Django's, measured in two rounds."""

    def rounds(*pairs: tuple[float, float]) -> list[Run]:
        others = {"valkey_cpu": 0.1, "rps": 10, "p50_ms": 1, "p99_ms": 2, "busiest": 0.5, "peak_rss": 9, "pss": 8}
        return [{"server_cpu": own, "postgres_cpu": database, "bad": 0, **others} for own, database in pairs]

    rows = {"django_drf": rounds((3.0, 1.0), (6.0, 2.0)), "dev_context": rounds((0.5, 0.5), (1.0, 1.5))}
    rows["fastapi_asyncpg"] = rounds((0.4, 0.2), (0.5, 0.25))
    return {"list 1000x200": case(rows, said={"flights": {"dev_context": 3.0}})}
