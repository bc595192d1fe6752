"""Ratios are taken round by round; results.json keeps what it is given."""

import math
from pathlib import Path

from bench import results
from bench.results import Case, Cases, Spread


def test_a_ratio_is_the_median_of_those_of_the_rounds(cases: Cases) -> None:
    found = cases["list 1000x200"].ratio("dev_context", "django_drf", "server_cpu", "postgres_cpu")

    assert found == Spread(0.28125, 0.25, 0.3125)


def test_a_single_round_has_no_range(cases: Cases) -> None:
    """Of a target that runs once, the first round of the base counts."""
    case = cases["list 1000x200"]
    case.rows["dev_context"] = case.rows["dev_context"][:1]

    assert case.ratio("dev_context", "django_drf", "server_cpu") == Spread(0.5 / 3, 0.5 / 3, 0.5 / 3)


def test_nothing_is_not_divided_by() -> None:
    case = Case({"mine": [{"seconds": 1.0}], "its": [{"seconds": 0.0}]})

    assert math.isinf(case.ratio("mine", "its", "seconds").middle)


def test_the_file_keeps_everything(cases: Cases, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    results.save(cases, file)

    assert results.load(file) == cases
    assert '"server_cpu": 3.0, "postgres_cpu": 1.0' in file.read_text()  # a round is a line
    assert list(tmp_path.iterdir()) == [file]


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    assert results.load(tmp_path / "results.json") == {}


def test_small_runs_do_not_count(cases: Cases) -> None:
    cases["list 1000x200"].small = True

    assert results.full(cases) == {}


def test_the_middle_is_the_median() -> None:
    assert Spread.of([1.0, 2.0, 9.0]) == Spread(2.0, 1.0, 9.0)
