"""The tables of docs/scale.md: each stands between two comments, and is written from results.json alone."""

import re
from pathlib import Path

from bench.machine import CHECKOUT
from bench.report import number, table
from bench.results import Cases, full
from bench.verdicts import CPU, DJANGO, OURS, SHAPES, ratio

FILE = CHECKOUT / "docs" / "scale.md"
BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
NOT = "–"


def requests(cases: Cases) -> str:
    """What a request costs: function, PostgreSQL, and to Django."""
    words = {"get": "read one project", "list": "list 50 projects", "create": "create a project, with its audit event"}
    rows = [_row(cases, f"{operation} {SHAPES[0]}", name) for operation, name in words.items()]
    rows += [_row(cases, "login", "log in"), _row(cases, "refresh", "refresh a log-in")]
    appended = cases.get("driver append 1 event 8")
    both = [number(appended.middle("pg8000", part)) for part in CPU] if appended else [NOT, NOT]
    rows.append(["append an event to a session, without HTTP", *both, NOT, NOT])
    return table(["", "function", "PostgreSQL", "to Django REST framework", "round trips"], rows)


def _row(cases: Cases, case: str, name: str) -> list[str]:
    found, base = cases.get(case), ratio(cases, case, OURS, DJANGO, *CPU)
    if found is None:
        return [name, NOT, NOT, NOT, NOT]
    trips = found.said.get("flights", {}).get(OURS)
    shown = [number(found.middle(OURS, part)) for part in CPU]
    return [name, *shown, number(base.middle) if base else NOT, number(trips) if trips else NOT]


def organization(cases: Cases) -> str:
    """What an organization costs as it grows."""
    chained = [("audit 1 organization", "50 writers in one organization, writes a second to those without a chain")]
    chained.append(("audit 200 organizations", "the same in 200 organizations"))
    rows = [[words, _ratio(cases, case, "with chain", "without chain", "rps")] for case, words in chained]
    rows.append(
        [
            "a writer at a chain of a million events, to one at a new chain",
            _ratio(cases, "audit history", "old chain", "new chain", "rps"),
        ]
    )
    held = cases.get("streams held")
    rows.append(["an open stream, KiB", number(held.middle(OURS, "kib_per_stream")) if held else NOT])
    rows.append(
        [
            "a delivery to 1,000 watchers, CPU to bare aiohttp's",
            _ratio(cases, "streams fan-out", OURS, "aiohttp_sse", "server_us", "postgres_us"),
        ]
    )
    rows.append(["its export, to COPY into ZIP", _ratio(cases, "export", OURS, "COPY into ZIP", "records_per_s")])
    rows.append(["an erasure, to a bare batched DELETE", _ratio(cases, "erasure", OURS, "batched DELETE", "seconds")])
    return table(["", "found"], rows)


def growth(cases: Cases) -> str:
    """CPU of a request at each size: function and PostgreSQL."""
    rows = []
    for what in ("tenants", "rows"):
        listed = cases.get(f"growth {what} list")
        for size in sorted(listed.rows, key=int) if listed else ():
            found = [cases.get(f"growth {what} {operation}") for operation in ("list", "get", "create")]
            cells = [number(case.middle(size, *CPU)) if case and case.has(size) else NOT for case in found]
            rows.append([f"{int(size):,} {what}", *cells])
    return table(["", "list 10", "get one", "create"], rows or [[NOT] * 4])


def _ratio(cases: Cases, case: str, target: str, base: str, *metrics: str) -> str:
    found = ratio(cases, case, target, base, *metrics)
    return number(found.middle) if found else NOT


TABLES = {"requests": requests, "organization": organization, "growth": growth}


def render(page: str, cases: Cases) -> str:
    """The page with all its tables anew; no small run is quoted."""
    cases = full(cases)
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](cases)}\n\n{found[3]}", page)


def prose(page: str) -> str:
    """What people wrote: the page without its tables."""
    return BLOCK.sub("", page)


def write(cases: Cases, file: Path = FILE) -> None:
    """Replace the tables."""
    file.write_text(render(file.read_text(), cases))
