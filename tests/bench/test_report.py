"""RESULTS.md: verdicts, what is missed and why, and figures of the run alone."""

import math

import pytest

from bench import report
from bench.results import Cases
from tests.bench.conftest import Made


def test_a_verdict_names_the_ratio_and_its_range(cases: Cases) -> None:
    page = report.render(cases, {})

    assert "| list 50, 1000 × 200 | CPU of django_drf | ≤ 0.3 | 0.281 (0.250–0.312) | yes |" in page
    assert "| log-in | CPU of Argon2 alone | ≤ 1.15 | not measured | – |" in page


def test_what_is_missed_says_by_how_much_and_why(cases: Cases) -> None:
    page = report.render(cases, {"list-fastapi_asyncpg-1000x200": "It proves the log-in."})

    assert "to CPU of fastapi_asyncpg**: 2.50, which is 1.92 times the target. It proves the log-in." in page
    assert "Not explained yet." not in page
    assert "Not explained yet." in report.render(cases, {})


def test_tables_have_ratio_medians_and_round_trips(cases: Cases) -> None:
    page = report.render(cases, {})

    assert "### list, 1000 tenants × 200 projects" in page
    assert "| **dev_context** | 0.281 (0.250–0.312) | 0.750 | 1.00 | 0.100 |" in page
    assert "Round trips to PostgreSQL of one request: dev_context 3.00." in page
    assert "1. 2 cores (A <fast> one), 8 GiB, Linux 6.1, Python 3.11\n" in page
    assert "| list 1000x200 | 2026-01-01 00:00 | 0123456789ab | 0.5 | 1 |" in page


def test_nothing_measured_is_said() -> None:
    """Sections stand there all the same, so that links to them lead somewhere."""
    page = report.render({}, {})

    assert "## Streams" in page
    assert "Not measured yet." in page
    assert "Nothing is measured yet." in page
    assert "| yes |" not in page


def test_the_worst_round_of_a_fault_is_shown(cases: Cases) -> None:
    cases["list 1000x200"].rows["dev_context"][0]["bad"] = 7

    (row,) = [line for line in report.render(cases, {}).splitlines() if line.startswith("| **dev_context** |")]
    assert row.endswith("| 7.00 |")


def test_a_small_run_gives_no_verdict_and_says_so(cases: Cases) -> None:
    cases["list 1000x200"].small = True
    page = report.render(cases, {})

    assert "0.281 (0.250–0.312) | yes" not in page
    assert "no figure of it may be quoted" in page


def test_whoever_took_no_part_is_told(case: Made) -> None:
    rows = {"COPY into ZIP": [{"seconds": 1.0, "records_per_s": 2.0}], "fides": []}
    page = report.render({"export": case(rows, said={"without": {"fides": "No packages."}})}, {})

    assert "fides did not take part. No packages." in page
    assert "| COPY into ZIP | 1.00 | 1.00 | 2.00 | – |" in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.0123, "0.0123"), (0.5, "0.500"), (1.005, "1.00"), (99.5, "99.50"), (1234.5, "1234"), (math.inf, "–")],
)
def test_numbers(value: float, shown: str) -> None:
    assert report.number(value) == shown
