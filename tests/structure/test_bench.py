"""What the benches say stands in bench/results.json, and nowhere else in another form."""

import re
import tomllib

import pytest
import yaml

from bench import plots, report, results, scale
from bench.harness.site import PEERS
from bench.verdicts import TARGETS
from tests.structure.sources import in_git, read

FIGURE = re.compile(r"(?<![\d.])\d+\.\d+(?![\d.])")
QUOTING = [path for path in in_git() if path.suffix == ".md" and path.parts[0] == "docs" and "bench: " in read(path)]


def notes() -> dict[str, str]:
    return yaml.safe_load(report.NOTES.read_text()) or {}


def test_results_are_rendered() -> None:
    """`python -m bench.run --render` writes them anew."""
    cases = results.load()
    assert results.full(cases) == cases
    assert results.FILE.read_text() == results.written(cases)
    assert report.FILE.read_text() == report.render(cases, notes())


def test_plots_are_drawn_from_results() -> None:
    drawn = plots.drawings(results.load())
    assert {path.name: path.read_text() for path in plots.FOLDER.glob("*")} == drawn


def test_scale_quotes_what_was_measured() -> None:
    """Its tables are rendered; a figure with a point stands in no sentence beside them."""
    page = read("docs/scale.md")
    assert page == scale.render(page, results.load())
    assert {name for _, name, _ in scale.BLOCK.findall(page)} == set(scale.TABLES)
    said = scale.prose(page).split("## The connection budget")[0]
    assert FIGURE.findall(said) == []


def test_tables_stand_in_scale_alone() -> None:
    assert [path.as_posix() for path in QUOTING] == ["docs/scale.md"]


def test_notes_explain_targets_without_figures() -> None:
    assert set(notes()) - {target.id for target in TARGETS} == set()
    assert [text for text in notes().values() if FIGURE.search(text)] == []


@pytest.mark.parametrize("file", sorted(PEERS.glob("targets/**/*.toml")), ids=lambda file: file.stem)
def test_a_peer_is_there(file) -> None:
    spec = tomllib.loads(file.read_text())
    assert (file.parent / spec["cwd"]).is_dir()
    assert "{port}" in spec.get("base_url", "{port}")
