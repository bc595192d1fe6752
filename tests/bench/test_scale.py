"""docs/scale.md: its tables show figures of full runs, each where its name says."""

from bench import scale
from bench.results import Cases

PAGE = "Before.\n\n<!-- bench: requests -->\n\nold\n\n<!-- /bench -->\n\nAfter.\n"


def test_a_row_has_our_figures_and_the_ratio_to_django(cases: Cases) -> None:
    page = scale.render(PAGE, cases)

    assert "| list 50 projects | 0.750 | 1.00 | 0.281 | 3.00 |" in page
    assert "| read one project | – | – | – | – |" in page
    assert "old" not in page


def test_no_small_run_is_shown(cases: Cases) -> None:
    cases["list 1000x200"].small = True

    assert "| list 50 projects | – | – | – | – |" in scale.render(PAGE, cases)


def test_what_people_wrote_is_the_rest() -> None:
    assert scale.prose(PAGE) == "Before.\n\n\n\nAfter.\n"
